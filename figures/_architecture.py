"""The Transformer of a configuration: every sub-layer with its shapes and its number of parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from npattn import TransformerConfig
from npattn.plot import Palette, palette_of, panels, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The picture is 100 units wide. All lengths are in these units.

#: Width of a box; height of a box, and of the box of a layer norm.
WIDTH, HEIGHT, NORM_HEIGHT = 35.0, 6.4, 4.0

#: Length of an arrow, and distance of a residual line from the boxes.
ARROW, RESIDUAL = 2.6, 3.0

#: The middles of the two stacks.
ENCODER, DECODER = 26.0, 74.0


class Box(NamedTuple):
    """A box: what it computes, the shapes of its parameters, their number, and the index of its colour."""

    name: str
    detail: str
    size: int
    colour: int


class Stack(NamedTuple):
    """Encoder or decoder, from its input at the bottom to its output at the top."""

    input: str
    before: tuple[Box, ...]
    sub_layers: tuple[tuple[Box, Box], ...]                   # the layer norm and the sub-layer, for one layer
    n_layers: int
    after: tuple[Box, ...]
    output: str


def architecture(config: TransformerConfig, *, ax: Axes | None = None) -> Axes:
    """Draw the Transformer of a configuration from bottom to top, as in figure 1 of "Attention Is All You Need".

    The boxes of a layer show the parameters of one layer; the frame around them shows the number of layers. The lines
    around sub-layers are residual sums. Raises ModuleNotFoundError when matplotlib is missing.

    >>> architecture(TransformerConfig(9, 7, d_model=8, n_heads=2, d_ff=16, n_encoder_layers=1)).get_title()
    '6,152 parameters: $D_X = 8$, $H = 2$, post-norm, tie=output'
    """
    ax = ax or panels(1, 8.3, 8.6)[0]
    encoder_top, _ = _draw_stack(ax, encoder_stack(config), ENCODER, config)
    decoder_top, cross_attention = _draw_stack(ax, decoder_stack(config), DECODER, config)
    _draw_encoder_output(ax, encoder_top, cross_attention)
    ax.set(xlim=(0, 100), ylim=(-1, max(encoder_top, decoder_top) + 2))
    ax.set_axis_off()
    sizes = f"$D_X = {config.d_model}$, $H = {config.n_heads}$, {config.norm}-norm, tie={config.tie}"
    title(ax, f"{count_parameters(config):,} parameters: {sizes}")
    return ax


def count_parameters(config: TransformerConfig, prefix: str = "") -> int:
    """Return the number of parameters whose names start with `prefix`."""
    return sum(math.prod(shape) for name, shape in config.shapes().items() if name.startswith(prefix))


def encoder_stack(config: TransformerConfig) -> Stack:
    """Return the encoder's boxes."""
    names = ("self_attention", "feed_forward") if config.n_encoder_layers else ()
    return Stack(
        "src $(B, N_S)$",
        (_embedding(config, config.source_embedding, config.src_vocab),),
        tuple(_sub_layer(config, "encoder", name, k) for k, name in enumerate(names, 1)),
        config.n_encoder_layers,
        _final_norm(config, "encoder"),
        "$M\\ (B, N_S, D_X)$",
    )


def decoder_stack(config: TransformerConfig) -> Stack:
    """Return the decoder's boxes, with the output projection."""
    names = ("self_attention", "cross_attention", "feed_forward")
    embedding = _embedding(config, config.target_embedding, config.tgt_vocab)
    if config.tie == "all":
        embedding = embedding._replace(size=0, detail="the same $W_E$")
    size = count_parameters(config, "output.W")
    detail = f"$W$ {config.d_model}×{config.tgt_vocab}" if size else "$W_E^{\\top}$, tied to the target embedding"
    return Stack(
        "tgt $(B, N_T)$",
        (embedding,),
        tuple(_sub_layer(config, "decoder", name, k) for k, name in enumerate(names, 1)),
        config.n_decoder_layers,
        (*_final_norm(config, "decoder"), Box("output projection", detail, size, 3)),
        f"logits $(B, N_T, V)$, $V = {config.tgt_vocab}$",
    )


def _embedding(config: TransformerConfig, name: str, vocabulary: int) -> Box:
    detail = f"$W_E$ {vocabulary}×{config.d_model}, times $\\sqrt{{D_X}}$, plus $P$"
    return Box("embedding + positions", detail, count_parameters(config, name), 3)


def _sub_layer(config: TransformerConfig, side: str, name: str, number: int) -> tuple[Box, Box]:
    """Return the boxes of a layer norm and of its sub-layer, which is number `number` in a layer."""
    D, F, prefix = config.d_model, config.d_ff, f"{side}.0."
    title = name.replace("_", "-")
    if name == "feed_forward":
        colour, detail = 2, f"$W_1$ {D}×{F}, $W_2$ {F}×{D}, {config.activation}"
    else:
        colour, detail = int(name == "cross_attention"), f"$W_Q, W_K, W_V, W_O$ {D}×{D}, $D_Q = {D // config.n_heads}$"
    if (side, name) == ("decoder", "self_attention"):
        title += ", causal"
    box = Box(title, detail, count_parameters(config, prefix + name), colour)
    return _norm(config, f"{prefix}norm_{number}."), box


def _norm(config: TransformerConfig, prefix: str) -> Box:
    return Box("layer norm", "$\\gamma, \\beta$" if config.bias else "$\\gamma$", count_parameters(config, prefix), 4)


def _final_norm(config: TransformerConfig, side: str) -> tuple[Box, ...]:
    """Return the box of the layer norm after the last layer; nothing when the configuration has none."""
    box = _norm(config, f"{side}.norm.")
    return (box,) if box.size else ()


def _draw_stack(ax: Axes, stack: Stack, x: float, config: TransformerConfig) -> tuple[float, float]:
    """Draw a stack. Return the height of its top, and of the middle of its cross-attention (0 without one)."""
    palette, pre = palette_of(ax), config.norm == "pre"
    ax.text(x, 0, stack.input, color=palette.ink, ha="center", va="center", fontsize=10)
    y, cross_attention = 1.4, 0.0
    for box in stack.before:
        y = _draw_box(ax, box, x, _arrow(ax, x, y, palette))
    bottom = y + 1.0
    for norm, box in stack.sub_layers:
        start = y + 1.8                                       # where the residual line leaves
        ax.plot([x, x], [y, start], color=palette.ink, linewidth=0.9)
        y = _draw_box(ax, norm, x, _arrow(ax, x, start, palette)) if pre else start
        y = _arrow(ax, x, y, palette)
        if box.name == "cross-attention":
            cross_attention = y + HEIGHT / 2
        y = _draw_sum(ax, x, start, _draw_box(ax, box, x, y), palette)
        y = y if pre else _draw_box(ax, norm, x, _arrow(ax, x, y, palette))
    if stack.sub_layers:
        y = _draw_frame(ax, x, bottom, y + 1.0, stack, palette)
    for box in stack.after:
        y = _draw_box(ax, box, x, _arrow(ax, x, y, palette))
    y = _arrow(ax, x, y, palette) + 1.2
    ax.text(x, y, stack.output, color=palette.ink, ha="center", va="center", fontsize=10)
    return y, cross_attention


def _draw_box(ax: Axes, box: Box, x: float, y: float) -> float:
    """Draw a box with its bottom at y, and return the height of its top."""
    palette = palette_of(ax)
    colour, norm = palette.colours[box.colour], box.name == "layer norm"
    top, left, right = y + (NORM_HEIGHT if norm else HEIGHT), x - WIDTH / 2, x + WIDTH / 2
    corners = ([left, right, right, left], [y, y, top, top])
    ax.fill(*corners, facecolor=palette.page, linewidth=0, zorder=2)
    ax.fill(*corners, facecolor=colour, alpha=0.18, linewidth=0, zorder=2)
    ax.fill(*corners, facecolor="none", edgecolor=colour, linewidth=1.1, zorder=2)
    ink: dict[str, Any] = {"color": palette.ink, "va": "center", "zorder": 3}
    upper = (y + top) / 2 if norm else top - HEIGHT * 0.3
    ax.text(left + 1, upper, f"{box.name}  {box.detail}" if norm else box.name, fontsize=9.5, **ink)
    ax.text(right - 1, upper, f"{box.size:,}" if box.size else "–", ha="right", fontsize=9.5, **ink)
    if not norm:
        ax.text(left + 1, y + HEIGHT * 0.27, box.detail, fontsize=8.5, **ink)
    return top


def _arrow(ax: Axes, x: float, y: float, palette: Palette) -> float:
    """Draw an arrow up from y, and return the height of its tip."""
    style = {"arrowstyle": "-|>", "color": palette.ink, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (x, y + ARROW), (x, y), arrowprops=style)
    return y + ARROW


def _draw_sum(ax: Axes, x: float, start: float, y: float, palette: Palette) -> float:
    """Draw the residual line from `start` around a sub-layer to a sum above y. Return the height of the sum's top."""
    side, height = x - WIDTH / 2 - RESIDUAL, y + 1.9
    line: dict[str, Any] = {"color": palette.ink, "linewidth": 0.9}
    ax.plot([x, side, side, x], [start, start, height, height], **line)
    ax.plot([x, x], [y, height], **line)
    circle = {"boxstyle": "circle,pad=0.08", "facecolor": palette.page, "edgecolor": palette.ink, "linewidth": 0.9}
    ax.text(x, height, "+", color=palette.ink, ha="center", va="center", fontsize=9, bbox=circle)
    return height + 0.9


def _draw_frame(ax: Axes, x: float, bottom: float, top: float, stack: Stack, palette: Palette) -> float:
    """Draw the frame of a layer, with the number of layers, and return the height of its top."""
    left, right = x - WIDTH / 2 - RESIDUAL - 1.5, x + WIDTH / 2 + 1.5
    size = sum(norm.size + box.size for norm, box in stack.sub_layers)
    ax.plot([left, right, right, left, left], [bottom, bottom, top, top, bottom], "--", color=palette.faint, lw=0.9)
    text = f"{stack.n_layers} layers × {size:,}"
    ax.text(right, top + 0.5, text, color=palette.ink, ha="right", va="bottom", fontsize=9.5)
    ax.plot([x, x], [top - 1.0, top], color=palette.ink, linewidth=0.9)
    return top


def _draw_encoder_output(ax: Axes, top: float, cross_attention: float) -> None:
    """Draw the line of M from the encoder's top to the decoder's cross-attention."""
    colour = palette_of(ax).colours[1]
    left, middle = ENCODER + 9.0, (ENCODER + DECODER) / 2 - 0.8
    ax.plot([left, middle, middle], [top, top, cross_attention], color=colour, linewidth=1.4)
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (DECODER - WIDTH / 2, cross_attention), (middle, cross_attention), arrowprops=style)
