"""`npattn explain`: `topics` finds derivations and code in the source, `pages` the pages of npattn.learn.

`command` prints them.
"""
