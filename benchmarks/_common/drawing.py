"""The plots. They need matplotlib (the extra `bench`). pyplot is not imported, because it has global state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from _common import tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"npattn": "tab:blue", "torch": "tab:orange", "products": "tab:gray", "numpy": "tab:gray",
           "npattn causal": "tab:cyan", "npattn window": "tab:cyan", "torch causal": "tab:red"}  # fmt: skip

#: The least ratio of the upper to the lower end of a logarithmic vertical axis.
SPAN = 16


class Lines(NamedTuple):
    """One panel, on logarithmic axes: the values of each line by its name.

    A name begins with the peer; anything may follow after a colon. With `percent`, the vertical axis is linear, from 0
    to 100.
    """

    title: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    x_label: str
    y_label: str
    percent: bool = False


def bars(found: Mapping[str, tables.Peers], path: Path, title: str, base: str = "torch") -> None:
    """The time of each peer over that of `base` (of npattn without `base`), with a group of bars for each case."""
    peers = list(next(iter(found.values())))
    base = base if base in peers else "npattn"
    ((ax,),) = _axes(1, 1, 1.4 * len(found) + 3)
    for i, peer in enumerate(peers):
        heights = [tables.ratio(case[peer], case[base]).median for case in found.values()]
        x = [j + (i - (len(peers) - 1) / 2) * 0.25 for j in range(len(found))]
        ax.bar_label(ax.bar(x, heights, 0.24, label=peer, color=COLOURS.get(peer)), fmt="%.2f", fontsize=8)
    ax.set_xticks(range(len(found)), list(found))
    ax.set(ylabel=f"time, {base} = 1", title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    ax.figure.savefig(path, dpi=120)


def lines(rows: Sequence[Sequence[Lines]], path: Path) -> None:
    """Rows of panels. A straight line in a panel is a power law, and its slope is the exponent."""
    grid = _axes(len(rows), len(rows[0]), 3.6 * len(rows[0]))
    for axes, panels in zip(grid, rows, strict=True):
        for ax, panel in zip(axes, panels, strict=True):
            _panel(ax, panel)
    grid[0][0].figure.savefig(path, dpi=120)


def _panel(ax: Axes, panel: Lines) -> None:
    for name, given in panel.lines.items():
        # Toy sizes can add no memory at all, and a logarithmic axis has no 0.
        values = [value if value > 0 else math.nan for value in given]
        if all(map(math.isnan, values)):
            continue
        ax.plot(panel.x, values, "o-", markersize=3, label=name, color=COLOURS.get(name.partition(":")[0]))
    ax.set_xscale("log", base=2)
    ax.set_xticks(panel.x, [f"{x:g}" for x in panel.x], fontsize=8)
    if panel.percent:
        ax.set_ylim(0, 102)
    else:
        ax.set_yscale("log", base=2)
        low, high = ax.get_ylim()
        margin = max(1, SPAN / (high / low)) ** 0.5      # small changes stay small in the picture
        ax.set_ylim(low / margin, high * margin)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    ax.grid(alpha=0.3)
    if ax.lines:
        ax.legend(fontsize=8)


def _axes(rows: int, columns: int, width: float) -> list[list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.2 * rows), layout="constrained")
    return [list(row) for row in figure.subplots(rows, columns, squeeze=False)]
