"""`npattn generate`: text that follows a prompt. `command` is the command, `stream` makes text of ids as they come."""
