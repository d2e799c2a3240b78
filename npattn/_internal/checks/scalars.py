"""Checks of arguments that are not arrays: sizes, numbers, flags, words, seeds.

Most checks return the value as a Python type. NumPy's scalars are allowed too, but they cause trouble later: np.float64
promotes float32, products of np.int64 overflow silently, and JSON accepts neither.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

#: Limits of what a message shows: an integer of more bits is described, and longer text is cut.
BITS, LETTERS = 128, 60

REAL = (int, float, np.integer, np.floating)  # a tuple: a union would be made at every call


def is_real(value: object) -> TypeGuard[int | float | np.integer[Any] | np.floating[Any]]:
    """Return whether the value is a number of Python or NumPy. A bool and a time are none.

    NumPy has times among its integers. Other numbers, such as Fraction and Decimal, do not mix with NumPy's arrays: the
    caller converts them.
    """
    return isinstance(value, REAL) and not isinstance(value, (bool, np.timedelta64))


def check_integer(symbol: str, value: int) -> int:
    """Return the value as an int. Raise unless it is an integer of 64 bits, of Python or NumPy; a bool is none."""
    if not is_real(value) or not isinstance(value, int | np.integer):
        raise TypeError(f"{symbol}: expected an integer, got {shown(value)}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{symbol}: expected an integer of 64 bits, got {shown(value)}")
    return int(value)


def check_size(symbol: str, size: int, least: int = 0) -> int:
    """Return the size as an int. Raise unless it is an integer of `least` or more."""
    size = check_integer(symbol, size)
    if size < least:
        raise ValueError(f"{symbol}: expected {least} or more, got {size}")
    return size


def check_number(
    symbol: str, value: object, low: float = -math.inf, high: float = math.inf, ends: str = "[)"
) -> float:
    """Return the value as a float. Raise unless it is a real number in the interval from `low` to `high`.

    `ends` tells which ends are inside: [ and ] include an end, ( and ) exclude it.

    >>> check_number("p", np.float32(0.5), 0, 1)
    0.5
    >>> check_number("max_norm", 0, 0, ends="(]")
    Traceback (most recent call last):
    ValueError: max_norm: expected 0 < max_norm ≤ inf, got 0
    """
    if not is_real(value):
        raise TypeError(f"{symbol}: expected a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:                                     # an integer larger than every float
        number = math.inf if value > 0 else -math.inf
    least, most = ends[0] == "[", ends[1] == "]"
    if not (low < number < high or (least and number == low) or (most and number == high)):
        left, right = "≤" if least else "<", "≤" if most else "<"
        raise ValueError(f"{symbol}: expected {low:g} {left} {symbol} {right} {high:g}, got {shown(value)}")
    return number


@dataclass(frozen=True)
class Interval:
    """A check for `Shapes`: a number from `low` to `high`, with `ends` as in `check_number`."""

    low: float = -math.inf
    high: float = math.inf
    ends: str = "[)"
    optional: bool = False                                    # True allows None too

    def __call__(self, symbol: str, value: object) -> None:
        """Raise unless `value` is in the interval."""
        if value is not None or not self.optional:
            check_number(symbol, value, self.low, self.high, self.ends)


def check_flag(symbol: str, value: bool) -> bool:
    """Return the value as a bool. Raise a TypeError for anything else: it may be meant for another argument."""
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
    """Return the generator, or a new one that starts from the seed `rng`."""
    if isinstance(rng, np.random.Generator):
        return rng
    if not is_real(rng) or not isinstance(rng, int | np.integer):
        raise TypeError(f"{symbol}: expected a numpy.random.Generator or an integer seed, got {shown(rng)}")
    return np.random.default_rng(check_size(symbol, rng))


def check_dtype(symbol: str, dtype: Any) -> np.dtype[Any]:
    """Return the dtype. Raise a TypeError unless it is float32 or float64; None, NumPy's float64, is refused too."""
    try:
        given = None if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError):
        given = None
    if given is None or given not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"{symbol}: expected float32 or float64, got {given or shown(dtype)}")
    return given


def check_path(symbol: str, path: str | os.PathLike[str]) -> Path:
    """Return the path. Raise unless it can name a file; the number of an open file is no path."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{symbol}: expected the path of a file, got {shown(path)}")
    if not Path(path).name or "\0" in str(path):
        raise ValueError(f"{symbol}: expected the path of a file, got {shown(str(path))}")
    return Path(path)


def check_room(symbol: str, numbers: int, itemsize: int = 8) -> None:
    """Raise a ValueError unless this many numbers of `itemsize` bytes fit into the memory of the machine."""
    if itemsize * numbers > memory():
        raise ValueError(f"{symbol}: expected no more numbers than memory has room for, got {shown(numbers)}")


def memory() -> int:
    """Return the bytes of this machine's memory, or sys.maxsize where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):             # Windows, and systems without these names
        return sys.maxsize


def shown(value: object) -> str:
    """Return the text that shows a received value in a message of one line.

    >>> shown(np.float64(2.5)), shown(np.zeros((2, 3))), shown(10**400)
    ('2.5', 'an array of float64 (2, 3)', 'an integer of 1329 bits')
    """
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    if isinstance(value, np.generic) and not isinstance(value, np.timedelta64 | np.datetime64):   # else an integer
        value = value.item()
    if isinstance(value, int) and value.bit_length() > BITS:
        return f"an integer of {value.bit_length()} bits"
    text = " ".join(repr(value).split())
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"
