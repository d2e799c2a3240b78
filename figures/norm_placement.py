"""Pre-norm against post-norm: the gradient of every decoder layer of a new model, and how models of both kinds learn.

    post-norm    Y = norm(X + f(X))        as in Vaswani et al. (2017)
    pre-norm     Y = X + f(norm(X))        as in most later models

**Shown**  Left and middle: the norm of the gradient of all parameters of a layer, before the first step. With pre-norm
the layers of a deep model get gradients of similar size, since dY reaches every layer through the sums, unchanged. With
post-norm every gradient passes the backward of each norm above it: in 18 layers the first gets less than a hundredth
of the last. Right: models of 4 + 4 layers learn to write six symbols backwards, all at one rate. Here post-norm learns
much faster with the warm-up, and pre-norm needs none.

**Not shown**  That post-norm is worse once it is trained, or that no other rate suits it. At a smaller rate it needs no
warm-up, but more steps. The models are tiny, and the task is one.

Source: Xiong et al. (2020), arXiv:2002.04745, who derive the sizes and compare larger models.
`python figures/norm_placement.py` prints the numbers in two tables.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from npattn import Adam, Trainer, Transformer, TransformerConfig, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NORMS = ("pre", "post")
DEPTHS = (2, 6, 12, 18)
SEEDS = range(4)

#: Of the training: layers of encoder and decoder, steps, the highest rate, the steps of the warm-up, and the steps
#: whose mean is a point of the curve.
LAYERS, STEPS, RATE, WARMUP, POINT = 4, 400, 3e-3, 100, 20

#: Ids from 3 to 12 are ten symbols; rows of a batch and symbols of a row.
VOCABULARY, BATCH, LENGTH = 13, 16, 6


def new_model(norm: str, layers: int, seed: int) -> Transformer:
    """Return a model with new parameters."""
    config = TransformerConfig(
        VOCABULARY, VOCABULARY, d_model=32, n_heads=4, d_ff=64, n_encoder_layers=layers, n_decoder_layers=layers,
        dropout=0.0, norm=norm,
    )  # fmt: skip
    return Transformer(config, rng=seed)


def new_batch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return sources, and targets that are the sources backwards between <bos> and <eos>."""
    src = rng.integers(3, VOCABULARY, (BATCH, LENGTH))
    return src, np.pad(src[:, ::-1], ((0, 0), (1, 1)), constant_values=((0, 0), (1, 2)))


@cache
def gradient_norms(norm: str, layers: int) -> np.ndarray:
    """Return the norm of the gradient of each decoder layer's parameters, (seeds, layers)."""
    norms = np.zeros((len(SEEDS), layers))
    for row, seed in zip(norms, SEEDS, strict=True):
        src, tgt = new_batch(np.random.default_rng(seed))
        _, grads = new_model(norm, layers, seed).loss_and_gradients(src, tgt, smoothing=0)
        for i in range(layers):
            own = [np.linalg.norm(dp) for name, dp in grads.items() if name.startswith(f"decoder.{i}.")]
            row[i] = np.linalg.norm(own)
    return norms


@cache
def losses(norm: str, warmup: int) -> np.ndarray:
    """Return the losses of the steps, (seeds, STEPS)."""
    found = np.zeros((len(SEEDS), STEPS))
    for row, seed in zip(found, SEEDS, strict=True):
        rng, model = np.random.default_rng(seed), new_model(norm, LAYERS, seed)
        trainer = Trainer(model, Adam(model.params), smoothing=0, workers=1)
        for step in range(STEPS):
            rate = RATE * min(1, (step + 1) / max(warmup, 1))
            row[step] = trainer.step(*new_batch(rng), lr=rate)
    return found


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw the gradients of both kinds, and the losses with and without warm-up."""
    axes = plot.mosaic(["eeeooollll"], 8.3, 3.7, theme=theme)
    colours = plot.palette_of(axes["e"]).colours
    for key, norm in zip("eo", NORMS, strict=True):
        ax = axes[key]
        for layers, colour, style in zip(DEPTHS, (*colours[2:5], colours[0]), (":", "-.", "--", "-"), strict=False):
            line = {"color": colour, "label": f"{layers} layers", "marker": "o", "markersize": 2.5}
            ax.plot(range(1, layers + 1), np.median(gradient_norms(norm, layers), 0), style, **line)
        ax.set(yscale="log", xlabel="decoder layer", ylabel="norm of its gradient", ylim=(5e-4, 10), xticks=DEPTHS)
        plot.title(ax, f"{norm}-norm, a new model")
        plot.grid(ax)
    axes["o"].set_ylabel("")
    plot.legend(axes["o"], loc="lower right")
    for norm, colour in zip(NORMS, colours, strict=False):
        for warmup, style in ((0, "--"), (WARMUP, "-")):
            means = losses(norm, warmup).reshape(len(SEEDS), -1, POINT).mean(-1)
            steps = POINT * (np.arange(means.shape[1]) + 0.5)
            plot.spread(steps, means, colour=colour, ax=axes["l"])
            axes["l"].lines[-1].set(linestyle=style, label=f"{norm}, {'warm-up' if warmup else 'no warm-up'}")
    axes["l"].set(xlabel="step", ylabel="loss, nats a token", ylim=(0, None))
    plot.title(axes["l"], f"training, {LAYERS} + {LAYERS} layers")
    plot.legend(axes["l"], loc="upper right", handlelength=3)
    return axes["e"]


def table() -> str:
    """Return the gradients of the first and the last layer, and the losses at the end, in Markdown."""
    lines = ["| norm | layers | gradient of the first | of the last | last / first |", "|---|---:|---:|---:|---:|"]
    for norm in NORMS:
        for layers in DEPTHS:
            first, *_, last = np.median(gradient_norms(norm, layers), 0)
            lines.append(f"| {norm} | {layers} | {first:.2g} | {last:.2g} | {last / first:.2g} |")
    lines += ["", f"| norm | warm-up | mean loss of the last {POINT} steps | of each seed |", "|---|---:|---:|---|"]
    for norm in NORMS:
        for warmup in (0, WARMUP):
            ends = losses(norm, warmup)[:, -POINT:].mean(1)
            lines.append(f"| {norm} | {warmup} | {np.median(ends):.2f} | {' '.join(f'{end:.2f}' for end in ends)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
