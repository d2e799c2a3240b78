"""The backward flow: the graph of version 5, of version 7 and of a residual block, with the gradients on its arrows.

A box is a line of the forward, which goes up. The arrows go down, against the forward: each leads from a result to one
of the values that it was computed from, and carries that value's gradient. Where a value is used twice, two arrows
meet, and their gradients add (+). The formulas are those of the modules' derivations. The residual blocks have no
dropout; f is attention or feed-forward.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from npattn import plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A picture is 100 units wide. All lengths are in these units.

#: Height of a box, its width without text, and the width of a letter.
HEIGHT, PADDING, LETTER = 3.6, 2.4, 0.88


#: A formula and the middle of its box.
Box = tuple[str, float, float]


class Flow(NamedTuple):
    """A graph: its title, its boxes (formula, middle) and its arrows (from, to, gradient, place of the text).

    A place is "left" or "right" of the arrow at a share of its length, or "below" the box where the arrow ends. The
    name of a box is the left side of its formula. A box "+" is a sum.
    """

    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[tuple[str, str, str, str], ...]


VERSION_5 = Flow(
    "version 5, cross-attention",
    (
        ("Y = A V", 54, 35.5), ("A = softmax(E)", 32, 28.5), ("E = Q Kᵀ / √D_Q", 32, 21.5), ("Q", 10, 13),
        ("K = X W_K", 46, 13), ("V = X W_V", 84, 13), ("+", 65, 6.5), ("W_K", 34, 0), ("X", 65, 0), ("W_V", 88, 0),
    ),
    (
        ("dY", "Y", "dY", "right .5"),
        ("Y", "A", "dA = dY Vᵀ", "left .5"), ("Y", "V", "dV = Aᵀ dY", "right .5"),
        ("A", "E", "dE = A ⊙ (dA − rowsum(A ⊙ dA))", "right .5"),
        ("E", "Q", "dQ = (dE/√D_Q) K", "left .5"), ("E", "K", "dK = (dE/√D_Q)ᵀ Q", "right .5"),
        ("K", "W_K", "dW_K = Xᵀ dK", "below"), ("K", "+", "dK W_Kᵀ", "right .4"), ("V", "+", "dV W_Vᵀ", "left .4"),
        ("V", "W_V", "dW_V = Xᵀ dV", "below"), ("+", "X", "dX", "below"),
    ),
)  # fmt: skip

VERSION_7 = Flow(
    "version 7, multi-head attention: an A, E and Y for each head",
    (
        ("Z = merge(Y) W_O + b_O", 54, 45), ("W_O, b_O", 18, 39.5), ("Y = A V", 54, 37.5), ("A = softmax(E)", 31, 30.5),
        ("E = Q Kᵀ / √D_Q", 31, 23.5), ("Q = split(X_Q W_Q + b_Q)", 17, 14.5), ("K = split(X W_K + b_K)", 43.5, 14.5),
        ("V = split(X W_V + b_V)", 89.5, 14.5), ("+", 68, 5), ("W_Q, b_Q", 10, 0), ("X_Q", 29, 0),
        ("W_K, b_K", 48, 0), ("X", 68, 0), ("W_V, b_V", 90, 0),
    ),
    (
        ("dZ", "Z", "dZ", "right .5"),
        ("Z", "W_O, b_O", "dW_O = merge(Y)ᵀ dZ\ndb_O = 1ᵀ dZ", "below"), ("Z", "Y", "dY = split(dZ W_Oᵀ)", "right .5"),
        ("Y", "A", "dA = dY Vᵀ", "left .5"), ("Y", "V", "dV = Aᵀ dY", "right .5"),
        ("A", "E", "dE = A ⊙ (dA − rowsum(A ⊙ dA))", "right .5"),
        ("E", "Q", "dQ = (dE/√D_Q) K", "left .5"), ("E", "K", "dK = (dE/√D_Q)ᵀ Q", "right .5"),
        ("Q", "W_Q, b_Q", "dW_Q = X_Qᵀ merge(dQ)\ndb_Q = 1ᵀ merge(dQ)", "below"),
        ("Q", "X_Q", "dX_Q = merge(dQ) W_Qᵀ", "below"),
        ("K", "W_K, b_K", "dW_K = Xᵀ merge(dK)\ndb_K = 1ᵀ merge(dK)", "below"),
        ("K", "+", "merge(dK) W_Kᵀ", "right .32"), ("V", "+", "merge(dV) W_Vᵀ", "left .32"),
        ("V", "W_V, b_V", "dW_V = Xᵀ merge(dV)\ndb_V = 1ᵀ merge(dV)", "below"), ("+", "X", "dX", "below"),
    ),
)  # fmt: skip

PRE_NORM = Flow(
    "residual block, pre-norm",
    (("Y = X + F", 32, 24), ("F = f(I)", 11, 17), ("I = norm(X)", 11, 10), ("+", 32, 5), ("X", 32, 0)),
    (
        ("dY", "Y", "dY", "right .5"), ("Y", "F", "dF = dY", "left .5"), ("F", "I", "dI = f_backward(dF)", "right .5"),
        ("I", "+", "norm_backward(dI)", "left .5"), ("Y", "+", "dY", "right .5"),
        ("+", "X", "dX = dY + norm_backward(f_backward(dF))", "below"),
    ),
)  # fmt: skip

POST_NORM = Flow(
    "residual block, post-norm",
    (("Y = norm(R)", 27, 24), ("R = X + F", 27, 17), ("F = f(X)", 8, 10), ("+", 27, 5), ("X", 27, 0)),
    (
        ("dY", "Y", "dY", "right .5"), ("Y", "R", "dR = norm_backward(dY)", "right .5"),
        ("R", "F", "dF = dR", "left .5"), ("F", "+", "f_backward(dF)", "left .5"), ("R", "+", "dR", "right .5"),
        ("+", "X", "dX = dR + f_backward(dF)", "below"),
    ),
)  # fmt: skip

#: The panels in three rows, and their upper ends; their lower ends are at −BELOW.
PANELS = {"5": (VERSION_5, 44), "7": (VERSION_7, 53), "b": (PRE_NORM, 33), "a": (POST_NORM, 33)}
ROWS, BELOW = ("55", "77", "ba"), 8

NOTE = "boxes: the forward, upwards\narrows: the gradients, downwards\n+ : X is used twice, its gradients add"


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw the four graphs."""
    heights = [PANELS[row[0]][1] + BELOW for row in ROWS]
    axes = plot.mosaic(ROWS, 8.3, 8.3 / 100 * sum(heights) + 0.9, theme=theme, height_ratios=heights)
    for name, (flow, top) in PANELS.items():
        ax = axes[name]
        ax.set(xlim=(0, 50 if name in ROWS[-1] else 100), ylim=(-BELOW, top), aspect="equal")
        ax.set_axis_off()
        plot.title(ax, flow.title, loc="left", weight="bold")
        draw_flow(ax, flow)
    axes["5"].text(0, 44, NOTE, color=plot.palette_of(axes["5"]).ink, fontsize=9, va="top", linespacing=1.5)
    for text in (text for ax in axes.values() for text in ax.texts):
        text.set_in_layout(False)                             # all stand inside the panels, which fill the width
    return axes["5"]


def draw_flow(ax: Axes, flow: Flow) -> None:
    """Draw the boxes of a graph and its arrows. The arrow of the first gradient comes from above."""
    boxes = {formula.partition(" = ")[0]: (formula, x, y) for formula, x, y in flow.boxes}
    for box in boxes.values():
        draw_box(ax, *box)
    for start, end, gradient, place in flow.arrows:
        _, x, y = boxes[end]
        draw_arrow(ax, boxes.get(start, ("+", x, y + 7.5)), boxes[end], gradient, *place.split())


def draw_box(ax: Axes, formula: str, x: float, y: float) -> None:
    """Draw a box, blue if it computes something, or a sum as a circle."""
    palette = plot.palette_of(ax)
    blue, orange, *_ = palette.colours
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    if formula == "+":
        circle = {"boxstyle": "circle,pad=0.15", "facecolor": palette.page, "edgecolor": orange, "linewidth": 1.4}
        ax.text(x, y, "+", color=orange, fontsize=11, weight="bold", bbox=circle, **centred)
        return
    w, h = size(formula)
    corners = [x - w / 2, x + w / 2, x + w / 2, x - w / 2], [y - h / 2, y - h / 2, y + h / 2, y + h / 2]
    colour = blue if " = " in formula else palette.faint
    ax.fill(*corners, facecolor=colour, alpha=0.15, linewidth=0)
    ax.fill(*corners, facecolor="none", edgecolor=colour, linewidth=1.1)
    ax.text(x, y, mathematics(formula), color=palette.ink, fontsize=9.5, **centred)


def draw_arrow(ax: Axes, start: Box, end: Box, gradient: str, side: str, share: str = "0.5") -> None:
    """Draw an arrow between two boxes and write its gradient beside it, or below the box where it ends."""
    orange = plot.palette_of(ax).colours[1]
    (left, high), (right, low) = edge(start, end), edge(end, start)
    style = {"arrowstyle": "-|>", "color": orange, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (right, low), (left, high), arrowprops=style)
    x, y = left + float(share) * (right - left), high + float(share) * (low - high)
    if side == "below":
        x, y, ha, va = end[1], end[2] - HEIGHT / 2 - 0.8, "center", "top"
    else:
        away = 1 if side == "right" else -1
        slant = away * (right - left)                         # an arrow that leans to the side of the text is below it
        x, ha, va = x + 0.8 * away, "left" if away > 0 else "right", "bottom" if slant > 1 else "center"
        va = "top" if slant < -1 else va
    text = "\n".join(map(mathematics, gradient.split("\n")))
    ax.text(x, y, text, color=orange, fontsize=9, ha=ha, va=va)


def size(formula: str) -> tuple[float, float]:
    """Return the width and the height of a box."""
    if formula == "+":
        return 2.6, 2.6
    return PADDING + LETTER * len(re.sub("[_{}]", "", formula)), HEIGHT


def edge(box: Box, other: Box) -> tuple[float, float]:
    """Return the point where the line from the middle of a box to the middle of another leaves the first."""
    formula, x, y = box
    (w, h), dx, dy = size(formula), other[1] - x, other[2] - y
    share = min(size / 2 / abs(d) for size, d in ((w, dx), (h, dy)) if d)
    return x + share * dx, y + share * dy


def mathematics(text: str) -> str:
    """Return a formula in matplotlib's mathematics.

    >>> print(mathematics("dQ = (dE/√D_Q) K"), mathematics("f_backward(dF)"))
    $dQ\\ =\\ (dE/\\sqrt{D_{Q}})\\ K$ $\\mathrm{f\\_backward}(dF)$
    """
    text = re.sub(r"(?<=[A-Zb])_([A-Z]+)", r"_{\1}", text)
    text = re.sub("[a-z]?_?[a-z]{4,}", lambda word: rf"\mathrm{{{word[0]}}}".replace("_", r"\_"), text)
    text = re.sub(r"√([^ )]+)", r"\\sqrt{\1}", text)
    for sign, name in {"ᵀ": r"^{\top}", "⊙": r"\odot", "−": "-", " ": r"\ "}.items():
        text = text.replace(sign, name)
    return f"${text}$"
