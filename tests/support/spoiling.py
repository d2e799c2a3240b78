"""Ways to spoil an argument of a right call, by the kind of the argument, and the outcome that each must have.

The outcome is one of four verdicts:

- `same`: only types or memory have changed. The result must equal that of the right call.
- `refused`: there must be an error.
- `fits`: the shapes decide.
- `either`: the value is unusual but may have a meaning. There must be a result without a warning, or an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array, shown
from support.layouts import LAYOUTS

Verdict = str


class Spoiling(NamedTuple):
    name: str
    spoil: Callable[[Any], Any]
    verdict: Verdict


class Subclass(np.ndarray):  # type: ignore[type-arg]
    """An array whose operators might be others."""


def spoilings(value: Any) -> list[Spoiling]:
    """Return every way to spoil an argument of this kind."""
    if isinstance(value, np.ndarray):
        return {"f": FLOATS, "i": IDS, "b": MASKS}[value.dtype.kind]
    if isinstance(value, Mapping):
        return MAPPINGS + [inside(key, one) for key in list(value)[:2] for one in spoilings(value[key])]
    for kind, ways in BY_TYPE.items():
        if isinstance(value, kind):
            return ways
    return OPTIONAL if value is None else OBJECTS


def read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def wide(array: Array, axis: int, change: int) -> Array:
    """Lengthen an axis by `change`, which may be negative."""
    return np.take(array, np.arange(array.shape[axis] + change) % max(array.shape[axis], 1), axis)


def always(verdict: Verdict, *values: Any) -> list[Spoiling]:
    return [Spoiling(shown(value), lambda _, value=value: value, verdict) for value in values]


def by(verdict: Verdict, **ways: Callable[[Any], Any]) -> list[Spoiling]:
    return [Spoiling(name, way, verdict) for name, way in ways.items()]


def to(verdict: Verdict, *dtypes: Any) -> list[Spoiling]:
    return [Spoiling(f"as {d}", lambda a, d=d: a.astype(d), verdict) for d in dtypes]


def inside(key: Any, one: Spoiling) -> Spoiling:
    """Spoil an entry of a mapping."""
    return Spoiling(f"{key}: {one.name}", lambda m: {**m, key: one.spoil(m[key])}, one.verdict)


#: Values that no argument accepts.
NONSENSE: list[Any] = [object(), {1, 2}, 2j, b"3", Ellipsis, np.str_("four"), np.datetime64("2026-01-01")]

#: Values that are no plain arrays.
NO_ARRAYS = by(
    "refused",
    masked=lambda a: np.ma.masked_array(a, np.zeros(a.shape, bool)),
    subclass=lambda a: a.view(Subclass),
    matrix=lambda a: np.asmatrix(a.reshape(len(a) if a.ndim else 1, -1)) if a.size else np.asmatrix(np.ones((2, 2))),
    list=lambda a: a.tolist() if a.ndim else [a.item()],
    tuple=lambda a: tuple(a) if a.ndim else (a,),
    objects=lambda a: a.astype(object),
) + always("refused", "text", 2.5, {}, *NONSENSE)

SAME_LAYOUTS = by(
    "same",
    **{layout.__name__: lambda a, layout=layout: layout(a) if a.ndim else a for layout in LAYOUTS},
    memmap=lambda a: a.copy().view(np.memmap),
)

SHAPES = by(
    "fits",
    one_more_axis=lambda a: a[None],
    a_batch_axis=lambda a: np.stack([a, a]),
    one_axis_less=lambda a: np.asarray(a[0]) if a.ndim and len(a) else a.reshape(*a.shape, 1),
    scalar=lambda a: np.asarray(a.flat[0]) if a.size else np.zeros((), a.dtype),
    flat=lambda a: a.ravel() if a.ndim != 1 else a[:, None],
    transposed_for_good=lambda a: a.T if a.ndim > 1 else a[None],
    longer=lambda a: wide(a, 0, 1) if a.ndim else a[None],
    wider=lambda a: wide(a, -1, 1) if a.ndim else a[None],
    shorter=lambda a: wide(a, 0, -1) if a.ndim else a[None],
    narrower=lambda a: wide(a, -1, -1) if a.ndim else a[None],
    empty=lambda a: a[:0] if a.ndim else a[None][:0],
    empty_rows=lambda a: a[..., :0] if a.ndim else a[None][:0],
    one_of_it=lambda a: a[:1] if a.ndim else a[None],
)

FLOATS = (
    SAME_LAYOUTS
    + by("same", read_only=read_only)
    + NO_ARRAYS
    + always("refused", None)
    + SHAPES
    + to("refused", np.int64, bool, np.float16, np.longdouble, np.complex64, "S8", "M8[s]")
    + to("either", np.float32, np.float64, np.complex128, ">f8")
)

MASKS = SAME_LAYOUTS + by("same", read_only=read_only) + NO_ARRAYS + SHAPES + by(
    "either", none=lambda a: None, dead=np.zeros_like, full=np.ones_like
) + to("refused", np.int64, np.uint8, float, np.float16, complex, "S1")  # fmt: skip

IDS = (
    SAME_LAYOUTS
    + by("same", read_only=read_only)
    + NO_ARRAYS
    + always("refused", None)
    + to("same", np.int8, np.int32, np.uint8, np.uint64, ">i4")
    + to("refused", float, np.float16, bool, complex, "S8", "M8[s]")
    + by("either", negative=lambda a: a - 30, huge=lambda a: a + 2**40, least=lambda a: a * 0 + np.iinfo(a.dtype).min)
    + by("either", **{one.name: one.spoil for one in SHAPES})
)

INTEGERS = (
    by("same", int64=np.int64, int32=np.int32, uint16=np.uint16)
    + always("refused", "text", [3], (3,), True, np.array(3), np.bool_(True), *NONSENSE)
    + always("either", None, 0, -1, 1, 7, 2.5, np.float32(3), float("nan"), float("inf"))
    + always("either", 10**12, 2**62, 2**63, -(10**30), 10**5000)
)

NUMBERS = (
    by("same", float64=np.float64)
    + always("refused", "0.1", [0.1], (0.1, 0.2), True, np.array(0.1), float("nan"), np.float32("nan"), *NONSENSE)
    + always("either", None, 0, -0.0, -0.1, 1, 1.0, 1e-300, 1e300, np.float16(0.5))
    + always("either", float("inf"), -float("inf"), 10**400, -(10**400), 10**5000)
)

FLAGS = by("same", bool_=np.bool_) + always("refused", "yes", 2, 0, 1.0, [True], np.array(True), *NONSENSE)
WORDS = always("refused", None, 3, "nonsense", "", ["all"], np.array(["a", "b"]), 2.5, object(), b"post")
GENERATORS = always("refused", "text", -1, 2.5, [1, 2], np.random.RandomState(0), np.random.default_rng, *NONSENSE)
FUNCTIONS = always("refused", None, 3, "text", [], {}, object())
PATHS = always("refused", None, 3, 0, True, 2.5, [], object(), "", "/", "a\0b") + always("either", "/missing/x.npz")
TUPLES = always("refused", None, 3, "text", object(), {}) + always("either", (), (1,), (0.5,) * 3, ("a", "b"), [2.5, 1])
MAPPINGS = always("refused", None, [], [("a", 1)], 3, "text", object()) + always("either", {}, {1: 2}) + by(
    "either", fewer=lambda m: dict(list(m.items())[1:]), more=lambda m: {**m, "more": np.ones(2)}
)  # fmt: skip
OPTIONAL = always("refused", "text", 3j, object(), [1, "a"], b"3")
OBJECTS = always("refused", None, 3, "text", (), {}, object(), (1, 2, 3))

BY_TYPE: dict[Any, list[Spoiling]] = {
    bool: FLAGS, int: INTEGERS, float: NUMBERS, np.random.Generator: GENERATORS, str: WORDS, Path: PATHS, tuple: TUPLES,
    FunctionType: FUNCTIONS,
}  # fmt: skip
