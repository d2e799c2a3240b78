"""Say in one line what went wrong."""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path

from npattn import GradientError
from npattn.cli.terminal.console import visible


def complain(message: str, status: int, debug: bool) -> int:
    """Write an error to standard error, in one line unless `debug`, and return the status."""
    with contextlib.suppress(OSError):                        # if standard error fails too, the status has to do
        if debug:
            traceback.print_exc()
        print(f"npattn: {visible(' '.join(message.split()))}", file=sys.stderr, flush=True)
    return status


def sentence(error: BaseException) -> str:
    """Say what went wrong: the message of an error that was written for people, with its kind for others."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, GradientError):
        wrong = [argument.name for argument in error.report.arguments if not argument.ok]
        return f"{error.report.title}: wrong gradient of {', '.join(wrong)} ({program()} check shows more)"
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory"
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    if isinstance(error, ValueError | TypeError | IndexError | ArithmeticError | OSError | ImportError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"


def program() -> str:
    """Return what the user called, so that the commands we suggest can be copied."""
    return "python -m npattn" if Path(sys.argv[0]).parts[-2:] == ("npattn", "__main__.py") else "npattn"
