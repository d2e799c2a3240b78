"""`npattn check`: `command` checks and prints, `cases` has every backward of the package, `own_pair` the user's."""
