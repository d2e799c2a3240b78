"""Compare named arrays with the expected names, shapes and dtypes, and list every difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from npattn._internal.checks.arrays import is_array, kind_of
from npattn._internal.checks.types import Params

#: The shape and dtype of one array, and those of arrays by name.
Spec: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]
Layout: TypeAlias = Mapping[str, Spec]


def layout_of(what: str, arrays: Params) -> Layout:
    """Return the shape and dtype of every array. Raise a TypeError that names an entry that is no array."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"{what}: expected a mapping of names to NumPy arrays, got {type(arrays).__name__}")
    layout = {}
    for name, array in arrays.items():
        if not is_array(array):
            raise TypeError(f"{what}: {name!r}: expected a NumPy array, got {kind_of(array)}")
        layout[name] = (array.shape, array.dtype)
    return layout


def differences(got: Layout, expected: Layout) -> str:
    """Return one line with every missing name, unexpected name, and wrong shape or dtype; "" if there is none.

    >>> f4 = np.dtype(np.float32)
    >>> differences({"W": ((2, 3), f4), "c": ((3,), f4)}, {"W": ((3, 2), f4), "b": ((3,), f4)})
    "missing 'b'; unexpected 'c'; 'W': expected float32 (3, 2), got float32 (2, 3)"
    """
    if got == expected:
        return ""
    missing = [f"missing {name!r}" for name in expected if name not in got]
    unexpected = [f"unexpected {name!r}" for name in got if name not in expected]
    changed = [
        f"{name!r}: expected {dtype} {shape}, got {got[name][1]} {got[name][0]}"
        for name, (shape, dtype) in expected.items()
        if name in got and got[name] != (shape, dtype)
    ]
    return "; ".join(missing + unexpected + changed)
