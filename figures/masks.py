"""Masks: which keys a query may attend to, what that does to the weights, and to the gradient of the scores.

Six words and two pads, random scores E and a random dA, drawn once and used in all four columns. A masked weight
is exactly 0, and so is its gradient; the others of its row share what it leaves.
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

#: The colours of dE end at ± this.
LIMIT = 0.3


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw masks, weights and gradients for no mask, each mask, and both."""
    rng = np.random.default_rng(4)
    E, dA = rng.normal(size=(N, N)), rng.normal(size=(N, N))
    pads = np.broadcast_to(padding_mask(np.array([6]), N)[0, 0], (N, N))
    order = causal_mask(N)
    masks = {"no mask": np.ones((N, N), bool), "pad mask": pads, "sequence mask": order, "both": pads & order}
    axes = plot.panels(12, 8.3 / 4, 2.1, columns=4, theme=theme)
    for k, (name, mask) in enumerate(masks.items()):
        A = softmax(E, mask)
        rows = (
            plot.attention_map(0.45 * mask, mask=mask, ax=axes[k]),
            plot.attention_map(A, mask=mask, ax=axes[4 + k]),
            plot.signed_map(softmax_backward(dA, A), mask=mask, limit=LIMIT, ax=axes[8 + k]),
        )
        plot.title(rows[0], name)
        for ax, symbol in zip(rows, ("mask", "weights $A$", "gradient $dE$"), strict=True):
            label(ax, symbol if k == 0 else "", with_keys=symbol.startswith("g"))
    return axes[0]


def label(ax: Axes, symbol: str, *, with_keys: bool) -> None:
    """Name the queries at the left of a row of maps, and the keys below the last."""
    ax.set_yticks(range(N), TOKENS if symbol else [""] * N, fontsize=7.5)
    ax.set_xticks(range(N), TOKENS if with_keys else [""] * N, fontsize=7.5, rotation=60)
    ax.set(xlabel="key $n$" if with_keys else "", ylabel=f"{symbol}\nquery $i$" if symbol else "")
