"""Parse arguments. An error is one line, and a number is within its range when a command receives it."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

T = TypeVar("T", int, float)

#: The help of an argument that `model_name` parses.
MODEL_HELP = "folder of a run (./g2p if its name is g2p), or g2p: the model in the package"


class UsageError(Exception):
    """An error in the command line. `prog` is the command whose help explains it; None is the command that runs."""

    def __init__(self, message: str, prog: str | None = None) -> None:
        super().__init__(message)
        self.prog = prog


class Parser(argparse.ArgumentParser):
    """A parser that raises a `UsageError`. argparse's own prints the whole usage and ends the process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Descriptions and examples keep their lines; an abbreviation might mean another option in a later release.
        fixed = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(*args, **kwargs | fixed)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.prog)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write --help and --version. argparse's own method ignores a full disk."""
        print(message, end="", file=file, flush=True)


def nonempty_path(text: str) -> Path:
    """Parse a path. An empty text, as an unset shell variable gives, would mean the current folder; it is refused."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return Path(text)


def model_name(text: str) -> str:
    """Parse what `npattn.load_model` takes. It stays a text: a path would make ./g2p, a folder, the model g2p."""
    nonempty_path(text)
    return text


def add_ensemble(parser: Parser) -> None:
    """Add --ensemble, which names models that choose together with RUN."""
    parser.add_argument(
        "--ensemble", metavar="RUN", type=model_name, action="append", default=[],
        help="another model that chooses with RUN by the mean of their probabilities; once for each model",
    )  # fmt: skip


def integer_from(least: int) -> Callable[[str], int]:
    """Return a function that parses a whole number of `least` or more."""
    return _parser(int, lambda value: value >= least, f"a whole number of {least} or more")


def number_between(low: float, high: float, *, without_low: bool = False) -> Callable[[str], float]:
    """Return a function that parses a number from `low` to below `high`; `without_low` excludes `low` too."""
    wanted = f"a number {'above' if without_low else 'of at least'} {low:g}"
    wanted += f" and below {high:g}" * (high < math.inf)
    return _parser(float, lambda value: low <= value < high and not (without_low and value == low), wanted)


def _parser(convert: Callable[[str], T], is_valid: Callable[[T], bool], wanted: str) -> Callable[[str], T]:
    def parse(text: str) -> T:
        with contextlib.suppress(ValueError):
            value = convert(text)
            if is_valid(value):
                return value
        raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}")

    return parse
