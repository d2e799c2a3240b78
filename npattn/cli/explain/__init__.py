"""`npattn explain`: `topics` finds derivations and code in the source, `command` prints them."""
