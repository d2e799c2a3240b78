"""What both pictures of heads share: a row of maps for each of three attentions, a map for each head.

The decoder's queries are named after the symbol that was written next, with the weights of that row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npattn import plot
from npattn.runs.prediction import attention_weights
from npattn.tasks import Codec
from npattn.tasks.codec import tokenize
from npattn.transformer import Transformer

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_heads(
    model: Transformer, codec: Codec, source: str, target: str, heights: tuple[float, ...], theme: plot.Theme
) -> Axes:
    """Draw the last layer's cross-attention, encoder self-attention and decoder self-attention."""
    weights = attention_weights(model, codec, source, target)
    letters, symbols = codec.tokenize(source), tokenize(target, codec.target_unit)
    last = model.config.n_decoder_layers - 1
    decoder, encoder = f"decoder.{last}", f"encoder.{model.config.n_encoder_layers - 1}"
    before = ["‹bos›", *symbols[:-1]]
    said, so_far, chosen = "source $X$", "target so far $X$", "written next"
    rows = (
        (f"{decoder}.cross_attention", "cross-attention", symbols, letters, said, f"{chosen}, $X_Q$"),
        (f"{encoder}.self_attention", "encoder self-attention", letters, letters, said, said),
        (f"{decoder}.self_attention", "decoder self-attention", symbols, before, so_far, f"{chosen}, $X$"),
    )
    H = model.config.n_heads
    names = [[f"{kind}{h}" for h in range(H)] for kind in range(3)]
    axes = plot.mosaic(names, 8.3, sum(heights), theme=theme, height_ratios=heights)
    for kind, (name, title, queries, inputs, below, beside) in enumerate(rows):
        group = plot.heads(weights[name], queries, inputs, axes=[axes[each] for each in names[kind]])
        for h, ax in enumerate(group):
            ax.tick_params(labelsize=7.5 if max(map(len, inputs)) < 2 else 7)
            ax.set(xlabel=below, ylabel="" if h else f"{title}\n{beside}")
    return axes["00"]
