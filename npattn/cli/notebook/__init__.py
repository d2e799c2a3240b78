"""`npattn notebook`: `climb` makes the cells from docstrings and sources, `words` has what these do not say.

`command` writes the file.
"""
