"""Numbers that remember how they were made, and arrays of them.

With such arrays in place of arrays of floating numbers, `Q @ K.mT` gives for each entry the sum of products that it is.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.layers.gelu import cumulative
from npattn.layers.silu import sigmoid

#: The maximum of a row, and how large it must be for exp to need it.
TOP, MODERATE = "max of ", 500.0


class Number:
    """A number and how it was made.

    - sign: what made it: an operator, the name of a function, sum, dot, or leaf for a number that has a name.
    - parts: numbers and symbols that it is made of; a place and an index for a leaf.
    """

    __slots__ = ("_value", "parts", "sign")

    def __init__(self, sign: str, parts: Sequence[Any], value: float | None = None) -> None:
        self.sign, self.parts, self._value = sign, parts, value

    @property
    def value(self) -> float:
        """What it is, computed from its parts."""
        if self._value is None:
            values = [*map(value_of, self.terms)]             # a dot product becomes a sum here
            self._value = COMPUTED[self.sign](*values)
        return self._value

    @property
    def terms(self) -> list[Any]:
        """The numbers that it is made of; a dot product is a sum of products. Terms of 0 are left out."""
        if self.sign == "dot":
            products = (product(a, b) for a, b in zip(*self.parts, strict=True))
            self.sign, self.parts = "sum", [each for each in products if not is_number(each, 0)]
        return list(self.parts)

    def __add__(self, other: Any) -> Any:
        return self if is_number(other, 0) else made("+", self, other)

    def __radd__(self, other: Any) -> Any:
        return self if is_number(other, 0) else made("+", other, self)

    def __sub__(self, other: Any) -> Any:
        return self if is_number(other, 0) or cancels(other) else made("−", self, other)

    def __rsub__(self, other: Any) -> Any:
        if is_number(other, -math.inf) or cancels(self):
            return other
        return made("neg", self) if is_number(other, 0) else made("−", other, self)

    def __mul__(self, other: Any) -> Any:
        return product(self, other)

    def __rmul__(self, other: Any) -> Any:
        return product(other, self)

    def __truediv__(self, other: Any) -> Any:
        return quotient(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return quotient(other, self)

    def __pow__(self, other: Any) -> Any:
        return made("power", self, other)

    def __neg__(self) -> Any:
        return made("neg", self)

    def conjugate(self) -> Any:
        return self

    def __float__(self) -> float:
        return self.value

    def __bool__(self) -> bool:
        return bool(self.value)

    def __lt__(self, other: Any) -> bool:
        return self.value < value_of(other)

    def __le__(self, other: Any) -> bool:
        return self.value <= value_of(other)

    def __gt__(self, other: Any) -> bool:
        return self.value > value_of(other)

    def __ge__(self, other: Any) -> bool:
        return self.value >= value_of(other)

    def __eq__(self, other: Any) -> bool:
        return self.value == value_of(other)

    __hash__ = object.__hash__


def total(*terms: float) -> float:
    return math.fsum(terms)


def exponential(x: float) -> float:
    return float(np.exp(x))


#: How each sign is computed.
COMPUTED: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "−": operator.sub,
    "·": operator.mul,
    "/": operator.truediv,
    "power": operator.pow,
    "neg": operator.neg,
    "sum": total,
    "exp": exponential,
    "log": math.log,
    "√": math.sqrt,
    "tanh": math.tanh,
    "σ": lambda x: float(sigmoid(np.array(x))),
    "Φ": lambda x: float(cumulative(np.array(x), "none")),
    "Φ̃": lambda x: float(cumulative(np.array(x), "tanh")),
    "max": max,
    TOP: lambda *numbers: max(numbers),                       # of one number too
    "[> 0]": lambda x: float(x > 0),
}

#: Which sign a function of NumPy is.
SIGNS = {
    np.exp: "exp", np.log: "log", np.sqrt: "√", np.tanh: "tanh", np.negative: "neg",
}  # fmt: skip


def value_of(number: Any) -> float:
    return number.value if isinstance(number, Number) else float(number)


def cancels(number: Any) -> bool:
    """Whether it is the maximum of a row that softmax subtracts only to keep exp from overflowing."""
    return isinstance(number, Number) and number.sign == TOP and abs(number.value) <= MODERATE


def is_number(number: Any, wanted: float) -> bool:
    """Whether it is a plain number, no symbol, and this one."""
    return not isinstance(number, Number) and bool(number == wanted)


def made(sign: str, *parts: Any) -> Any:
    """Return a symbol; a plain number if its parts are plain numbers."""
    if any(isinstance(part, Number) for part in parts):
        return Number(sign, parts)
    return COMPUTED[sign](*map(float, parts))


def product(a: Any, b: Any) -> Any:
    """Return a · b, where 1 · b is b, 0 · b is 0, a · a is a² and a · (1/b) is a/b."""
    for one, other in ((a, b), (b, a)):
        if is_number(one, 1):
            return other
        if is_number(one, 0):
            return 0
    if a is b and isinstance(a, Number):
        return made("power", a, 2)
    if isinstance(b, Number) and b.sign == "/" and is_number(b.parts[0], 1):
        return made("/", a, b.parts[1])
    return made("·", a, b)


def quotient(a: Any, b: Any) -> Any:
    """Return a/b, where a/1 is a and 0/b is 0."""
    if is_number(b, 1) or (is_number(a, 0) and isinstance(b, Number)):
        return a
    return made("/", a, b)


def greater(a: Any, b: Any) -> Any:
    """Return max(a, b). A plain number that is only there to guard against overflow is left out."""
    if is_number(a, 0) or is_number(b, 0):
        return made("max", 0, b if is_number(a, 0) else a)
    return a if value_of(a) >= value_of(b) else b


def less(a: Any, b: Any) -> Any:
    return a if value_of(a) <= value_of(b) else b


#: The most entries of an array that are written as formulas. A larger product is no array of symbols.
MOST = 5000


class Symbols(np.ndarray[Any, Any]):
    """An array of numbers and symbols. A product of matrices is written out only where it is asked for."""

    @property                                                 # type: ignore[misc]
    def real(self) -> Any:
        return self

    def conj(self) -> Any:
        return self

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        arrays = [np.asarray(each, object if isinstance(each, Number) else None) for each in inputs]
        made_by = getattr(self, f"_{ufunc.__name__}_{method}", None)
        if ufunc in ENTRYWISE and method == "__call__":
            found = np.frompyfunc(ENTRYWISE[ufunc], len(arrays), 1)(*(each.astype(object) for each in arrays))
        elif made_by is not None:
            found = made_by(*arrays, **kwargs)
        else:
            found = getattr(ufunc, method)(*arrays, **kwargs)
        if out is not None and out[0] is not None:
            np.asarray(out[0])[...] = found
            return out[0]
        return found.view(Symbols) if isinstance(found, np.ndarray) and found.dtype == object else found

    def _matmul___call__(self, a: Array, b: Array) -> Array:
        rows = a[None] if a.ndim == 1 else a
        columns = b[:, None] if b.ndim == 1 else b
        lead = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        if math.prod(lead) * rows.shape[-2] * columns.shape[-1] > MOST:
            return np.full((*lead, rows.shape[-2], columns.shape[-1]), np.nan)
        rows = np.broadcast_to(rows, lead + rows.shape[-2:]).astype(object)         # copies, as arrays are changed
        columns = np.broadcast_to(columns, lead + columns.shape[-2:]).swapaxes(-1, -2).astype(object)
        found = np.empty((*lead, rows.shape[-2], columns.shape[-2]), object)
        for index in np.ndindex(*lead):
            left, right = list(rows[index]), list(columns[index])
            for i, row in enumerate(left):
                for j, column in enumerate(right):
                    found[(*index, i, j)] = dot(row, column)
        return found[(..., *([slice(None)] if a.ndim > 1 else [0]), *([slice(None)] if b.ndim > 1 else [0]))]

    def _greater___call__(self, a: Array, b: Array) -> Array:
        if b.ndim or is_number(b[()], 0):                     # a slope that is 1 or 0
            return np.frompyfunc(above, 2, 1)(a, b)
        return np.greater(a, b).astype(bool)

    def _isnan___call__(self, a: Array) -> Array:
        return np.isnan(numbers_of(a))

    def _vecdot___call__(self, a: Array, b: Array) -> Array:
        a, b = (each.astype(object) for each in np.broadcast_arrays(a, b))
        found = np.empty(a.shape[:-1], object)
        for index in np.ndindex(*found.shape):
            found[index] = dot(a[index], b[index])
        return found

    def _add_reduce(self, a: Array, axis: Any = 0, dtype: Any = None, keepdims: bool = False, **kwargs: Any) -> Any:
        axes = tuple(range(a.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        axes = tuple(each % a.ndim for each in axes)
        kept = [each for each in range(a.ndim) if each not in axes]
        moved = a.transpose(*kept, *axes)
        moved = moved.reshape(*(a.shape[each] for each in kept), -1) if moved.size else moved
        found = np.empty(moved.shape[: len(kept)], object)
        for index in np.ndindex(*found.shape):
            found[index] = added(moved[index].ravel())
        if keepdims:
            found = found.reshape([1 if i in axes else size for i, size in enumerate(a.shape)])
        return found if found.ndim else found[()]


#: What NumPy's functions do with each entry.
ENTRYWISE: dict[Any, Callable[..., Any]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: lambda a, b: product(a, b),
    np.divide: lambda a, b: quotient(a, b),
    np.power: lambda a, b: made("power", a, b),
    np.maximum: greater,
    np.minimum: less,
    np.clip: lambda x, low, high: less(greater(x, low), high),
    **{function: partial(made, sign) for function, sign in SIGNS.items()},
}


def above(a: Any, b: Any) -> Any:
    """Return 1 where a > b, else 0, as a symbol if b is 0."""
    return made("[> 0]", a) if is_number(b, 0) else value_of(a) > value_of(b)


def numbers_of(array: Any) -> Array:
    """Return the values of an array of symbols; None counts as NaN."""
    found = np.asarray(array)
    flat = [math.nan if each is None else value_of(each) for each in found.ravel()] if found.dtype == object else found
    return np.asarray(flat, np.float64).reshape(found.shape)


def dot(row: Any, column: Any) -> Any:
    """Return Σ row · column, a plain number if there is no symbol."""
    if any(isinstance(each, Number) for pair in zip(row, column, strict=True) for each in pair):
        return Number("dot", (row, column))
    return float(sum(a * b for a, b in zip(row, column, strict=True)))


def added(terms: Iterable[Any]) -> Any:
    """Return Σ terms without plain zeros."""
    kept = [each for each in terms if not is_number(each, 0)]
    return Number("sum", kept) if len(kept) > 1 else kept[0] if kept else 0
