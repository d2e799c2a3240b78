"""`npattn check`: `command` checks and prints, `cases` lists every backward of the package, `own_pair` finds a user's."""
