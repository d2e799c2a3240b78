"""A trace as text: each matrix with its shape and its code, and its gradient beside it, or below it."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npattn._internal.checks import Array
from npattn.learn.trace.recorder import Line

if TYPE_CHECKING:
    from npattn.learn.trace.value import Value

#: Columns of the text, and decimals of a number, unless others are asked for.
WIDTH, DIGITS = 80, 3

#: The most rows of a matrix, and the most matrices of one array, that are shown.
ROWS, MATRICES = 8, 4

#: Spaces before numbers, and between a matrix and its gradient.
INDENT, GAP = 2, 4

#: An array whose largest number is outside is written in units of a power of ten.
RANGE = 1e-2, 1e4

#: A gradient is rounding alone if it is at most so many eps of the largest one.
NOISE = 64

#: What a True stands for in a mask.
MASKS = ("mask", "pads", "seen")

#: A shape at the beginning of a comment.
SHAPE = r"\([^()]+\)"

LEGEND = (
    "dE is ∂L/∂E for the loss L = Σ dY ⊙ Y, with Y the output. Each gradient stands right of its matrix or below it. A "
    "name that is assigned or changed again has a number."
)


def text_of(values: Iterable[Value], width: int, digits: int) -> list[str]:
    """Return the lines of a text: the values in their order, with an empty line before each."""
    values = list(values)
    scale = max((top_of(value.gradient) for value in values if value.gradient is not None), default=0.0)
    return [line for value in values for line in ("", *beside(value, width, digits, scale))]


def beside(value: Value, width: int, digits: int, scale: float) -> list[str]:
    """Return a matrix on the left and its gradient on the right, or below if one of them is too wide."""
    name, column = value.name, width // 2
    is_alike = value.array is None or value.gradient is None or value.array.shape == value.gradient.shape
    axes = value.axes if is_alike else ()                     # version 7 has gradients of merged heads
    comments = [line.comment.partition("from here on ")[2] for line in value.gradient_lines if value.array is None]
    label = next(filter(None, [value.label, *comments]), f"d{name}")   # dE/√D_Q
    sides = (
        (name, value.array, value.axes, value.formula, value.lines, 0.0),
        (label, value.gradient, axes, value.gradient_formula, value.gradient_lines, scale),
    )
    left, right = (block(*side, room, digits) for side, room in zip(sides, (column - GAP, width - column), strict=True))
    if right and longest(left) <= column - GAP and longest(right) <= width - column:
        return [f"{a:{column}}{b}".rstrip() for a, b in itertools.zip_longest(left, right, fillvalue="")]
    left, right = (block(*side, width - GAP, digits) for side in sides)
    return [*left, *(" " * GAP + line for line in right)]


def longest(lines: Sequence[str]) -> int:
    return max(map(len, lines), default=0)


def block(
    name: str,
    array: Array | None,
    axes: Sequence[str],
    formula: str,
    lines: Sequence[Line],
    scale: float,
    width: int,
    digits: int,
) -> list[str]:
    """Return the name, the shape, the formula, the code and the numbers of an array; nothing for None."""
    if array is None:
        return []
    is_noise = array.dtype.kind == "f" and 0 < top_of(array) <= NOISE * np.finfo(array.dtype).eps * scale
    unit = 1.0 if is_noise else unit_of(first_numbers(array, width // (digits + 5)))   # the places of a number, about
    notes = [
        shape_text(array, axes),
        "0 but for rounding" if is_noise else row_sums(array),
        f"in units of {unit:g}" if unit != 1 else "",
        f"1 = {'may be read' if name in MASKS else 'True'}" if array.dtype == bool else "",
    ]
    code = [each for line in dict.fromkeys(lines) for each in code_lines(line, width)]   # one in a loop once
    numbers = stack_lines(array / unit if unit != 1 else array, width - INDENT, digits)
    head = ["  ".join(filter(None, [name, *notes])), formula]
    return [*filter(None, head), *code, *(" " * INDENT + line for line in numbers)]


def code_lines(line: Line, width: int) -> list[str]:
    """Return a statement and its comment, without the shape that a comment may begin with."""
    comment = re.sub(rf"^{SHAPE}(, {SHAPE})*\s*", "", line.comment)
    both = f"{line.code}  # {comment}"
    if not comment or len(both) <= width:
        return [both if comment else line.code]
    wrapped = textwrap.wrap(comment, width, initial_indent="  # ", subsequent_indent="  # ")
    return [line.code, *wrapped] if line.code else wrapped


def shape_text(array: Array, axes: Sequence[str]) -> str:
    """Return the shape of an array with the symbols of its last axes.

    >>> shape_text(np.zeros((2, 4, 3)), ("N_Q", "D_Q"))
    '(2, N_Q=4, D_Q=3)'
    """
    symbols = [""] * (array.ndim - len(axes)) + [f"{axis}=" * (not axis.isdigit()) for axis in axes]
    sizes = ", ".join(f"{symbol}{size}" for symbol, size in zip(symbols, array.shape, strict=True))
    return f"({sizes}{',' * (array.ndim == 1)})"


def row_sums(array: Array) -> str:
    """Say what the rows sum to if it is 1 or 0 for all of them, as for weights, and for gradients of scores."""
    if array.dtype.kind != "f" or not array.ndim or array.shape[-1] < 2 or (array == np.rint(array)).all():
        return ""
    sums, size = array.sum(-1), np.abs(array).sum(-1)         # real numbers: abs is safe here
    near = 1e2 * np.finfo(array.dtype).eps * size
    for total, text in ((0.0, "0"), (1.0, "1")):
        if (np.abs(sums - total) <= near).all():
            return f"rows sum to {text}"
    return "rows sum to 1, or are 0" if ((np.abs(sums - 1) <= near) | (size == 0)).all() else ""


def top_of(array: Array) -> float:
    """Return the largest size of its finite floating numbers; 0 if there are none."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0)) if array.dtype.kind == "f" else 0.0


def first_numbers(array: Array, columns: int) -> Array:
    """Return what a text shows of an array, when so many columns of it fit."""
    rows = np.atleast_2d(array)
    return rows.reshape(math.prod(rows.shape[:-2]), *rows.shape[-2:])[:MATRICES, :ROWS, :columns]


def unit_of(array: Array) -> float:
    """Return 1, or the power of ten that is the unit of very small or very large numbers."""
    top = top_of(array)
    return 1.0 if top == 0 or RANGE[0] <= top < RANGE[1] else 10.0 ** math.floor(math.log10(top))


def stack_lines(array: Array, width: int, digits: int) -> list[str]:
    """Return the numbers of an array: its matrices one below the other, each with its index along the other axes."""
    if array.ndim <= 2:
        return matrix_lines(np.atleast_2d(array), width, digits)
    lines = [
        line
        for index in itertools.islice(np.ndindex(array.shape[:-2]), MATRICES)
        for line in (f"[{', '.join(map(str, index))}]", *matrix_lines(array[index], width, digits))
    ]
    hidden = math.prod(array.shape[:-2]) - MATRICES
    return lines + [f"… {hidden} more matrices"] * (hidden > 0)


def matrix_lines(matrix: Array, width: int, digits: int) -> list[str]:
    """Return rows of numbers, aligned at the decimal points. What does not fit is cut, and the text says how much."""
    part = matrix[:ROWS, : width // 3 + 2]                    # a column takes 3 places or more, so these exceed a line
    columns = [aligned([number_text(x, digits) for x in column]) for column in part.T]
    ends = np.cumsum([2 + max(map(len, column), default=0) for column in columns])
    fitting = len(ends) if ends.max(initial=0) - 2 <= width else max(int((ends <= width).sum()), 1)
    cut = " …" * (fitting < len(ends))
    lines = ["  ".join(row).rstrip() + cut for row in zip(*columns[:fitting], strict=True)]
    hidden = {"rows": len(matrix) - len(lines), "columns": matrix.shape[1] - fitting}
    more = ", ".join(f"{n} more {what}" for what, n in hidden.items() if n)
    return [*lines, *([f"… {more}"] if more and lines else [])]


def aligned(texts: Sequence[str]) -> list[str]:
    """Pad numbers to one width, with the decimal points in one column.

    >>> aligned(["0.25", "-2", "10"])
    [' 0.25', '-2   ', '10   ']
    """
    halves = [text.partition(".") for text in texts]
    whole, part = (max((len(half[i]) for half in halves), default=0) for i in (0, 2))
    return [f"{a:>{whole}}{point}{b}".ljust(whole + part + (part > 0)) for a, point, b in halves]


def number_text(x: Any, digits: int) -> str:
    """Return a number with at most so many decimals; only 0 itself is written 0.

    >>> [number_text(np.float64(x), 3) for x in (0.25, 2, 0, -1e-7, np.nan)], number_text(np.True_, 3)
    (['0.25', '2', '0', '-0.000', 'nan'], '1')
    """
    if not isinstance(x, float | np.floating):
        return str(int(x))
    text = f"{x:.{digits}f}"
    if x == 0 or not math.isfinite(x):
        return "0" if x == 0 else str(float(x))
    return text.rstrip("0").rstrip(".") if float(text) and digits else text
