"""`npattn conform`: judge anybody's attention, or another layer, with the cases of npattn.conformance.

`command` parses the options and prints the report. What a case is and how far an answer may be off is not here but in
npattn.conformance.
"""
