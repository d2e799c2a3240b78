"""`npattn train`: `command` trains and tests, `options` has its options, `progress` prints the table of a run.

`ranks` ends several processes together, `stopping` turns a signal into a stop between two steps, `testing` prints the
scores of a finished run.
"""
