"""Formulas in which every matrix is a rectangle of its size, so the reader sees which axes meet in a product."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from npattn.plot import palette_of, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# All lengths are in cells: a matrix of 3 rows and 4 columns is 3 cells high and 4 wide.

#: Space above a matrix, for the name of its columns, below it, and beside operators.
ABOVE, BELOW, BESIDE = 1.8, 0.5, 0.5

#: Width of a letter in an operator, and in the name of an axis.
LETTER, AXIS_LETTER = 0.8, 0.45

#: Thickness of a vector: enough for its name.
THICKNESS = 1.7


class Matrix(NamedTuple):
    """A matrix of a formula: its name, the symbols of its axes ("1" for a vector), and whether it is new."""

    name: str
    rows: str
    columns: str
    new: bool


class Operator(NamedTuple):
    """An operator or a function between matrices."""

    text: str
    new: bool


def read_formula(text: str) -> list[Matrix | Operator]:
    """Read a formula: matrices ``name:rows,columns`` and operators with spaces between them.

    ``*`` before a part marks it as new. ``~`` is a space that is drawn.

    >>> read_formula("y:1,D_X = *a:1,N_X X:N_X,D_X")[1:3]
    [Operator(text='=', new=False), Matrix(name='a', rows='1', columns='N_X', new=True)]
    """
    parts: list[Matrix | Operator] = []
    for word in text.split():
        new, word = word.startswith("*"), word.removeprefix("*")
        matrix = re.fullmatch(r"([^:]+):([^,]+),([^,]+)", word)
        parts.append(Matrix(*matrix.groups(), new) if matrix else Operator(word.replace("~", " "), new))
    return parts


def matrix_formulas(
    lines: Sequence[str],
    sizes: Mapping[str, float],
    *,
    cells: float | None = None,
    ax: Axes | None = None,
    hidden: Mapping[str, np.ndarray] | None = None,
) -> Axes:
    """Draw formulas, one below the other. What is new has the second colour of the palette.

    - lines: formulas as `read_formula` reads them.
    - sizes: the number of cells of each axis.
    - cells: the width of the drawing; None takes that of the longest formula.
    - ax: the Axes to draw into; None makes a new figure.
    - hidden: boolean arrays by the name of a matrix; cells that are True there are grey.

    Raises KeyError for an axis without a size, ModuleNotFoundError when matplotlib is missing.

    >>> ax = matrix_formulas(["K:N_X,D_Q = *W:N_X,D_Q"], {"N_X": 3, "D_Q": 2})
    >>> [text.get_text() for text in ax.texts][:3]
    ['$K$', '$D_{Q}$', '$N_{X}$']
    """
    ax = ax or panels(1, 6.0, 1.2 * len(lines))[0]
    sizes = {**sizes, "1": THICKNESS}
    y, widest = 0.0, 0.0
    for line in lines:
        parts = read_formula(line)
        height = max(sizes[part.rows] for part in parts if isinstance(part, Matrix))
        middle, x = y - ABOVE - height / 2, 0.0
        for part in parts:
            if isinstance(part, Matrix):
                masked = (hidden or {}).get(part.name)
                x = _draw_matrix(ax, part, sizes[part.rows], sizes[part.columns], x, middle, masked)
            else:
                x = _draw_operator(ax, part, x, middle)
        y -= ABOVE + height + BELOW
        widest = max(widest, x)
    ax.set(xlim=(0, cells or widest), ylim=(y, 0), aspect="equal")
    ax.set_anchor("NW")
    ax.set_axis_off()
    return ax


def formula_height(lines: Sequence[str], sizes: Mapping[str, float]) -> float:
    """Return the height in cells of what `matrix_formulas` draws. Raises KeyError for an axis without a size.

    >>> formula_height(["K:N_X,D_Q"], {"N_X": 3, "D_Q": 2}) == 3 + ABOVE + BELOW
    True
    """
    sizes = {**sizes, "1": THICKNESS}
    formulas = [[part for part in read_formula(line) if isinstance(part, Matrix)] for line in lines]
    return sum(ABOVE + BELOW + max(sizes[matrix.rows] for matrix in formula) for formula in formulas)


def _draw_matrix(
    ax: Axes, matrix: Matrix, rows: float, columns: float, x: float, middle: float, hidden: np.ndarray | None = None
) -> float:
    """Draw a matrix with its names, from x to the right, and return the x where it ends."""
    palette = palette_of(ax)
    margin = 0.8 + AXIS_LETTER * len(matrix.rows) if matrix.rows != "1" else BESIDE
    left, right, top, bottom = x + margin, x + margin + columns, middle + rows / 2, middle - rows / 2
    colour = palette.colours[1 if matrix.new else 0]
    corners = ([left, right, right, left], [top, top, bottom, bottom])
    ax.fill(*corners, facecolor=colour, alpha=0.3 if matrix.new else 0.12, linewidth=0)
    for i, j in np.argwhere([[]] if hidden is None else hidden):
        square = ([left + j, left + j + 1, left + j + 1, left + j], [top - i, top - i, top - i - 1, top - i - 1])
        ax.fill(*square, facecolor=palette.faint, alpha=0.6, linewidth=0)
    thin: dict[str, Any] = {"color": colour, "alpha": 0.25, "linewidth": 0.5}
    centred: dict[str, Any] = {"color": palette.ink, "ha": "center", "va": "center"}
    if matrix.rows != "1":
        ax.hlines([top - i for i in range(1, round(rows))], left, right, **thin)
    if matrix.columns != "1":
        ax.vlines([left + j for j in range(1, round(columns))], bottom, top, **thin)
    ax.fill(*corners, facecolor="none", edgecolor=colour, linewidth=1.5 if matrix.new else 0.9)
    fontsize = 8 if len(matrix.name) > 2 * columns else 10
    ax.text(left + columns / 2, middle, mathematics(matrix.name), fontsize=fontsize, **centred)
    if matrix.columns != "1":
        ax.text(left + columns / 2, top + 0.85, mathematics(matrix.columns), fontsize=8, **centred)
    if matrix.rows != "1":
        ax.text(left - margin / 2, middle, mathematics(matrix.rows), fontsize=8, **centred)
    return right + 0.25


def _draw_operator(ax: Axes, operator: Operator, x: float, middle: float) -> float:
    """Write an operator from x to the right, and return the x where it ends."""
    palette = palette_of(ax)
    width = LETTER * len(operator.text.replace("_", "")) + 2 * BESIDE
    colour = palette.colours[1] if operator.new else palette.ink
    weight = "bold" if operator.new else "normal"
    ax.text(
        x + width / 2, middle, mathematics(operator.text), color=colour, weight=weight, ha="center", va="center",
        fontsize=18 if operator.text == "·" else 10,
    )  # fmt: skip
    return x + width


def mathematics(text: str) -> str:
    """Return a name in matplotlib's mathematics: W_Q gets a subscript, a function or a sign stays as it is.

    >>> print(mathematics("W_Q"), mathematics("/√D_Q"), mathematics("softmax("), mathematics("="))
    $W_{Q}$ $/\\sqrt{D_{Q}}$ softmax( =
    """
    if "(" in text or not re.search("[A-Za-z]", text):
        return text
    text = re.sub("(.)\u0303", r"\\tilde{\1}", text)            # a combining tilde
    text = re.sub("(?:_[A-Za-z0-9]+)+", lambda below: f"_{{{below[0].replace('_', '')}}}", text)
    text = text.replace("ᵀ", r"^{\top}")
    return "$" + re.sub("√(.+)", r"\\sqrt{\1}", text) + "$"
