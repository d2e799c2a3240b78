"""What every target symbol looked at in the source: the decoder's cross-attention as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from npattn import plot
from npattn._internal.checks import Array
from npattn.cli.terminal.console import WIDTH, left, shortened, width
from npattn.runs.prediction import attention_weights
from npattn.tasks import Codec
from npattn.tasks.codec import tokenize
from npattn.transformer import Transformer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Maps of different texts that stand side by side, at most.
ABREAST = 3

#: Shades for shares of a row's largest weight: below 1/10, below 3/10, …
SHADES = " ░▒▓█"
LIMITS = (0.1, 0.3, 0.55, 0.8)


def alignment(model: Transformer, codec: Codec, source: str, target: str) -> Array:
    """Return the weights (H, N_T, N_S) of the last layer's cross-attention, the row of each symbol of `target`.

    Row i holds the weights with which symbol i was chosen, when the decoder had read the symbols before it.
    """
    weights = attention_weights(model, codec, source, target)
    return weights[f"decoder.{model.config.n_decoder_layers - 1}.cross_attention"]


def draw_alignments(
    model: Transformer, codec: Codec, pairs: Sequence[tuple[str, str]], *, per_head: bool = False
) -> Axes:
    """Draw the alignment of every pair (source, target): a row of maps for each, one for each head or their mean."""
    weights = [alignment(model, codec, *pair) for pair in pairs]
    rows = weights if per_head else [A.mean(0, keepdims=True) for A in weights]
    columns = model.config.n_heads if per_head else min(len(pairs), ABREAST)
    widest, tallest = max(A.shape[-1] for A in rows), max(A.shape[-2] for A in rows)
    size = max(3.0, 0.26 * widest + 0.9), max(2.4, 0.26 * tallest + 0.9)
    axes = plot.panels(sum(map(len, rows)), *size, columns=columns)
    remaining = iter(axes)
    for (source, target), heads in zip(pairs, rows, strict=True):
        symbols, letters = tokenize(target, codec.target_unit), codec.tokenize(source)
        for h, A in enumerate(heads, 1):
            ax = plot.attention_map(A, symbols, letters, ax=next(remaining))
            ax.set(xlabel="source", ylabel="target")
            plot.title(ax, f"head {h}" if per_head else "mean of the heads")
    return axes[0]


def align_lines(A: Array, codec: Codec, source: str, target: str, *, per_head: bool = False) -> list[str]:
    """Draw weights (H, N_T, N_S): the source across, the target down, for their mean or for every head."""
    sources, targets = codec.tokenize(source), tokenize(target, codec.target_unit)
    if not per_head:
        return ["", *draw(A.mean(0), sources, targets), ""]
    blocks = [[f"  head {h + 1}", *draw(weights, sources, targets)] for h, weights in enumerate(A)]
    return ["", *side_by_side(blocks)]


def draw(A: Array, sources: Sequence[str], targets: Sequence[str], columns: int = WIDTH) -> list[str]:
    """Draw weights (N_T, N_S) as shades, a row for each target symbol; a source that is too long goes on below.

    >>> import numpy as np
    >>> print("\\n".join(draw(np.array([[0.9, 0.1, 0.0], [0.0, 0.3, 0.7]]), "abc", "XY")))
        abc
      X █░
      Y  ▒█
    """
    margin = max([width(symbol) for symbol in targets], default=0) + 3
    gap = max(map(width, sources)) > 2                        # symbols of several letters stand apart
    lines = []
    for part in _parts(sources, columns - margin, gap):
        lines.append(" " * margin + "".join(shortened(sources[n], columns - margin) + " " * gap for n in part))
        for symbol, row in zip(targets, A, strict=True):
            shades = "".join(_shade(row[n] / row.max()) * width(sources[n]) + " " * gap for n in part)
            lines.append("  " + left(symbol, margin - 2) + shades[: columns - margin])
    return [line.rstrip() for line in lines]


def side_by_side(blocks: Sequence[list[str]], columns: int = WIDTH) -> list[str]:
    """Set blocks of as many lines next to each other, as far as the width allows, and the others below.

    >>> side_by_side([["ab", "c"], ["d", "e"], ["f", "g"]], columns=7)
    ['ab  d', 'c   e', '', 'f', 'g', '']
    """
    each = max(width(line) for block in blocks for line in block) + 2
    abreast = max(1, (columns + 2) // each)
    lines = []
    for start in range(0, len(blocks), abreast):
        rows = zip(*blocks[start : start + abreast], strict=True)
        lines += ["".join(left(line, each) for line in row).rstrip() for row in rows] + [""]
    return lines


def _shade(share: float) -> str:
    return SHADES[sum(share >= limit for limit in LIMITS)]


def _parts(sources: Sequence[str], columns: int, gap: bool) -> Iterator[list[int]]:
    """Cut the source into as many parts as the width asks for."""
    part: list[int] = []
    used = 0
    for n, symbol in enumerate(sources):
        needed = width(symbol) + gap
        if part and used + needed > columns:
            yield part
            part, used = [], 0
        part.append(n)
        used += needed
    yield part
