"""What happens without the scale, the mask, the residual sums or the positions: five small models learn to copy.

A row is six random symbols, twice. A model learns to predict each next symbol, and then must write the second half.
It has one stack of three pre-norm layers, built of the package's own pairs:

    X = W_E[ids] + P,    X ← X + attention(norm(X)),    X ← X + feed-forward(norm(X)),    logits = norm(X) W

In each variant one part is missing. Writing is always with the mask, since what is not yet written cannot be read.

**Shown**  The first half is random, so a model that predicts has a loss of at least 5/11 ln 12 = 1.13. Without the mask
the training loss falls far below: the model reads the next symbol instead of predicting it, and most of these models
write badly. Without √D_Q the scores are √32 = 5.7 times larger at the start, and the model learns much later. Without
residual sums or without positions it learns little in these steps.

**Not shown**  How large models behave, or where a longer training ends. Here are three layers of one head, one task,
and one rate for all variants.

`python figures/what_if.py` prints the final losses in a table.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from npattn import Adam, causal_mask, plot, sinusoidal_positions
from npattn.attention import v7_multi_head
from npattn.layers import (
    cross_entropy,
    cross_entropy_backward,
    embedding,
    embedding_backward,
    layer_norm,
    layer_norm_backward,
    linear,
    linear_backward,
    relu,
    relu_backward,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Params = dict[str, np.ndarray]

#: Seeds, steps, the steps whose mean is a point of a curve, the rate, and the rows of a batch.
SEEDS, STEPS, POINT, RATE, BATCH = range(4), 600, 20, 3e-3, 8

#: Symbols, of a row and in all; width of the model, which is D_Q too; hidden width; layers.
LENGTH, VOCABULARY, D, D_FF, LAYERS = 6, 12, 32, 64, 3

PARTS = ("scale", "mask", "residual", "positions")
VARIANTS: dict[str, frozenset[str]] = {"everything": frozenset(PARTS)} | {
    f"without {'√D_Q' if part == 'scale' else part}": frozenset(PARTS) - {part} for part in PARTS
}


def new_parameters(rng: np.random.Generator) -> Params:
    """Return embeddings of variance 1, weights of variance 1/rows, and γ = 1."""
    shapes = {"W_E": (VOCABULARY, D), "W": (D, VOCABULARY), "gamma": (D,)}
    for i in range(LAYERS):
        shapes |= {f"{i}.{name}": (D, D) for name in ("W_Q", "W_K", "W_V", "W_O")}
        shapes |= {f"{i}.W_1": (D, D_FF), f"{i}.W_2": (D_FF, D), f"{i}.gamma_1": (D,), f"{i}.gamma_2": (D,)}
    params = {name: rng.standard_normal(shape) / shape[0] ** 0.5 for name, shape in shapes.items()}
    params["W_E"] *= VOCABULARY**0.5
    return {name: np.ones_like(p) if "gamma" in name else p for name, p in params.items()}


def new_batch(rng: np.random.Generator) -> np.ndarray:
    """Return ids (BATCH, 2·LENGTH): the second half repeats the first."""
    return np.tile(rng.integers(0, VOCABULARY, (BATCH, LENGTH)), 2)


def forward(params: Params, ids: np.ndarray, parts: frozenset[str]) -> tuple[np.ndarray, Any]:
    """Return the logits (B, N, V) and the cache for `backward`."""
    N = ids.shape[1]
    mask = causal_mask(N) if "mask" in parts else None
    X, c_E = embedding(ids, params["W_E"])
    if "positions" in parts:
        X = X + sinusoidal_positions(N, D)
    caches = []
    for i in range(LAYERS):
        W_Q, *W = (params[f"{i}.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O"))
        I, c_1 = layer_norm(X, params[f"{i}.gamma_1"], None)
        Z, c_2 = v7_multi_head.forward(I, I, W_Q * unscaled(parts), *W, n_heads=1, mask=mask)
        X = X + Z if "residual" in parts else Z
        I, c_3 = layer_norm(X, params[f"{i}.gamma_2"], None)
        U, c_4 = linear(I, params[f"{i}.W_1"])
        H, c_5 = relu(U)
        F, c_6 = linear(H, params[f"{i}.W_2"])
        X = X + F if "residual" in parts else F
        caches.append((c_1, c_2, c_3, c_4, c_5, c_6))
    I, c_I = layer_norm(X, params["gamma"], None)
    logits, c_logits = linear(I, params["W"])
    return logits, (parts, c_E, caches, c_I, c_logits)


def backward(dlogits: np.ndarray, cache: Any) -> Params:
    """Return the gradient of every parameter."""
    parts, c_E, caches, c_I, c_logits = cache
    kept = float("residual" in parts)                         # X is used in the sum too, so its gradients add
    grads = {}
    dI, grads["W"], _ = linear_backward(dlogits, c_logits)
    dX, grads["gamma"], _ = layer_norm_backward(dI, c_I)
    for i, (c_1, c_2, c_3, c_4, c_5, c_6) in reversed([*enumerate(caches)]):
        dH, grads[f"{i}.W_2"], _ = linear_backward(dX, c_6)
        dI, grads[f"{i}.W_1"], _ = linear_backward(relu_backward(dH, c_5), c_4)
        dF, grads[f"{i}.gamma_2"], _ = layer_norm_backward(dI, c_3)
        dX = kept * dX + dF
        dI_Q, dI, dW_Q, *dW = v7_multi_head.backward(dX, c_2)[:6]
        grads |= zip((f"{i}.W_Q", f"{i}.W_K", f"{i}.W_V", f"{i}.W_O"), (dW_Q * unscaled(parts), *dW), strict=True)
        dZ, grads[f"{i}.gamma_1"], _ = layer_norm_backward(dI_Q + dI, c_1)
        dX = kept * dX + dZ
    return grads | {"W_E": embedding_backward(dX, c_E)}


def unscaled(parts: frozenset[str]) -> float:
    """Return the factor of W_Q that undoes the division by √D_Q; 1 to keep it."""
    return 1.0 if "scale" in parts else D**0.5


def loss_and_gradients(params: Params, ids: np.ndarray, parts: frozenset[str]) -> tuple[float, Params]:
    """Return the mean loss of every next symbol, and its gradients."""
    logits, cache = forward(params, ids[:, :-1], parts)
    loss, c_loss = cross_entropy(logits, ids[:, 1:])
    return float(loss), backward(cross_entropy_backward(1.0, c_loss), cache)


def loss_of_writing(params: Params, ids: np.ndarray, parts: frozenset[str]) -> float:
    """Return the mean loss of the second half, each symbol predicted from those before it: with the mask."""
    logits, _ = forward(params, ids[:, :-1], parts | {"mask"})
    return float(cross_entropy(logits[:, LENGTH - 1 :], ids[:, LENGTH:])[0])


@cache
def losses(variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses of training and of writing, each (seeds, STEPS / POINT)."""
    parts = VARIANTS[variant]
    trained, tested = np.zeros((2, len(SEEDS), STEPS // POINT))
    for row, seed in enumerate(SEEDS):
        rng = np.random.default_rng(seed)
        params, test = new_parameters(rng), new_batch(np.random.default_rng(1000 + seed))
        optimizer = Adam(params)
        for step in range(STEPS):
            loss, grads = loss_and_gradients(params, new_batch(rng), parts)
            optimizer.step(grads, lr=RATE)
            trained[row, step // POINT] += loss / POINT
            if step % POINT == POINT - 1:
                tested[row, step // POINT] = loss_of_writing(params, test, parts)
    return trained, tested


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw the losses of training and of writing."""
    train, test = plot.panels(2, 8.3 / 2, 3.9, theme=theme)
    styles = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
    for variant, colour, style in zip(VARIANTS, plot.palette_of(train).colours, styles, strict=False):
        for ax, found in zip((train, test), losses(variant), strict=True):
            plot.spread(POINT * np.arange(1, found.shape[1] + 1), found, colour=colour, ax=ax)
            ax.lines[-1].set(linestyle=style, label=variant.replace("√D_Q", "$\\sqrt{D_Q}$"))
    least = (LENGTH - 1) / (2 * LENGTH - 1) * np.log(VOCABULARY)
    panels = (
        (train, "training", least, "best possible prediction ", "top"),
        (test, "writing", np.log(VOCABULARY), "guessing ", "bottom"),
    )
    for ax, name, height, text, side in panels:
        ink = plot.palette_of(ax).ink
        ax.axhline(height, color=ink, linewidth=0.8)
        ax.text(STEPS, height, text, color=ink, fontsize=9, ha="right", va=side)
        ax.set(xlabel="step", ylabel="loss, nats a symbol", xlim=(0, STEPS), ylim=(0, 3.2))
        plot.title(ax, name)
    handles = train.get_legend_handles_labels()
    options = {"loc": "outside lower center", "ncols": 5, "frameon": False, "fontsize": 9, "columnspacing": 1.2}
    train.figure.legend(*handles, labelcolor=plot.palette_of(train).ink, **options)
    return train


def table() -> str:
    """Return the final losses in Markdown: the median of the seeds."""
    lines = ["| variant | training | writing | writing, each seed |", "|---|---:|---:|---|"]
    for variant in VARIANTS:
        trained, tested = (found[:, -1] for found in losses(variant))
        each = " ".join(f"{loss:.2f}" for loss in tested)
        lines.append(f"| {variant} | {np.median(trained):.2f} | {np.median(tested):.2f} | {each} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
