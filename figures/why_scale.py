"""Why scores are divided by √D_Q: with scores of size 100, the softmax saturates and its gradient vanishes.

Top and middle: 20,000 scores from N(0, 100²) and from N(0, 1), and their softmax. One is a spike, the other is spread.
Bottom left: the Frobenius norm of the softmax's Jacobian ∂a/∂e = diag(a) − a aᵀ. It is largest for scores with a
deviation of 2 to 3, and its median vanishes beyond 20.
Bottom middle: the dot product of two vectors of D_Q entries from N(0, 1) has variance D_Q; divided by √D_Q, it has 1.
Bottom right: the gradient dq of version 2, unscaled, and of version 3, scaled, for a dy of length 1. Up to D_Q = 64 the
median without the division is the larger one, since version 3 divides dq too. Near 100 the two are equal. Beyond 128
the unscaled median vanishes: at 256 it is a fifth of the scaled one, at 1024 a thousandth. And unscaled gradients
differ widely: at 64, a tenth of them are below 0.003, and a tenth above 3.

`python figures/why_scale.py` prints these gradients in a table.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from npattn import plot
from npattn.attention import v2_dot_product, v3_scaled_dot_product
from npattn.layers import softmax

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The scores of a histogram, the dot products of a variance, the inputs of a query, and the queries of a median.
SAMPLES, PAIRS, N_X, DRAWS = 20_000, 4_000, 16, 1000
WIDTHS = 2 ** np.arange(1, 11)                                # D_Q
DEVIATIONS = np.logspace(-1, 3, 33)
VERSIONS = {"scaled, version 3": v3_scaled_dot_product, "unscaled, version 2": v2_dot_product}


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw the seven panels."""
    rng = np.random.default_rng(0)
    axes = plot.mosaic(["LLLRRR", "lllrrr", "JJVVGG"], 8.3, 7.4, theme=theme, height_ratios=(1, 1, 1.35))
    for key, deviation in (("L", 100), ("R", 1)):
        e = deviation * rng.standard_normal(SAMPLES)
        draw_scores(e, deviation, axes[key])
        draw_weights(softmax(e), axes[key.lower()])
    draw_jacobian(rng, axes["J"])
    draw_variance(rng, axes["V"])
    draw_gradient(rng, axes["G"])
    band = "its band goes from the 10th to the 90th percentile"
    note = f"left and right: a line is the median of {DRAWS:,} draws, {band}"
    axes["G"].figure.supxlabel(note, color=plot.palette_of(axes["G"]).ink, fontsize=9)
    return axes["L"]


def draw_scores(e: np.ndarray, deviation: int, ax: Axes) -> None:
    """Draw the histogram of scores."""
    ax.hist(e, bins=80, color=plot.palette_of(ax).colours[0])
    ax.set(xlabel="$e_n$", ylabel="count")
    square = "100^2" if deviation == 100 else "1"
    plot.title(ax, f"{SAMPLES:,} scores $e_n \\sim N(0, {square})$")


def draw_weights(a: np.ndarray, ax: Axes) -> None:
    """Draw every weight as a line at its place."""
    ax.vlines(np.arange(SAMPLES), 0, a, color=plot.palette_of(ax).colours[0], linewidth=0.8)
    ax.set(xlim=(-SAMPLES / 50, SAMPLES * 1.02), xlabel="$n$", ylabel="$a_n$")
    ax.set_ylim(bottom=0)
    plot.title(ax, f"their softmax: the largest weight is {a.max():.4f}")


def draw_jacobian(rng: np.random.Generator, ax: Axes) -> None:
    """Draw the Frobenius norm of the softmax's Jacobian against the deviation of the scores."""
    e = rng.standard_normal((DRAWS, N_X))
    a = softmax(e[:, None] * DEVIATIONS[:, None])             # (DRAWS, len(DEVIATIONS), N_X)
    # ‖diag(a) − a aᵀ‖² = Σ a_n² − 2 Σ a_n³ + (Σ a_n²)²
    squares = (a**2).sum(-1)
    norms = np.sqrt(np.maximum(squares - 2 * (a**3).sum(-1) + squares**2, 0))
    plot.spread(DEVIATIONS, norms, ax=ax)
    ax.set(xscale="log", xlabel="standard deviation $\\sigma$ of $e$", ylabel="$\\|\\partial a / \\partial e\\|$")
    ax.set_ylim(bottom=0)
    plot.title(ax, f"The softmax saturates ($N_X = {N_X}$)")


def draw_variance(rng: np.random.Generator, ax: Axes) -> None:
    """Draw the variance of dot products against the width, with and without the division by √D_Q."""
    products = [np.vecdot(*rng.standard_normal((2, PAIRS, D))) for D in WIDTHS]
    blue, orange, *_ = plot.palette_of(ax).colours
    ax.plot(WIDTHS, [e.var() for e in products], "o-", color=orange, markersize=4, label="$x \\cdot q$")
    scaled = [(e / np.sqrt(D)).var() for e, D in zip(products, WIDTHS, strict=True)]
    ax.plot(WIDTHS, scaled, "o-", color=blue, markersize=4, label="$x \\cdot q / \\sqrt{D_Q}$")
    ax.set(xscale="log", yscale="log", xlabel="$D_Q$", ylabel="variance of $e_n$")
    plot.title(ax, "Scores grow with the width")
    plot.grid(ax)
    plot.legend(ax)


def draw_gradient(rng: np.random.Generator, ax: Axes) -> None:
    """Draw the length of dq against the width, for versions 2 and 3."""
    for (label, version), colour in zip(VERSIONS.items(), plot.palette_of(ax).colours, strict=False):
        plot.spread(WIDTHS, gradients(version, rng), label=label, colour=colour, ax=ax)
    ax.set(xscale="log", yscale="log", ylim=(1e-6, 30), xlabel="$D_Q$", ylabel="$\\|dq\\|$")
    plot.title(ax, "What reaches the query")


def gradients(version: ModuleType, rng: np.random.Generator) -> np.ndarray:
    """Return ‖dq‖ (DRAWS, WIDTHS)."""
    return np.stack([gradient_lengths(version, D, rng) for D in WIDTHS], 1)


def gradient_lengths(version: ModuleType, D: int, rng: np.random.Generator) -> np.ndarray:
    """Return ‖dq‖ (DRAWS,) by the backward of a version, for random q and X and a random dy of length 1."""
    q, X, dy = (rng.standard_normal(shape) for shape in ((DRAWS, D), (DRAWS, N_X, D), (DRAWS, D)))
    _, cache = version.forward(q, X)
    dq, _ = version.backward(dy / np.linalg.norm(dy, axis=-1, keepdims=True), cache)
    return np.linalg.norm(dq, axis=-1)


def table() -> str:
    """Return the median of ‖dq‖, and the 10th and the 90th percentile, for each width, in Markdown."""
    rng = np.random.default_rng(0)
    columns = [np.quantile(gradients(version, rng), (0.1, 0.5, 0.9), axis=0).T for version in VERSIONS.values()]
    names = (f"{name}: {part}" for name in VERSIONS for part in ("10 %", "median", "90 %"))
    lines = ["| D_Q | " + " | ".join(names) + " |", "|---:|" + "---:|" * 6]
    for row in zip(WIDTHS, *columns, strict=True):
        lines.append(f"| {row[0]} | " + " | ".join(f"{length:.2g}" for length in np.concatenate(row[1:])) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
