"""`npattn train`: `command` trains and tests, `options` has its options, `progress` prints the table of a run.

`pairs` and `text` have what is said of data, model and results of the two kinds of tasks. `ranks` ends several
processes together, `stopping` turns a signal into a stop between two steps.
"""
