"""Masks: which keys a query may attend to, and how that changes the weights and the gradient of the scores.

All four columns have the same six words and two pads, the same random scores E and the same random dA: dE is that of
the loss L = Σ dA ⊙ A. A hidden weight is exactly 0, and so is its gradient. The other weights of its row share the
rest. Masks hide keys, not queries, so the rows of pads have weights too. Colours mean the same in a whole row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from npattn import causal_mask, padding_mask, plot
from npattn.layers import softmax, softmax_backward

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOKENS = ("she", "sat", "by", "the", "sea", "wall", "‹pad›", "‹pad›")
N = len(TOKENS)

#: The colours of dE end at −LIMIT and LIMIT.
LIMIT = 0.3


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw mask, weights and gradient for no mask, for each mask, and for both."""
    rng = np.random.default_rng(4)
    E, dA = rng.normal(size=(N, N)), rng.normal(size=(N, N))
    pads = np.broadcast_to(padding_mask(np.array([6]), N)[0, 0], (N, N))
    causal = causal_mask(N)
    masks = {"no mask": np.ones((N, N), bool), "pad mask": pads, "sequence mask": causal, "both": pads & causal}
    axes = plot.panels(12, 8.3 / 4, 2.1, columns=4, theme=theme)
    for k, (name, mask) in enumerate(masks.items()):
        A = softmax(E, mask)
        column = (
            plot.attention_map(0.5 * mask, mask=mask, ax=axes[k]),
            plot.attention_map(A, mask=mask, ax=axes[4 + k]),
            plot.signed_map(softmax_backward(dA, A), mask=mask, limit=LIMIT, ax=axes[8 + k]),
        )
        plot.title(column[0], name)
        for ax, symbol in zip(column, ("mask", "weights $A$", "gradient $dE$"), strict=True):
            label(ax, symbol if k == 0 else "", with_keys=ax is column[-1])
    plot.colour_bar(axes[:4], "blue: may attend\n×: hidden", boundaries=(0, 1), ticks=())
    plot.colour_bar(axes[4:8], "weight $a_{in}$")
    plot.colour_bar(axes[8:], "$dE$: blue negative,\norange positive", extend="both")
    return axes[0]


def label(ax: Axes, symbol: str, *, with_keys: bool) -> None:
    """Write the queries beside the first map of a row, and the keys below the last map of a column."""
    ax.set_yticks(range(N), TOKENS if symbol else [""] * N, fontsize=7.5)
    ax.set_xticks(range(N), TOKENS if with_keys else [""] * N, fontsize=7.5, rotation=60)
    ax.set(xlabel="key $n$" if with_keys else "", ylabel=f"{symbol}\nquery $i$" if symbol else "")
