"""Check the arguments that are no arrays: sizes, numbers, flags, words, seeds.

Each check returns what it has checked, as a value of Python's own. NumPy's scalars are taken wherever Python's are, but
an np.float64 would promote float32, products of np.int64 overflow silently, and JSON knows neither.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Numbers that are shown in full: beyond this an integer is said to be huge, and other values are cut.
DIGITS, LETTERS = 128, 60


def check_integer(symbol: str, value: int) -> int:
    """Return an integer of 64 bits, Python's or NumPy's; raise for anything else, True and False included."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{symbol}: expected an integer, got {shown(value)}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{symbol}: expected an integer of 64 bits, got {shown(value)}")
    return int(value)


def check_size(symbol: str, size: int, least: int = 0) -> int:
    """Return an integer of `least` or more, or raise."""
    size = check_integer(symbol, size)
    if size < least:
        raise ValueError(f"{symbol}: expected {least} or more, got {size}")
    return size


def check_number(
    symbol: str, value: object, low: float = -math.inf, high: float = math.inf, ends: str = "[)"
) -> float:
    """Return a real number of the interval, whose ends belong to it as [ and ] say, or not as ( and ) say; or raise.

    >>> check_number("p", np.float32(0.5), 0, 1)
    0.5
    >>> check_number("max_norm", 0, 0, ends="(]")
    Traceback (most recent call last):
    ValueError: max_norm: expected 0 < max_norm ≤ inf, got 0
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{symbol}: expected a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:                                     # an integer beyond all floats
        number = math.inf if value > 0 else -math.inf
    least, most = ends[0] == "[", ends[1] == "]"
    if not (low < number < high or (least and number == low) or (most and number == high)):
        left, right = "≤" if least else "<", "≤" if most else "<"
        raise ValueError(f"{symbol}: expected {low:g} {left} {symbol} {right} {high:g}, got {shown(value)}")
    return number


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`; an end belongs to them as [ and ] say, or not as ( and ) say."""

    low: float = -math.inf
    high: float = math.inf
    ends: str = "[)"
    optional: bool = False                                    # whether None is allowed too

    def __call__(self, symbol: str, value: object) -> None:
        """Raise unless `value` is one of them."""
        if value is not None or not self.optional:
            check_number(symbol, value, self.low, self.high, self.ends)


def check_flag(symbol: str, value: bool) -> bool:
    """Return True or False; anything else raises a TypeError, for it may have been meant for another argument."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{symbol}: expected True or False, got {shown(value)}")
    return bool(value)


def check_choice(symbol: str, value: str, choices: Sequence[str]) -> None:
    """Raise a ValueError unless `value` is one of the words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{symbol}: expected one of {', '.join(choices)}, got {shown(value)}")


def check_random(symbol: str, rng: np.random.Generator | None) -> None:
    """Raise a TypeError unless `rng` is a generator or None."""
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"{symbol}: expected a numpy.random.Generator or None, got {type(rng).__name__}")


def check_generator(symbol: str, rng: np.random.Generator | int) -> np.random.Generator:
    """Return a generator, or one that starts from a seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer):
        raise TypeError(f"{symbol}: expected a numpy.random.Generator or an integer seed, got {shown(rng)}")
    return np.random.default_rng(check_size(symbol, rng))


def check_dtype(symbol: str, dtype: Any) -> np.dtype[Any]:
    """Return the dtype that is meant; raise a TypeError unless it is float32 or float64. None would mean float64."""
    try:
        given = None if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError):
        given = None
    if given is None or given not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"{symbol}: expected float32 or float64, got {given or shown(dtype)}")
    return given


def check_path(symbol: str, path: str | os.PathLike[str]) -> Path:
    """Return the path of a file; raise for what is none, such as the number of an open file."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{symbol}: expected the path of a file, got {shown(path)}")
    if not Path(path).name or "\0" in str(path):
        raise ValueError(f"{symbol}: expected the path of a file, got {shown(str(path))}")
    return Path(path)


def check_room(symbol: str, numbers: int, itemsize: int = 8) -> None:
    """Raise a ValueError unless memory has room for so many numbers."""
    if itemsize * numbers > memory():
        raise ValueError(f"{symbol}: expected no more numbers than memory has room for, got {shown(numbers)}")


@functools.cache
def memory() -> int:
    """The bytes of this machine's memory, or of all addresses where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):             # Windows; a system without these names
        return sys.maxsize


def shown(value: object) -> str:
    """What was received, in a few words: messages are one line.

    >>> shown(np.float64(2.5)), shown(np.zeros((2, 3))), shown(10**400)
    ('2.5', 'an array of float64 (2, 3)', 'an integer of 1329 bits')
    """
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and value.bit_length() > DIGITS:
        return f"an integer of {value.bit_length()} bits"
    text = " ".join(repr(value).split())
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"
