"""Positions: the sinusoids, and the dot products of positions against their distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npattn import plot, sinusoidal_positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N, D = 96, 64


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw P, and the dot products of three of its rows with all rows."""
    axes = plot.mosaic(["PPPPDDD"], 8.3, 3.6, theme=theme)
    P = sinusoidal_positions(N, D)
    plot.title(plot.positions(P, ax=axes["P"]), f"sinusoidal positions $P[n, d]$, $D_X = {D}$")
    plot.position_products(P, (0, 48, 95), ax=axes["D"])
    plot.title(axes["D"], "$P[n] \\cdot P[m]$ depends on the distance alone")
    return axes["P"]
