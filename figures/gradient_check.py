"""The error of three ways to measure a slope against the step h, on multi-head attention.

A difference of two losses has two errors: for a long step a power of h, for a short step rounding over h. The complex
step, Im L(x + ih)/h, subtracts nothing. Its step can be so short that only the rounding of the loss itself is left.

`python figures/gradient_check.py` prints the errors in a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from npattn import plot
from npattn.attention import v7_multi_head

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIRECTIONS = 20
STEPS = 10.0 ** np.arange(-20, 0.01, 0.25)
LEAST = 1e-17                                                 # stands for an error of 0 on the logarithmic axis

#: Of each method: its name, its line, and the offset of its label from the least error, in points right and up.
METHODS = {
    "forward difference": (":", (0, 44)),
    "central difference": ("--", (68, -30)),
    "complex step": ("-", (0, 10)),
}


class Loss:
    """L(x) = Σ dZ·Z of multi-head attention. x holds all arguments. There are three heads; all axes differ in size."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        shapes = (2, 4, 7), (2, 5, 8), (7, 9), (8, 9), (8, 6), (6, 11), (9,), (9,), (6,), (11,)
        args = [rng.standard_normal(shape) / (shape[0] ** 0.5 if len(shape) == 2 else 1) for shape in shapes]
        self.shapes, self.ends = shapes, np.cumsum([arg.size for arg in args])[:-1]
        self.x = np.concatenate([arg.ravel() for arg in args])
        Z, cache = v7_multi_head.forward(*args, n_heads=3)
        self.dZ = rng.standard_normal(Z.shape)
        gradients = v7_multi_head.backward(self.dZ, cache)
        self.gradient = np.concatenate([gradient.ravel() for gradient in gradients if gradient is not None])
        self.directions = rng.standard_normal((DIRECTIONS, self.x.size))

    def __call__(self, x: np.ndarray) -> complex:
        args = [part.reshape(shape) for part, shape in zip(np.split(x, self.ends), self.shapes, strict=True)]
        return (self.dZ * v7_multi_head.forward(*args, n_heads=3)[0]).sum()


def measure() -> dict[str, np.ndarray]:
    """Return the errors (DIRECTIONS, STEPS) of each method: |numeric slope − slope by backward| / ‖gradient‖."""
    loss = Loss()
    L, size = loss(loss.x), np.linalg.norm(loss.gradient)
    errors = {name: np.empty((DIRECTIONS, len(STEPS))) for name in METHODS}
    for i, v in enumerate(loss.directions):
        slope = v @ loss.gradient
        for k, h in enumerate(STEPS):
            right = loss(loss.x + h * v)
            slopes = (right - L) / h, (right - loss(loss.x - h * v)) / (2 * h), loss(loss.x + 1j * h * v).imag / h
            for name, numeric in zip(METHODS, slopes, strict=True):
                errors[name][i, k] = abs(numeric - slope) / size
    return errors


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw a line and a band for each method, and write the least error beside the line."""
    ax = plot.panels(1, 8.3, 4.2, theme=theme)[0]
    palette = plot.palette_of(ax)
    ax.set(xscale="log", yscale="log", xlim=(STEPS[-1] * 2, STEPS[0] / 2), ylim=(LEAST, 10))
    for order, ((name, errors), colour) in enumerate(zip(measure().items(), palette.colours, strict=False)):
        style, offset = METHODS[name]
        median = np.median(errors, axis=0)
        plot.spread(STEPS, np.maximum(errors, LEAST), colour=colour, ax=ax)
        ax.lines[-1].set(linestyle=style, linewidth=2, zorder=5 - order)
        flat = np.flatnonzero(median <= 3 * median.min())     # the label stands in the middle of the best steps
        best = int(flat[len(flat) // 2])
        place = {"xytext": offset, "textcoords": "offset points", "ha": "center"}
        ax.annotate(f"{name}\n{median.min():.0e}", (STEPS[best], median[best]), color=colour, fontsize=10, **place)
    ax.set(xlabel="step $h$, from long to short", ylabel="error of the slope, relative to ‖gradient‖")
    return ax


def table() -> str:
    """Return the median error of each method at some steps, and its least median error, in Markdown."""
    shown = [1e-2, 1e-4, 1e-6, 1e-8, 1e-12, 1e-20]
    columns = [int(np.abs(STEPS / h - 1).argmin()) for h in shown]
    lines = ["| step h | " + " | ".join(f"{h:.0e}" for h in shown) + " | best |", "|---|" + "---:|" * (len(shown) + 1)]
    for name, errors in measure().items():
        median = np.median(errors, axis=0)
        cells = [f"{median[k]:.0e}" for k in columns] + [f"**{median.min():.0e}**"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
