"""`npattn train`: `command` trains and tests, `options` are its arguments, `progress` shows how it goes.

`ranks` ends several processes together, `stopping` turns signals into a stop between two steps, `testing` prints the
scores of a finished run.
"""
