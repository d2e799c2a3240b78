"""Reading arguments: errors of one line, and numbers that are in range when they arrive."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn


class UsageError(Exception):
    """The command line was not understood; `prog` is the command whose help explains it."""

    def __init__(self, message: str, prog: str | None = None) -> None:
        super().__init__(message)
        self.prog = prog


class Parser(argparse.ArgumentParser):
    """argparse's, but one that raises a `UsageError` instead of printing its whole usage and leaving."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Descriptions and examples keep their lines; an abbreviation might mean another option in a later release.
        fixed = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(*args, **kwargs | fixed)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.prog)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write --help and --version. argparse's own lets a full disk pass for success."""
        print(message, end="", file=file, flush=True)


def path(text: str) -> Path:
    """Read a path; an empty one, of a variable that is not set perhaps, would be the current folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return Path(text)


def whole(least: int) -> Callable[[str], int]:
    """Return the reader of a whole number of `least` or more."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of {least} or more, got {text!r}")
        return value

    return read


def number(low: float, below: float, *, without_low: bool = False) -> Callable[[str], float]:
    """Return the reader of a number from `low` (or just above it) to just below `below`."""
    wanted = f"{'above' if without_low else 'of at least'} {low:g}" + f" and below {below:g}" * (below < float("inf"))

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value < below or (without_low and value == low):
            raise argparse.ArgumentTypeError(f"expected a number {wanted}, got {text!r}")
        return value

    return read


def close_to(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Say which of the known names may have been meant; else what is to be said `otherwise`, or all of them.

    >>> close_to("layernorm", ["layer_norm", "softmax"]), close_to("?", ["v1", "v2"])
    ('did you mean layer_norm?', 'known are v1, v2')
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(near)}?" if near else otherwise or f"known are {', '.join(known)}"
