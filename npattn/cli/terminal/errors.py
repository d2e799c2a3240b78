"""Report an error in one line."""

from __future__ import annotations

import contextlib
import sys
import traceback

from npattn import GradientError
from npattn.cli.terminal.console import printable
from npattn.cli.terminal.suggestions import command_line

#: Exit statuses: of an error, and of Ctrl-C (128 + SIGINT, as shells count).
FAILURE, INTERRUPTED = 1, 130


def print_error(message: str, status: int, debug: bool) -> int:
    """Write an error to standard error, in one line unless `debug`, and return the status."""
    with contextlib.suppress(OSError):                        # without standard error, the status alone reports it
        if debug:
            traceback.print_exc()
        print_message(" ".join(message.split()))
    return status


def print_message(text: str) -> None:
    """Write a line about what happened to standard error."""
    print(f"npattn: {printable(text)}", file=sys.stderr, flush=True)


def error_message(error: BaseException) -> str:
    """Return the text of an error; for kinds of errors that npattn does not raise itself, the kind stands before it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, GradientError):
        wrong = [argument.name for argument in error.report.arguments if not argument.ok]
        return f"{error.report.title}: wrong gradient of {', '.join(wrong)} ({command_line('check')} shows more)"
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory"
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    if isinstance(error, ValueError | TypeError | IndexError | ArithmeticError | OSError | ImportError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"
