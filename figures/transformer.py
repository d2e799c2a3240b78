"""The Transformer: its sub-layers with the shapes and parameter counts of the model that comes with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from _architecture import architecture
from npattn import plot
from npattn.runs import load_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw the architecture of the g2p model."""
    (ax,) = plot.panels(1, 8.3, 8.6, theme=theme)
    model, _, _ = load_model("g2p")
    return architecture(model.config, ax=ax)
