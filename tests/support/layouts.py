"""Layouts in memory: functions that return an array with the same numbers in another layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from npattn._internal.checks import Array
from support.calls import arrays


def freeze(tree: Any) -> None:
    for array in arrays(tree):
        array.flags.writeable = False


def fortran(array: Array) -> Array:
    return np.asfortranarray(array)


def reversed_twice(array: Array) -> Array:
    """The strides of all axes are negative."""
    flip = (slice(None, None, -1),) * array.ndim
    return array[flip].copy()[flip]


def every_other(array: Array) -> Array:
    """A slice with gaps on every axis. The numbers in the gaps must not be read."""
    wide = np.full([2 * n for n in array.shape], array.dtype.type(77 if array.dtype.kind != "b" else 1))
    sparse = wide[(slice(None, None, 2),) * array.ndim]
    sparse[...] = array
    return sparse


def transposed(array: Array) -> Array:
    """The last two axes are swapped in memory."""
    return array.swapaxes(-1, -2).copy().swapaxes(-1, -2) if array.ndim > 1 else array


LAYOUTS = (fortran, reversed_twice, every_other, transposed)
