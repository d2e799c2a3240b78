"""What commands share: reading arguments, writing to the terminal, saying what went wrong, text maps of attention."""
