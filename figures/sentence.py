"""One sentence through all seven versions: the weights of the tour's example, with the same words and vectors in each.

The words are vectors of four hand-made features, and the weight matrices for queries and keys are set by hand. So a
reader can judge the maps: "where?" should find the sea wall, a verb its subject, a preposition its place. Only the
small network of version 1 is random (`npattn.cli.tour.example`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npattn import plot
from npattn.cli.tour.example import WORDS, examples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The symbol of the queries in each version.
QUERIES = ("q", "q", "q", "Q", "Q", "X", "X_Q")

#: The layout: the map of a version has its number, p and q are the two heads of version 7.
ROWS = ("1166", "2266", "3366", "4466", "5566", "ppqq")


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw a map for each version, and one for each head of the last."""
    axes = plot.mosaic(ROWS, 8.3, 9.0, theme=theme, height_ratios=(1, 1, 1, 1.5, 1.5, 5))
    for number, (version, arrays, options, queries) in enumerate(examples(), 1):
        _, cache = version.module.forward(*arrays.values(), **options)
        heads = cache.A.reshape(-1, len(queries), len(WORDS))
        places = str(number) if len(heads) == 1 else "pq"
        for h, (A, place) in enumerate(zip(heads, places, strict=True), 1):
            ax = plot.attention_map(A, queries, WORDS, numbers=True, ax=axes[place])
            name = f"{number}  {version.name}, $a$" if number < 4 else f"{number}  {version.name}, $A$"
            extra = " (the network is random)" if number == 1 else f" of head {h}" * (len(heads) > 1)
            plot.title(ax, name + extra, loc="left")
            ax.tick_params(axis="x", rotation=0)
            ax.set(xlabel="$X$, attended to" if place in "56pq" else "", ylabel=f"${QUERIES[number - 1]}$")
    plot.colour_bar(list(axes.values()), "weights $a$, $A$: each row sums to 1", location="bottom", aspect=60)
    return axes["1"]
