"""`npattn trace`: `command` prints every matrix of a backward, `example` takes arguments from the docstrings."""
