"""The ladder: the formulas of the seven versions, with every matrix drawn to size and what is new in orange."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from _matrix_formulas import formula_height, mathematics, matrix_formulas
from npattn import plot
from npattn.attention import VERSIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Small sizes, most of them different, so the length of an axis shows which one it is.
SIZES = {"N_Q": 3, "N_X": 6, "D_E": 3, "D_Q": 4, "D_X": 5, "D_V": 3, "D_XQ": 5, "H·D_Q": 8, "H·D_V": 6, "D_Z": 7}

#: Width of the picture in cells and in inches; height of a title in inches.
CELLS, INCHES, TITLE = 84, 8.3, 0.3

#: The formulas of each version, in the notation of `_matrix_formulas.read_formula`; version 7 with two heads. New are
#: the letters and operations that the version before does not have.
FORMULAS = (
    (
        "*e:N_X,1 = *tanh( *q:1,D_Q *W_Q:D_Q,D_E *+ *X:N_X,D_X *W_X:D_X,D_E *) *w:D_E,1",
        "*a:N_X,1 = *softmax( *e:N_X,1 *) ~~~ *y:1,D_X = *aᵀ:1,N_X *X:N_X,D_X",
    ),
    ("e:N_X,1 = X:N_X,D_Q *· q:D_Q,1 ~~~ a:N_X,1 = softmax( e:N_X,1 ) ~~~ y:1,D_Q = aᵀ:1,N_X X:N_X,D_Q",),
    ("e:N_X,1 = X:N_X,D_Q q:D_Q,1 */√D_Q ~~ a:N_X,1 = softmax( e:N_X,1 ) ~~ y:1,D_Q = aᵀ:1,N_X X:N_X,D_Q",),
    (
        "*E:N_Q,N_X = *Q:N_Q,D_Q Xᵀ:D_Q,N_X /√D_Q ~ *A:N_Q,N_X = softmax( *E:N_Q,N_X )"
        " ~ *Y:N_Q,D_Q = *A:N_Q,N_X X:N_X,D_Q",
    ),
    (
        "*K:N_X,D_Q = X:N_X,D_X *W_K:D_X,D_Q ~~~~ *V:N_X,D_V = X:N_X,D_X *W_V:D_X,D_V",
        "E:N_Q,N_X = Q:N_Q,D_Q *Kᵀ:D_Q,N_X /√D_Q ~~ A:N_Q,N_X = softmax( E:N_Q,N_X )"
        " ~~ Y:N_Q,D_V = A:N_Q,N_X *V:N_X,D_V",
    ),
    (
        "Q:N_X,D_Q = X:N_X,D_X *W_Q:D_X,D_Q ~~~~ K:N_X,D_Q = X:N_X,D_X W_K:D_X,D_Q"
        " ~~~~ V:N_X,D_V = X:N_X,D_X W_V:D_X,D_V",
        "E:N_X,N_X = Q:N_X,D_Q Kᵀ:D_Q,N_X /√D_Q ~~ A:N_X,N_X = softmax( E:N_X,N_X )"
        " ~~ Y:N_X,D_V = A:N_X,N_X V:N_X,D_V",
    ),
    (
        "*Q_1:N_Q,D_Q *| *Q_2:N_Q,D_Q = *X_Q:N_Q,D_XQ W_Q:D_XQ,H·D_Q"
        " ~~ *K_1:N_X,D_Q *| *K_2:N_X,D_Q = X:N_X,D_X W_K:D_X,H·D_Q",
        "*V_1:N_X,D_V *| *V_2:N_X,D_V = X:N_X,D_X W_V:D_X,H·D_V"
        " ~~ *E_h:N_Q,N_X = *Q_h:N_Q,D_Q *K_hᵀ:D_Q,N_X /√D_Q",
        "*A_h:N_Q,N_X = softmax( *E_h:N_Q,N_X ) ~~ *Y_h:N_Q,D_V = *A_h:N_Q,N_X *V_h:N_X,D_V",
        "*Z:N_Q,D_Z = *( *Y_1:N_Q,D_V *| *Y_2:N_Q,D_V *) *W_O:H·D_V,D_Z",
    ),
)


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw a panel for each version."""
    heights = [formula_height(lines, SIZES) for lines in FORMULAS]
    rows = [[version.name] for version in VERSIONS]
    size = INCHES, INCHES / CELLS * sum(heights) + TITLE * len(rows)
    axes = plot.mosaic(rows, *size, theme=theme, height_ratios=heights)
    for number, (ax, version, lines) in enumerate(zip(axes.values(), VERSIONS, FORMULAS, strict=True), 1):
        matrix_formulas(lines, SIZES, cells=CELLS, ax=ax)
        name = plot.title(ax, f"{number}  {version.name}", loc="left", weight="bold")
        ink = plot.palette_of(ax).ink
        beside = {"xycoords": name, "textcoords": "offset points", "va": "bottom"}
        changed = re.sub(r"√?[A-Z]_[A-Z]", lambda symbol: mathematics(symbol[0]), version.changed)
        ax.annotate(changed, (1, 0), (12, 0), color=ink, fontsize=9.5, **beside)
    first = axes[VERSIONS[0].name]
    orange = plot.palette_of(first).colours[1]
    note = "orange: a letter or an operation\nthat the version before does not have"
    corner = {"fontsize": 9.5, "ha": "right", "va": "bottom"}
    first.text(CELLS, first.get_ylim()[0], note, color=orange, **corner)
    note = "|: side by side in one matrix\nnot drawn: the biases $b_Q, b_K, b_V, b_O$"
    ax.text(CELLS, ax.get_ylim()[0], note, color=plot.palette_of(ax).ink, **corner)
    return ax
