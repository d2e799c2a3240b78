"""The command line: `program` reads it and calls the `run(args, console)` of a command, which returns the exit status.

`tour`, `check`, `explain` and `train` are folders, `predict` and `figures` files; `terminal` has what commands share.
Nothing else in the package prints.
"""

from npattn.cli.program import main

__all__ = ["main"]
