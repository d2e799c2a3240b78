"""What the command line does: one module for each command, and the plain text that they share.

`npattn.cli` reads the arguments and calls `run(args, console)` of a command, which returns the exit status. Nothing
else in the package prints.
"""
