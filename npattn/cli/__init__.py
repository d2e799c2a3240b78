"""The command line. `program` parses it and calls `run(args, console)` of the command, which returns the exit status.

The commands `tour`, `check`, `explain` and `train` are folders, `predict` and `figures` are files. `terminal` has what
the commands share. Nothing else in the package prints.
"""

from npattn.cli.program import main

__all__ = ["main"]
