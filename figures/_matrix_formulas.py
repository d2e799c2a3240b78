"""Formulas with every matrix drawn as a block of its size, so that one sees which axes meet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from npattn.plot import palette_of, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Room, in cells: above a block for the name of its columns, below it, and around operators.
ABOVE, BELOW, AROUND = 1.8, 0.5, 0.5

#: Width, in cells, of an operator's letter and of a smaller one that names an axis.
LETTER, SMALL = 1.0, 0.45

#: A vector is drawn as thick as its name.
THICKNESS = 1.7


class Block(NamedTuple):
    """A matrix of a formula: its name, the symbols of its axes ("1" for one row or column), and whether it is new."""

    name: str
    rows: str
    columns: str
    new: bool


class Operator(NamedTuple):
    """What stands between the matrices."""

    text: str
    new: bool


def read_formula(text: str) -> list[Block | Operator]:
    """Read a formula of blocks ``name:rows,columns`` and operators, all set apart by spaces; ``*`` marks what is new.

    ``~`` stands for a space that is drawn.

    >>> read_formula("y:1,D_X = *a:1,N_X X:N_X,D_X")[1:3]
    [Operator(text='=', new=False), Block(name='a', rows='1', columns='N_X', new=True)]
    """
    parts: list[Block | Operator] = []
    for word in text.split():
        new, word = word.startswith("*"), word.removeprefix("*")
        block = re.fullmatch(r"([^:]+):([^,]+),([^,]+)", word)
        parts.append(Block(block[1], block[2], block[3], new) if block else Operator(word.replace("~", " "), new))
    return parts


def matrix_formulas(
    lines: Sequence[str], sizes: Mapping[str, float], *, cells: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw formulas, one below the other, with blocks of as many rows and columns of cells as `sizes` says.

    The grammar is that of `read_formula`; what is new is drawn in the second colour of the palette. `cells` is the
    width of the drawing, as wide as the longest formula unless given. Raises KeyError for an axis without a size,
    ModuleNotFoundError without matplotlib.

    >>> ax = matrix_formulas(["K:N_X,D_Q = *W:N_X,D_Q"], {"N_X": 3, "D_Q": 2})
    >>> [text.get_text() for text in ax.texts][:3]
    ['$K$', '$D_{Q}$', '$N_{X}$']
    """
    ax = ax or panels(1, 6.0, 1.2 * len(lines))[0]
    sizes = {**sizes, "1": THICKNESS}
    y, widest = 0.0, 0.0
    for line in lines:
        parts = read_formula(line)
        height = max(sizes[part.rows] for part in parts if isinstance(part, Block))
        middle, x = y - ABOVE - height / 2, 0.0
        for part in parts:
            if isinstance(part, Block):
                x = _draw_block(ax, part, sizes[part.rows], sizes[part.columns], x, middle)
            else:
                x = _draw_operator(ax, part, x, middle)
        y -= ABOVE + height + BELOW
        widest = max(widest, x)
    ax.set(xlim=(0, cells or widest), ylim=(y, 0), aspect="equal")
    ax.set_anchor("NW")
    ax.set_axis_off()
    return ax


def formula_height(lines: Sequence[str], sizes: Mapping[str, float]) -> float:
    """Return the height, in cells, of what `matrix_formulas` draws. Raises KeyError for an axis without a size.

    >>> formula_height(["K:N_X,D_Q"], {"N_X": 3, "D_Q": 2}) == 3 + ABOVE + BELOW
    True
    """
    sizes = {**sizes, "1": THICKNESS}
    blocks = [[part for part in read_formula(line) if isinstance(part, Block)] for line in lines]
    return sum(ABOVE + BELOW + max(sizes[block.rows] for block in line) for line in blocks)


def _draw_block(ax: Axes, block: Block, rows: float, columns: float, x: float, middle: float) -> float:
    """Draw a block whose room starts at x, and return where it ends."""
    palette = palette_of(ax)
    room = 0.8 + SMALL * len(block.rows) if block.rows != "1" else AROUND
    x += room
    right, top, bottom = x + columns, middle + rows / 2, middle - rows / 2
    colour = palette.colours[1 if block.new else 0]
    corners = ([x, right, right, x], [top, top, bottom, bottom])
    ax.fill(*corners, facecolor=colour, alpha=0.3 if block.new else 0.12, linewidth=0)
    thin: dict[str, Any] = {"color": colour, "alpha": 0.25, "linewidth": 0.5}
    if block.rows != "1":
        ax.hlines([top - i for i in range(1, round(rows))], x, right, **thin)
    if block.columns != "1":
        ax.vlines([x + j for j in range(1, round(columns))], bottom, top, **thin)
    ax.fill(*corners, facecolor="none", edgecolor=colour, linewidth=1.5 if block.new else 0.9)
    centred: dict[str, Any] = {"color": palette.ink, "ha": "center", "va": "center"}
    ax.text(x + columns / 2, middle, mathematics(block.name), fontsize=10, **centred)
    if block.columns != "1":
        ax.text(x + columns / 2, top + 0.85, mathematics(block.columns), fontsize=8, **centred)
    if block.rows != "1":
        ax.text(x - room / 2, middle, mathematics(block.rows), fontsize=8, **centred)
    return right + 0.25


def _draw_operator(ax: Axes, operator: Operator, x: float, middle: float) -> float:
    """Write an operator whose room starts at x, and return where it ends."""
    palette = palette_of(ax)
    width = LETTER * len(operator.text.replace("_", "")) + 2 * AROUND
    colour = palette.colours[1] if operator.new else palette.ink
    weight = "bold" if operator.new else "normal"
    ax.text(
        x + width / 2, middle, mathematics(operator.text), color=colour, weight=weight, ha="center", va="center",
        fontsize=10,
    )  # fmt: skip
    return x + width


def mathematics(text: str) -> str:
    """Write a name for matplotlib: W_Q with its index below the line; a function or a sign as it stands.

    >>> print(mathematics("W_Q"), mathematics("/√D_Q"), mathematics("softmax("), mathematics("="))
    $W_{Q}$ $/\\sqrt{D_{Q}}$ softmax( =
    """
    if "(" in text or not re.search("[A-Za-z]", text):
        return text
    text = re.sub(r"_([A-Za-z0-9]+)", r"_{\1}", text).replace("ᵀ", r"^{\top}")
    return "$" + re.sub("√(.+)", r"\\sqrt{\1}", text) + "$"
