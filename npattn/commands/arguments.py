"""Reading arguments: errors of one line, and numbers that are in range when they arrive."""

from __future__ import annotations

import argparse
from collections.abc import Callable
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
