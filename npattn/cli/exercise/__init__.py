"""`npattn exercise`: `command` lists the exercises, writes starters, checks files, and prints hints and solutions."""
