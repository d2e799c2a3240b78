"""`npattn` alone: `command` is the tour, `versions` shows the seven versions on the sentence of `example`."""
