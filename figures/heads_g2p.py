"""What heads learn: the model that comes with the package reads a word and writes its phonemes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from _heads import draw_heads
from npattn import plot
from npattn.runs import load_model, predict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: A word of the test set, so it is not in the training data.
WORD = "attention"


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw every head of the last layers."""
    model, codec, _ = load_model("g2p")
    return draw_heads(model, codec, WORD, predict(model, codec, [WORD])[0], (2.3, 2.6, 2.3), theme)
