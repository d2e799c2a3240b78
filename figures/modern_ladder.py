"""The second ladder: what versions 8 to 14 change, with every matrix drawn to size and what is new in orange."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from _matrix_formulas import formula_height, mathematics, matrix_formulas
from npattn import plot
from npattn.attention import MODERN_VERSIONS, masks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Two heads of queries; P positions are past. The window is W = 3.
SIZES = {
    "N_Q": 3, "P": 3, "N_X": 6, "D_X": 5, "D_Q": 4, "D_V": 3, "H·D_Q": 8, "H·D_V": 6, "H_K·D_Q": 4, "H_K·D_V": 3,
    "D_LQ": 4, "D_L": 5, "D_C": 4, "D_R": 3, "H·D_C": 8, "H·D_R": 6,
}  # fmt: skip
WINDOW = 3

#: Width of the picture in cells and in inches; height of a title in inches.
CELLS, INCHES, TITLE = 84, 8.3, 0.3

#: The version that each one grows from, where that is not the one before it.
GROWS_FROM = {13: 9, 14: 8}

#: What stands beside the formulas of a version.
NOTES = {
    8: "grey: hidden\n;: one below the other",
    9: "only the lines that change are drawn\nturn: each row by its position, times $f$",
    10: "$H = 2$, $H_K = 1$",
    11: "$W = 3$; $a_h$ is the weight of the sink",
    12: "norm: each row of each head",
    14: "one head; step $t$",
}
NEW = "orange: a letter or an operation that the version\nit grows from does not have, or of another size"

#: The lines of each version that differ from those of the version it grows from, in the notation of
#: `_matrix_formulas.read_formula`. New are the letters and operations that the latter does not have, and what has
#: another size there. Q, K and V have all heads side by side; Q_h is head h of Q.
FORMULAS = (
    (
        "Q:N_Q,H·D_Q = X:N_Q,D_X W_Q:D_X,H·D_Q"
        " ~ K:N_X,H·D_Q = ( *K_past:P,H·D_Q *; X:N_Q,D_X W_K:D_X,H·D_Q )",
        "V:N_X,H·D_V = ( *V_past:P,H·D_V *; X:N_Q,D_X W_V:D_X,H·D_V ) ~~ E_h:N_Q,N_X = *s Q_h:N_Q,D_Q K_hᵀ:D_Q,N_X",
        "A_h:N_Q,N_X = softmax( E_h:N_Q,N_X *~n≤i+P~ )",
    ),
    (
        "Q:N_Q,H·D_Q = *turn( X:N_Q,D_X W_Q:D_X,H·D_Q )",
        "K:N_X,H·D_Q = ( K_past:P,H·D_Q ; *turn( X:N_Q,D_X W_K:D_X,H·D_Q ) )",
    ),
    (
        "*K:N_X,H_K·D_Q = ( *K_past:P,H_K·D_Q ; turn( X:N_Q,D_X *W_K:D_X,H_K·D_Q ) )"
        " ~ *V:N_X,H_K·D_V = ( *V_past:P,H_K·D_V ; X:N_Q,D_X *W_V:D_X,H_K·D_V )",
        "E_h:N_Q,N_X = s Q_h:N_Q,D_Q *K_gᵀ:D_Q,N_X ~~~~ Y_h:N_Q,D_V = A_h:N_Q,N_X *V_g:N_X,D_V",
    ),
    ("A_h:N_Q,N_X | *a_h:N_Q,1 = softmax( E_h:N_Q,N_X *~~n>i+P−W~~ | *sinks_h )",),
    (
        "Q:N_Q,H·D_Q = turn( *norm( X:N_Q,D_X W_Q:D_X,H·D_Q ) )",
        "K:N_X,H_K·D_Q = ( K_past:P,H_K·D_Q ; turn( *norm( X:N_Q,D_X W_K:D_X,H_K·D_Q ) ) )",
        "*S_h:N_Q,N_X = s Q_h:N_Q,D_Q K_gᵀ:D_Q,N_X ~~~~ E_h:N_Q,N_X = *c *tanh( *S_h:N_Q,N_X */c )",
    ),
    (
        "*C:N_X,D_L = ( *C_past:P,D_L ; *norm( X:N_Q,D_X *W_DKV:D_X,D_L ) )"
        " ~~ *K_R:N_X,D_R = ( *K_R_past:P,D_R ; turn( X:N_Q,D_X *W_KR:D_X,D_R ) )",
        "K:N_X,H·D_C = *C:N_X,D_L *W_UK:D_L,H·D_C ~~~~ V:N_X,H·D_V = *C:N_X,D_L *W_UV:D_L,H·D_V",
        "*C_Q:N_Q,D_LQ = *norm( X:N_Q,D_X *W_DQ:D_X,D_LQ ) ~~ Q:N_Q,H·D_C = *C_Q:N_Q,D_LQ *W_Q:D_LQ,H·D_C",
        "*Q_R:N_Q,H·D_R = turn( *C_Q:N_Q,D_LQ *W_QR:D_LQ,H·D_R )"
        " ~ E_h:N_Q,N_X = s ( Q_h:N_Q,D_C K_hᵀ:D_C,N_X *+ *Q_Rh:N_Q,D_R *K_Rᵀ:D_R,N_X )",
    ),
    (
        "*S̃:D_V,D_Q = *α_t *S_{t−1}:D_V,D_Q ~~~~ *e:D_V,1 = *v:D_V,1 *− *S̃:D_V,D_Q *k:D_Q,1",
        "*S_t:D_V,D_Q = *S̃:D_V,D_Q *+ *β_t *e:D_V,1 *kᵀ:1,D_Q ~~~~ *y:D_V,1 = s *S_t:D_V,D_Q *q:D_Q,1",
    ),
)


def hidden(number: int) -> dict[str, np.ndarray]:
    """Return the cells of the weights that are hidden in a version, by the name of the matrix."""
    later, earlier = (
        masks.causal_mask(SIZES["N_Q"], SIZES["N_X"], offset) for offset in (SIZES["P"], SIZES["P"] - WINDOW)
    )
    return {"A_h": ~later | earlier if number == 11 else ~later}


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw a panel for each version."""
    heights = [formula_height(lines, SIZES) for lines in FORMULAS]
    rows = [[version.name] for version in MODERN_VERSIONS]
    size = INCHES, INCHES / CELLS * sum(heights) + TITLE * len(rows)
    axes = plot.mosaic(rows, *size, theme=theme, height_ratios=heights)
    for ax, version, lines in zip(axes.values(), MODERN_VERSIONS, FORMULAS, strict=True):
        matrix_formulas(lines, SIZES, cells=CELLS, ax=ax, hidden=hidden(version.number))
        name = plot.title(ax, f"{version.number}  {version.name}", loc="left", weight="bold")
        changed = re.sub(r"\bW\b", lambda symbol: mathematics(symbol[0]), version.changed)
        if version.number in GROWS_FROM:
            changed += f" (from version {GROWS_FROM[version.number]})"
        ink = {"color": plot.palette_of(ax).ink, "fontsize": 9.5}
        beside = {"xycoords": name, "textcoords": "offset points", "va": "bottom", "fontsize": 9}
        ax.annotate(changed, (1, 0), (8, 0), **ink | beside).set_in_layout(False)
        right = {"ha": "right", "va": "bottom"}
        ax.text(CELLS, ax.get_ylim()[0], NOTES.get(version.number, ""), **ink | right)
        if version.number == 9:
            ax.text(CELLS, 0, NEW, **ink | right | {"va": "top", "color": plot.palette_of(ax).colours[1]})
    return ax
