"""Compare named arrays with the names, shapes and dtypes that were expected; report all that differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from npattn._internal.checks.arrays import is_array, kind_of
from npattn._internal.checks.types import Params

#: What an array is before anyone reads its numbers: its shape and its dtype.
Spec: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]
Layout: TypeAlias = Mapping[str, Spec]


def layout_of(what: str, arrays: Params) -> Layout:
    """Return the shape and dtype of every array; raise a TypeError that names the entry that is none."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"{what}: expected a mapping of names to NumPy arrays, got {type(arrays).__name__}")
    layout = {}
    for name, array in arrays.items():
        if not is_array(array):
            raise TypeError(f"{what}: {name!r}: expected a NumPy array, got {kind_of(array)}")
        layout[name] = (array.shape, array.dtype)
    return layout


def differences(got: Layout, expected: Layout) -> str:
    """Name every missing, unexpected and misshaped entry in one line; the empty string means that they agree.

    >>> f4 = np.dtype(np.float32)
    >>> differences({"W": ((2, 3), f4), "c": ((3,), f4)}, {"W": ((3, 2), f4), "b": ((3,), f4)})
    "missing 'b'; unexpected 'c'; 'W': expected float32 (3, 2), got float32 (2, 3)"
    """
    if got == expected:
        return ""
    found = [f"missing {name!r}" for name in expected if name not in got]
    found += [f"unexpected {name!r}" for name in got if name not in expected]
    for name, (shape, dtype) in expected.items():
        if name in got and got[name] != (shape, dtype):
            wrong_shape, wrong_dtype = got[name]
            found.append(f"{name!r}: expected {dtype} {shape}, got {wrong_dtype} {wrong_shape}")
    return "; ".join(found)
