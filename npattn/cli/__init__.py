"""The command line. `program` parses it and calls `run(args, console)` of the command, which returns the exit status.

Each command is a folder or, as `predict`, `evaluate` and `figures`, a file. `terminal` has what the commands share.
Nothing else in the package prints.
"""

from npattn.cli.program import main

__all__ = ["main"]
