"""Matrices drawn as coloured cells: attention weights, gradients, positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npattn._internal.checks import Array, Shapes, check_broadcast, check_floating
from npattn.plot.canvas import Palette, Theme, colour_map, palette_of, panels, title
from npattn.plot.fonts import families

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: A row or column with more cells than this gets no labels.
LABELLED = 60

#: A weight may exceed 1 by so much, from rounding in a low precision.
ROUNDING = 1e-2


def attention_map(
    A: Array,
    queries: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
    *,
    mask: Array | None = None,
    numbers: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw attention weights: the colour of the page is 0, the fullest colour is 1.

    - A: weights (N_Q, N_X), a row for each query.
    - queries, inputs: labels of rows and columns; None for none. More than 60 labels are not drawn.
    - mask: boolean, broadcast to A, True = may attend. Where it is False, the cell is crossed out. None hides nothing.
    - numbers: True writes each weight into its cell, with two decimals.
    - ax: the Axes to draw into; None makes a new figure.

    Chinese labels need an installed font that has their letters.
    Raises ValueError when A has not two axes or numbers that are no weights, the number of labels is wrong or the mask
    does not broadcast to A; TypeError for an A that is no floating array and a mask that is not boolean;
    ModuleNotFoundError when matplotlib is missing.

    >>> ax = attention_map(np.array([[0.25, 0.75]]), ["y"], ["x", "z"], numbers=True)
    >>> [text.get_text() for text in ax.texts]
    ['0.25', '0.75']
    """
    ax, palette = _prepare("A", A, queries, inputs, mask, ax)
    if not ((A >= 0) & (A <= 1 + ROUNDING)).all():
        raise ValueError("A: expected weights from 0 to 1, got others; signed_map draws any numbers")
    ax.imshow(A, cmap=colour_map((palette.page, *palette.low_to_high[1:])), vmin=0, vmax=1, aspect="auto")
    _label(ax, A.shape, queries, inputs, mask)
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
    ax: Axes | None = None,
) -> Axes:
    """Draw a matrix of negative and positive numbers, such as dE: blue is negative, the page 0, orange positive.

    - Z: numbers (N_Q, N_X).
    - queries, inputs: labels of rows and columns; None for none.
    - mask: boolean, broadcast to Z, True = may attend. Where it is False, the cell is crossed out. None hides nothing.
    - limit: the colours end at −limit and limit; None takes the largest absolute value in Z.
    - ax: the Axes to draw into; None makes a new figure.

    Raises what `attention_map` raises: ValueError, for numbers that are not finite too, TypeError and
    ModuleNotFoundError.

    >>> signed_map(np.array([[0.5, -2.0]])).get_images()[0].get_clim()
    (-2.0, 2.0)
    """
    ax, palette = _prepare("Z", Z, queries, inputs, mask, ax)
    if not np.isfinite(Z).all():
        raise ValueError("Z: expected finite numbers, got others")
    negative, _, positive = palette.negative_to_positive
    top = limit if limit is not None else float(np.abs(Z).max(initial=0)) or 1.0
    cmap = colour_map((negative, palette.page, positive))
    ax.imshow(Z, cmap=cmap, vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
    _label(ax, Z.shape, queries, inputs, mask)
    return ax


def colour_bar(axes: Sequence[Axes], label: str, **options: Any) -> Axes:
    """Add one bar of colours with numbers beside maps that have the same scale, and return its Axes.

    - axes: the Axes of the maps, all in one figure. The scale is that of the first.
    - label: what the numbers are.
    - options: those of matplotlib's `colorbar`.

    Raises ValueError when the first Axes hold no map.

    >>> ax = signed_map(np.array([[0.5, -2.0]]))
    >>> colour_bar([ax], "gradient $dE$").get_ylabel()
    'gradient $dE$'
    """
    if not axes or not axes[0].get_images():
        raise ValueError("axes: expected Axes of maps, got none")
    palette = palette_of(axes[0])
    bar = axes[0].figure.colorbar(axes[0].get_images()[0], ax=list(axes), **{"aspect": 30, "pad": 0.02, **options})
    bar.ax.tick_params(colors=palette.ink, labelsize=9, width=0.8)
    bar.outline.set_edgecolor(palette.faint)
    bar.set_label(label, color=palette.ink)
    return bar.ax


def heads(
    A: Array,
    queries: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
    *,
    axes: Sequence[Axes] | None = None,
    theme: Theme = "light",
) -> list[Axes]:
    """Draw the attention weights of several heads, a map for each head, and return the Axes.

    - A: weights (H, N_Q, N_X).
    - queries, inputs: labels of rows and columns; None for none.
    - axes: the Axes to draw into, one for each head; None makes a new figure.
    - theme: "light" or "dark", the theme of the new figure.

    Raises ValueError when A has not three axes or `axes` are not H, and what `attention_map` raises.

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
    """Draw position vectors, from −1, blue, to 1, orange.

    - P: position vectors (N, D), as `npattn.sinusoidal_positions` returns them.
    - ax: the Axes to draw into; None makes a new figure.

    Raises ValueError for another number of axes, TypeError for what is no floating array.

    >>> from npattn import sinusoidal_positions
    >>> positions(sinusoidal_positions(20, 8)).get_ylabel()
    'position $n$'
    """
    Shapes(P="N D").check(P)
    ax = signed_map(P, limit=1.0, ax=ax or panels(1, 6.0, 3.6)[0])
    colour_bar([ax], "blue negative, orange positive")
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
) -> tuple[Axes, Palette]:
    """Check the arguments of a map. Return its Axes and their palette."""
    check_floating(name, Z)
    if Z.ndim != 2:
        raise ValueError(f"{name}: expected (N_Q, N_X), got {Z.shape}")
    for symbol, labels, size in (("queries", queries, Z.shape[0]), ("inputs", inputs, Z.shape[1])):
        if labels is not None and len(labels) != size:
            raise ValueError(f"{symbol}: expected {size} labels for {name} {Z.shape}, got {len(labels)}")
    check_broadcast("mask", mask, Z.shape, ("N_Q", "N_X"))
    N_Q, N_X = (min(size, LABELLED) for size in Z.shape)
    ax = ax or panels(1, max(3.0, 0.3 * N_X), max(2.4, 0.3 * N_Q))[0]
    return ax, palette_of(ax)


def _label(
    ax: Axes,
    shape: tuple[int, ...],
    queries: Sequence[str] | None,
    inputs: Sequence[str] | None,
    mask: Array | None,
) -> None:
    """Label the rows and columns of a map, frame it, and cross out the cells that the mask hides."""
    if inputs is not None and shape[1] <= LABELLED:
        tilted = 45 if max(map(len, inputs), default=0) > 2 else 0
        ax.set_xticks(range(shape[1]), inputs, rotation=tilted, fontfamily=families())
    if queries is not None and shape[0] <= LABELLED:
        ax.set_yticks(range(shape[0]), queries, fontfamily=families())
    ax.tick_params(length=0 if inputs is not None or queries is not None else 3)
    ax.set(xlabel="attended to", ylabel="query")
    for spine in ax.spines.values():
        spine.set_visible(True)
    if mask is not None:
        i, n = np.nonzero(~np.broadcast_to(mask, shape))
        ax.scatter(n, i, marker="x", s=14, linewidths=0.8, color=palette_of(ax).faint)
