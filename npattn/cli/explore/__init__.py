"""`npattn explore`: `command` serves the page of `npattn.learn.explore`, or writes it as one file."""
