"""Matrices as maps of colour: attention weights, gradients, positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from npattn._internal.checks import Array, Shapes, check_broadcast
from npattn.plot.canvas import Theme, colour_map, palette_of, panels, title
from npattn.plot.fonts import families

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Up to this many cells of a row are labelled one by one.
LABELLED = 60


def attention_map(
    A: Array,
    queries: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
    *,
    mask: Array | None = None,
    numbers: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw weights A (N_Q, N_X), a row for each query: the page is 0, the fullest colour 1.

    `queries` and `inputs` label rows and columns, with installed fonts that have their letters, Chinese ones too. Where
    the mask, broadcast to A, is False, a cell is crossed out. `numbers` writes each weight into its cell, with two
    decimals.
    Raises ValueError when A has other axes, the labels another number or the mask a shape that does not fit;
    TypeError for a mask that is not boolean; ModuleNotFoundError without matplotlib, as all that draw do.

    >>> ax = attention_map(np.array([[0.25, 0.75]]), ["y"], ["x", "z"], numbers=True)
    >>> [text.get_text() for text in ax.texts]
    ['0.25', '0.75']
    """
    ax = _prepare("A", A, queries, inputs, mask, ax)
    palette = palette_of(ax)
    ax.imshow(A, cmap=colour_map((palette.page, *palette.low_to_high[1:])), vmin=0, vmax=1, aspect="auto")
    _label(ax, A.shape, queries, inputs)
    _cross_out(ax, A.shape, mask)
    if numbers:
        for (i, n), a in np.ndenumerate(A):
            colour = palette.page if a > 0.45 else palette.ink
            ax.text(n, i, f"{a:.2f}", color=colour, ha="center", va="center", fontsize=8)
    return ax


def signed_map(
    Z: Array,
    queries: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
    *,
    mask: Array | None = None,
    limit: float | None = None,
    bar: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw a matrix Z (N_Q, N_X) of numbers of both signs, such as dE: blue is negative, the page 0, orange positive.

    The colours end at ±`limit`, by default the largest |Z|; `bar` adds their scale. Where the mask, broadcast to Z, is
    False, a cell is crossed out. The other arguments and the errors, ValueError and TypeError, are those of
    `attention_map`.

    >>> signed_map(np.array([[0.5, -2.0]])).get_images()[0].get_clim()
    (-2.0, 2.0)
    """
    ax = _prepare("Z", Z, queries, inputs, mask, ax)
    palette = palette_of(ax)
    negative, _, positive = palette.negative_to_positive
    top = limit if limit is not None else float(np.abs(Z).max(initial=0)) or 1.0
    colours = colour_map((negative, palette.page, positive))
    image = ax.imshow(Z, cmap=colours, vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
    if bar:
        scale = ax.figure.colorbar(image, ax=ax, aspect=30, pad=0.02)
        scale.ax.tick_params(colors=palette.ink, labelsize=9)
        scale.outline.set_edgecolor(palette.faint)
    _label(ax, Z.shape, queries, inputs)
    _cross_out(ax, Z.shape, mask)
    return ax


def heads(
    A: Array,
    queries: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
    *,
    axes: Sequence[Axes] | None = None,
    theme: Theme = "light",
) -> list[Axes]:
    """Draw weights A (H, N_Q, N_X), a map for each head, into `axes` or a new figure; return the Axes.

    Raises ValueError when A has other axes or `axes` another number, and what `attention_map` raises.

    >>> [ax.get_title() for ax in heads(np.full((2, 3, 4), 0.25))]
    ['head 1', 'head 2']
    """
    H, N_Q, N_X = Shapes(A="H N_Q N_X").check(A).values()
    if axes is None:
        axes = panels(H, 0.9 + 0.24 * min(N_X, LABELLED), 0.9 + 0.24 * min(N_Q, LABELLED), theme=theme)
    if len(axes) != H:
        raise ValueError(f"axes: expected {H}, one for each head of A {A.shape}, got {len(axes)}")
    for h, (weights, ax) in enumerate(zip(A, axes, strict=True)):
        title(attention_map(weights, queries, inputs, ax=ax), f"head {h + 1}")
        if h:
            ax.set_ylabel("")
    return list(axes)


def positions(P: Array, *, ax: Axes | None = None) -> Axes:
    """Draw position vectors P (N, D), as of `npattn.sinusoidal_positions`: from −1, blue, to 1, orange.

    Raises ValueError for another number of axes, TypeError for what is no floating array.

    >>> from npattn import sinusoidal_positions
    >>> positions(sinusoidal_positions(20, 8)).get_ylabel()
    'position $n$'
    """
    Shapes(P="N D").check(P)
    ax = ax or panels(1, 6.0, 3.6)[0]
    signed_map(P, limit=1.0, bar=True, ax=ax)
    ax.set(xlabel="column $d$", ylabel="position $n$")
    title(ax, "$P[n, d]$")
    return ax


def _prepare(
    name: str,
    Z: Array,
    queries: Sequence[str] | None,
    inputs: Sequence[str] | None,
    mask: Array | None,
    ax: Axes | None,
) -> Axes:
    """Check the arguments of a map, and return the Axes for it."""
    if Z.ndim != 2:
        raise ValueError(f"{name}: expected (N_Q, N_X), got {Z.shape}")
    for symbol, labels, size in (("queries", queries, Z.shape[0]), ("inputs", inputs, Z.shape[1])):
        if labels is not None and len(labels) != size:
            raise ValueError(f"{symbol}: expected {size} labels for {name} {Z.shape}, got {len(labels)}")
    check_broadcast("mask", mask, Z.shape, ("N_Q", "N_X"))
    N_Q, N_X = (min(size, LABELLED) for size in Z.shape)
    return ax or panels(1, max(3.0, 0.3 * N_X), max(2.4, 0.3 * N_Q))[0]


def _label(
    ax: Axes, shape: tuple[int, ...], queries: Sequence[str] | None, inputs: Sequence[str] | None
) -> None:
    if inputs is not None and shape[1] <= LABELLED:
        tilted = 45 if max(map(len, inputs), default=0) > 2 else 0
        ax.set_xticks(range(shape[1]), inputs, rotation=tilted, fontfamily=families())
    if queries is not None and shape[0] <= LABELLED:
        ax.set_yticks(range(shape[0]), queries, fontfamily=families())
    ax.tick_params(length=0 if inputs is not None or queries is not None else 3)
    ax.set(xlabel="attended to", ylabel="query")
    for spine in ax.spines.values():
        spine.set_visible(True)


def _cross_out(ax: Axes, shape: tuple[int, ...], mask: Array | None) -> None:
    if mask is not None:
        i, n = np.nonzero(~np.broadcast_to(mask, shape))
        ax.scatter(n, i, marker="x", s=14, linewidths=0.8, color=palette_of(ax).faint)
