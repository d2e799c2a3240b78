"""The decoder's cross-attention as text: the weights of every target symbol over the source symbols."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from npattn import plot
from npattn._internal.checks import Array
from npattn.cli.terminal.console import WIDTH, pad_right, shortened, width
from npattn.runs.prediction import attention_weights
from npattn.tasks import Codec
from npattn.tasks.vocabulary import EOS, SPECIALS
from npattn.transformer import Transformer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Maps of different texts in a row of the picture, at most.
MAPS_IN_A_ROW = 3

#: Shades of a weight from 0 to 1: below 0.05, below 0.2, … The scale is the same in every map.
SHADES = " ░▒▓█"
LIMITS = (0.05, 0.2, 0.4, 0.7)
LEGEND = ", ".join(f"{shade} from {limit}" for shade, limit in zip(SHADES[1:], LIMITS, strict=True))


def alignment(model: Transformer, codec: Codec, source: str, target: str) -> Array:
    """Return the weights (H, N_T + 1, N_S) of the last layer's cross-attention: a row for each symbol, and for <eos>.

    Row i holds the weights of the decoder's step that chose symbol i, after it had read the symbols before i.
    """
    weights = attention_weights(model, codec, source, target)
    return weights[f"decoder.{model.config.n_decoder_layers - 1}.cross_attention"]


def draw_alignments(
    model: Transformer, codec: Codec, pairs: Sequence[tuple[str, str]], *, per_head: bool = False
) -> Axes:
    """Draw the alignment of every pair (source, target) in one figure: the mean of the heads, or every head."""
    weights = [alignment(model, codec, *pair) for pair in pairs]
    rows = weights if per_head else [A.mean(0, keepdims=True) for A in weights]
    columns = model.config.n_heads if per_head else min(len(pairs), MAPS_IN_A_ROW)
    widest, tallest = max(A.shape[-1] for A in rows), max(A.shape[-2] for A in rows)
    size = max(3.0, 0.26 * widest + 0.9), max(2.4, 0.26 * tallest + 0.9)
    axes = plot.panels(sum(map(len, rows)), *size, columns=columns)
    remaining = iter(axes)
    for (source, target), heads in zip(pairs, rows, strict=True):
        for h, A in enumerate(heads, 1):
            ax = plot.attention_map(A, written(codec, target), codec.tokenize(source), ax=next(remaining))
            ax.set(xlabel="source", ylabel="target")
            plot.title(ax, f"head {h}" if per_head else "mean of the heads")
    plot.colour_bar(axes, "weights $A$ from 0 to 1,\nthe same scale in every picture")
    return axes[0]


def written(codec: Codec, target: str) -> list[str]:
    """Return the symbols of a target text that the decoder chose, with <eos>: they name the rows of its weights."""
    return [*codec.tokenize_target(target), SPECIALS[EOS]]


def alignment_lines(A: Array, codec: Codec, source: str, target: str, *, per_head: bool = False) -> list[str]:
    """Return weights (H, N_T + 1, N_S) as text: source across, target down, the mean of the heads or every head."""
    sources, targets = codec.tokenize(source), written(codec, target)
    if not per_head:
        return ["", *shade_lines(A.mean(0), sources, targets), ""]
    heads = [[f"  head {h}", *shade_lines(weights, sources, targets)] for h, weights in enumerate(A, 1)]
    return ["", *side_by_side(heads)]


def shade_lines(A: Array, sources: Sequence[str], targets: Sequence[str], columns: int = WIDTH) -> list[str]:
    """Return weights (N_T, N_S) as shades, a row for each target symbol; a long source continues below.

    >>> import numpy as np
    >>> print("\\n".join(shade_lines(np.array([[0.9, 0.1, 0.0], [0.0, 0.3, 0.7]]), "abc", "XY")))
        abc
      X █░
      Y  ▒█
    """
    margin = max([width(symbol) for symbol in targets], default=0) + 3
    gap = max(map(width, sources)) > 2                        # a space separates symbols of several letters
    lines = []
    for part in _parts(sources, columns - margin, gap):
        lines.append(" " * margin + "".join(shortened(sources[n], columns - margin) + " " * gap for n in part))
        for symbol, row in zip(targets, A, strict=True):
            shades = "".join(shade(row[n]) * width(sources[n]) + " " * gap for n in part)
            lines.append("  " + pad_right(symbol, margin - 2) + shades[: columns - margin])
    return [line.rstrip() for line in lines]


def legend_line(per_head: bool) -> str:
    """Return what the numbers of `alignment_lines` are, and below it what the shades mean.

    >>> print(legend_line(per_head=False))
      weights A of the last decoder layer's cross-attention, the mean of its heads:
      ░ from 0.05, ▒ from 0.2, ▓ from 0.4, █ from 0.7
    """
    heads = "every head" if per_head else "the mean of its heads"
    return f"  weights A of the last decoder layer's cross-attention, {heads}:\n  {LEGEND}"


def side_by_side(texts: Sequence[list[str]], columns: int = WIDTH) -> list[str]:
    """Set texts of equally many lines next to each other, as many as the width allows, and the others below.

    >>> side_by_side([["ab", "c"], ["d", "e"], ["f", "g"]], columns=7)
    ['ab  d', 'c   e', '', 'f', 'g', '']
    """
    column = max(width(line) for text in texts for line in text) + 2
    abreast = max(1, (columns + 2) // column)
    lines = []
    for start in range(0, len(texts), abreast):
        rows = zip(*texts[start : start + abreast], strict=True)
        lines += ["".join(pad_right(line, column) for line in row).rstrip() for row in rows] + [""]
    return lines


def shade(a: float) -> str:
    """Return the shade of a weight, see `LEGEND`."""
    return SHADES[sum(a >= limit for limit in LIMITS)]


def _parts(sources: Sequence[str], columns: int, gap: bool) -> Iterator[list[int]]:
    """Cut the source into parts that fit the width; yield the indices of each part."""
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
