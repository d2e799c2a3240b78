"""The drawing of both pictures of heads: a row of maps for each of three attentions, a map for each head.

A row of the decoder's weights has the name of the symbol that was written next, because it chose that symbol. The last
row chose the end, ‹eos›. All maps have one scale, from 0 to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npattn import Transformer, plot
from npattn.runs import attention_weights
from npattn.tasks import Codec

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_heads(
    model: Transformer, codec: Codec, source: str, target: str, heights: tuple[float, ...], theme: plot.Theme
) -> Axes:
    """Draw the last layer's cross-attention, encoder self-attention and decoder self-attention."""
    weights = attention_weights(model, codec, source, target)
    letters = codec.tokenize(source)
    symbols = [*codec.target_vocabulary.decode(codec.encode_target(target)[1:-1]), "‹eos›"]    # ‹bos› is not written
    decoder, encoder = f"decoder.{model.config.n_decoder_layers - 1}", f"encoder.{model.config.n_encoder_layers - 1}"
    before = ["‹bos›", *symbols[:-1]]
    rows = (                                                  # layer, title, queries, keys, and the names of both axes
        (f"{decoder}.cross_attention", "cross-attention", symbols, letters, "written next, $X_Q$", "source $X$"),
        (f"{encoder}.self_attention", "encoder self-attention", letters, letters, "source $X$", "source $X$"),
        (f"{decoder}.self_attention", "decoder self-attention", symbols, before, "written next, $X$",
         "target so far $X$"),
    )  # fmt: skip
    H = model.config.n_heads
    names = [[f"{row}{h}" for h in range(H)] for row in range(len(rows))]
    axes = plot.mosaic(names, 8.3, sum(heights), theme=theme, height_ratios=heights)
    for row, (layer, title, queries, keys, ylabel, xlabel) in zip(names, rows, strict=True):
        for h, ax in enumerate(plot.heads(weights[layer], queries, keys, axes=[axes[name] for name in row])):
            ax.tick_params(labelsize=7.5 if max(map(len, keys)) < 2 else 7)
            for label in ax.get_xticklabels():
                label.set_rotation(90 if len(label.get_text()) > 2 else 0)
            ax.set(xlabel=xlabel, ylabel="" if h else f"{title}\n{ylabel}")
    plot.colour_bar(list(axes.values()), "weights $A$", aspect=60)
    return axes["00"]
