"""`npattn` without a command: `command` is the tour, `versions` shows the seven versions, `example` the sentence."""
