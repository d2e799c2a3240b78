"""The Transformer as its configuration makes it: every sub-layer with its shapes and its number of parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from npattn.plot import Palette, palette_of, panels, title
from npattn.transformer import TransformerConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The picture's coordinates run from 0 to 100 across; these are sizes in the same unit.
BOX, TALL, SMALL, GAP, ARM = 35.0, 6.4, 4.0, 2.6, 3.0
ENCODER, DECODER = 26.0, 74.0                                 # the middles of the two stacks


class Part(NamedTuple):
    """A box: what it does, the shapes of its parameters, how many numbers these are, and its colour's place."""

    name: str
    detail: str
    size: int
    colour: int


class Stack(NamedTuple):
    """Encoder or decoder, from its input at the bottom to its output."""

    source: str
    before: tuple[Part, ...]
    sub_layers: tuple[tuple[Part, Part], ...]                 # each with its layer norm
    repeated: int
    after: tuple[Part, ...]
    result: str


def architecture(config: TransformerConfig, *, ax: Axes | None = None) -> Axes:
    """Draw the Transformer of a configuration from bottom to top, as in figure 1 of "Attention Is All You Need".

    The boxes of a layer show the parameters of one layer; the frame around them says how often it comes. Lines around
    a sub-layer are residual sums. Raises ModuleNotFoundError without matplotlib.

    >>> architecture(TransformerConfig(9, 7, d_model=8, n_heads=2, d_ff=16, n_encoder_layers=1)).get_title()
    '6,152 parameters: $D_X = 8$, $H = 2$, post-norm, tie=output'
    """
    ax = ax or panels(1, 8.3, 8.6)[0]
    encoder, decoder = encoder_stack(config), decoder_stack(config)
    tops, heights = zip(
        *(_draw_stack(ax, stack, x, config) for stack, x in ((encoder, ENCODER), (decoder, DECODER))), strict=True
    )
    _draw_memory(ax, tops[0], heights[1])
    ax.set(xlim=(0, 100), ylim=(-1, max(tops) + 2))
    ax.set_axis_off()
    title(ax, f"{total(config):,} parameters: {_summary(config)}")
    return ax


def total(config: TransformerConfig) -> int:
    """Return the number of parameters."""
    return sum(map(math.prod, config.shapes().values()))


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
    """Return the decoder's boxes, the output projection among them."""
    names = ("self_attention", "cross_attention", "feed_forward")
    embedding = _embedding(config, config.target_embedding, config.tgt_vocab)
    if config.tie == "all":
        embedding = embedding._replace(size=0, detail="the same $W_E$")
    count = _count(config, "output.W")
    shape = f"$W$ {config.d_model}×{config.tgt_vocab}" if count else "$W_E^{\\top}$, tied to the target embedding"
    return Stack(
        "tgt $(B, N_T)$",
        (embedding,),
        tuple(_sub_layer(config, "decoder", name, k) for k, name in enumerate(names, 1)),
        config.n_decoder_layers,
        (*_final_norm(config, "decoder"), Part("output projection", shape, count, 3)),
        f"logits $(B, N_T, V)$, $V = {config.tgt_vocab}$",
    )


def _summary(config: TransformerConfig) -> str:
    return f"$D_X = {config.d_model}$, $H = {config.n_heads}$, {config.norm}-norm, tie={config.tie}"


def _count(config: TransformerConfig, prefix: str) -> int:
    return sum(math.prod(shape) for name, shape in config.shapes().items() if name.startswith(prefix))


def _embedding(config: TransformerConfig, name: str, size: int) -> Part:
    detail = f"$W_E$ {size}×{config.d_model}, times $\\sqrt{{D_X}}$, plus $P$"
    return Part("embedding + positions", detail, _count(config, name), 3)


def _sub_layer(config: TransformerConfig, side: str, name: str, number: int) -> tuple[Part, Part]:
    D, F, prefix = config.d_model, config.d_ff, f"{side}.0."
    if name == "feed_forward":
        shown, colour, detail = "feed-forward", 2, f"$W_1$ {D}×{F}, $W_2$ {F}×{D}, {config.activation}"
    else:
        shown, colour = name.replace("_", "-"), 1 if name == "cross_attention" else 0
        shown += ", causal" * (side == "decoder" and name == "self_attention")
        detail = f"$W_Q, W_K, W_V, W_O$ {D}×{D}, $D_Q = {D // config.n_heads}$"
    norm = Part("layer norm", "$\\gamma, \\beta$" if config.bias else "$\\gamma$",
                _count(config, f"{prefix}norm_{number}."), 4)  # fmt: skip
    return norm, Part(shown, detail, _count(config, prefix + name), colour)


def _final_norm(config: TransformerConfig, side: str) -> tuple[Part, ...]:
    count = _count(config, f"{side}.norm.")
    return (Part("layer norm", "$\\gamma, \\beta$" if config.bias else "$\\gamma$", count, 4),) * (count > 0)


def _draw_stack(ax: Axes, stack: Stack, x: float, config: TransformerConfig) -> tuple[float, float]:
    """Draw a stack; return the height of its top and of the middle of its cross-attention."""
    palette = palette_of(ax)
    ax.text(x, 0, stack.source, color=palette.ink, ha="center", va="center", fontsize=10)
    y, cross = 1.4, 0.0
    for part in stack.before:
        y = _draw_box(ax, part, x, _arrow(ax, x, y, palette))
    bottom = y + 1.0
    for norm, part in stack.sub_layers:
        start = y + 1.8
        ax.plot([x, x], [y, start], color=palette.ink, linewidth=0.9)
        pre = config.norm == "pre"
        y = _draw_box(ax, norm, x, _arrow(ax, x, start, palette)) if pre else start
        y = _arrow(ax, x, y, palette)
        cross = y + TALL / 2 if part.name == "cross-attention" else cross
        y = _draw_box(ax, part, x, y)
        y = _draw_sum(ax, x, start, y, palette)
        y = y if pre else _draw_box(ax, norm, x, _arrow(ax, x, y, palette))
    if stack.sub_layers:
        y = _draw_frame(ax, x, bottom, y + 1.0, stack, palette)
    for part in stack.after:
        y = _draw_box(ax, part, x, _arrow(ax, x, y, palette))
    y = _arrow(ax, x, y, palette)
    ax.text(x, y + 1.2, stack.result, color=palette.ink, ha="center", va="center", fontsize=10)
    return y + 1.2, cross


def _draw_box(ax: Axes, part: Part, x: float, y: float) -> float:
    """Draw a box that stands on y, and return the height of its top."""
    palette = palette_of(ax)
    colour, small = palette.colours[part.colour], part.name == "layer norm"
    top, left, right = y + (SMALL if small else TALL), x - BOX / 2, x + BOX / 2
    corners = ([left, right, right, left], [y, y, top, top])
    ax.fill(*corners, facecolor=palette.page, linewidth=0, zorder=2)
    ax.fill(*corners, facecolor=colour, alpha=0.18, linewidth=0, zorder=2)
    ax.fill(*corners, facecolor="none", edgecolor=colour, linewidth=1.1, zorder=2)
    ink: dict[str, Any] = {"color": palette.ink, "va": "center", "zorder": 3}
    upper = (y + top) / 2 if small else top - TALL * 0.3
    ax.text(left + 1, upper, part.name + f"  {part.detail}" * small, fontsize=9.5, **ink)
    ax.text(right - 1, upper, f"{part.size:,}" if part.size else "–", ha="right", fontsize=9.5, **ink)
    if not small:
        ax.text(left + 1, y + TALL * 0.27, part.detail, fontsize=8.5, **ink)
    return top


def _arrow(ax: Axes, x: float, y: float, palette: Palette) -> float:
    """Draw an arrow up from y, and return the height of its tip."""
    style = {"arrowstyle": "-|>", "color": palette.ink, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (x, y + GAP), (x, y), arrowprops=style)
    return y + GAP


def _draw_sum(ax: Axes, x: float, start: float, y: float, palette: Palette) -> float:
    """Draw the residual line from `start` around a sub-layer to a sum above it, and return the sum's height."""
    side, height = x - BOX / 2 - ARM, y + 1.9
    line: dict[str, Any] = {"color": palette.ink, "linewidth": 0.9}
    ax.plot([x, side, side, x], [start, start, height, height], **line)
    ax.plot([x, x], [y, height], **line)
    circle = {"boxstyle": "circle,pad=0.08", "facecolor": palette.page, "edgecolor": palette.ink, "linewidth": 0.9}
    ax.text(x, height, "+", color=palette.ink, ha="center", va="center", fontsize=9, bbox=circle)
    return height + 0.9


def _draw_frame(ax: Axes, x: float, bottom: float, top: float, stack: Stack, palette: Palette) -> float:
    """Draw the frame of a layer, with how often it is repeated, and return the height of its top."""
    left, right = x - BOX / 2 - ARM - 1.5, x + BOX / 2 + 1.5
    each = sum(norm.size + part.size for norm, part in stack.sub_layers)
    ax.plot([left, right, right, left, left], [bottom, bottom, top, top, bottom], "--", color=palette.faint, lw=0.9)
    times = f"{stack.repeated} layers × {each:,}"
    ax.text(right, top + 0.5, times, color=palette.ink, ha="right", va="bottom", fontsize=9.5)
    ax.plot([x, x], [top - 1.0, top], color=palette.ink, linewidth=0.9)
    return top


def _draw_memory(ax: Axes, top: float, cross: float) -> None:
    """Draw the way of M from the encoder's top to the decoder's cross-attention."""
    palette = palette_of(ax)
    left, middle = ENCODER + 9.0, (ENCODER + DECODER) / 2 - 0.8
    ax.plot([left, middle, middle], [top, top, cross], color=palette.colours[1], linewidth=1.4)
    style = {"arrowstyle": "-|>", "color": palette.colours[1], "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (DECODER - BOX / 2, cross), (middle, cross), arrowprops=style)
