"""Lines: how a run learns, how samples spread, and how similar positions are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from npattn._internal.checks import Array, Shapes
from npattn.plot.canvas import grid, legend, palette_of, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curve(
    log: Mapping[str, Sequence[float]], score: str, *, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a score in percent against minutes. Call it again with the same `ax` to compare runs or scores.

    - log: columns of numbers by name, as `npattn.runs.read_log` returns them; it needs "minutes" and the score.
    - score: the column to draw. Its numbers are shares: 1 is drawn as 100 %.
    - label: the line's name in a legend; None adds no legend.
    - ax: the Axes to draw into; None makes a new figure.

    Raises ValueError when a column is missing, ModuleNotFoundError when matplotlib is missing.

    >>> log = {"minutes": [1.0, 2.0], "WER": [0.5, 0.25]}
    >>> learning_curve(log, "WER").get_lines()[0].get_ydata()
    array([50., 25.])
    """
    missing = [name for name in ("minutes", score) if name not in log]
    if missing:
        raise ValueError(f"log: expected {' and '.join(missing)} among its columns, got {', '.join(log)}")
    ax = ax or panels(1, 6.0, 3.6)[0]
    percent = 100 * np.asarray(log[score], float)
    ax.plot(log["minutes"], percent, marker="o", markersize=3.5, label=label, color=_next_colour(ax))
    ax.set(xlabel="minutes", ylabel=f"{score} on validation items, %", ylim=(0, None))
    grid(ax)
    if label is not None:
        legend(ax)
    return ax


def spread(
    x: Array, samples: Array, *, label: str | None = None, colour: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how samples of a quantity spread at each x: a line for the median, a band for the middle 80 %.

    The band goes from the 10th to the 90th percentile. Call it again with the same `ax` to compare.

    - x: places (N,).
    - samples: floats (S, N), S samples for each place.
    - label: the line's name in a legend; None adds no legend.
    - colour: the colour of line and band; None takes the palette's next colour.
    - ax: the Axes to draw into; None makes a new figure.

    Raises ValueError for shapes that don't fit, TypeError for samples that are no floating array.

    >>> ax = spread(np.array([1.0, 2.0]), np.array([[3.0, 5.0], [4.0, 6.0], [9.0, 7.0]]))
    >>> ax.get_lines()[0].get_ydata()                      # medians
    array([4., 6.])
    """
    x = np.asarray(x, float)
    Shapes(x="N", samples="S N").check(x, samples)
    ax = ax or panels(1, 4.0, 3.6)[0]
    low, median, high = np.quantile(samples, (0.1, 0.5, 0.9), axis=0)
    colour = colour or _next_colour(ax)
    ax.fill_between(x, low, high, color=colour, alpha=0.22, linewidth=0)
    ax.plot(x, median, color=colour, label=label)
    grid(ax)
    if label is not None:
        legend(ax)
    return ax


def position_products(P: Array, rows: Sequence[int] = (0,), *, ax: Axes | None = None) -> Axes:
    """Draw the dot products P[n]·P[m] of positions against the distance m − n, a line for each n of `rows`.

    For sinusoidal positions of an even width, P[n]·P[m] depends on m − n alone, so all lines lie on one curve.

    - P: position vectors (N, D), as `npattn.sinusoidal_positions` returns them.
    - rows: the positions n.
    - ax: the Axes to draw into; None makes a new figure.

    Raises IndexError for a row that P does not have, ValueError for another number of axes, TypeError for what is no
    floating array.

    >>> ax = position_products(np.eye(3), rows=[1])
    >>> ax.get_lines()[0].get_xydata().tolist()            # distance, product
    [[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """
    Shapes(P="N D").check(P)
    ax = ax or panels(1, 4.0, 3.6)[0]
    for n, style in zip(rows, cycle(("-", "--", ":", "-.")), strict=False):
        ax.plot(np.arange(len(P)) - n, P @ P[n], style, color=_next_colour(ax), label=f"$n = {n}$")
    ax.set(xlabel="distance $m - n$", ylabel="$P[n] \\cdot P[m]$")
    grid(ax)
    legend(ax)
    return ax


def _next_colour(ax: Axes) -> str:
    """Return the palette's colour for the next line of `ax`."""
    colours = palette_of(ax).colours
    return colours[len(ax.get_lines()) % len(colours)]
