"""Why Adam has moments: five rules learn the same linear regression, whose inputs have sizes from 1 to 1/100.

    gradient descent      p ← p − lr g
    momentum              p ← p − lr m,          m ← β₁ m + (1 − β₁) g
    second moment alone   p ← p − lr g/√v̂,       v ← β₂ v + (1 − β₂) g²,   v̂ = v/(1 − β₂ᵗ)
    Adam, uncorrected     p ← p − lr m/√v
    Adam                  p ← p − lr m̂/√v̂,       m̂ = m/(1 − β₁ᵗ)

Each rule has the best of the same 19 constant rates. Batches are small, so gradients are noisy.

**Shown**  An input of size 1/100 has a gradient 100 times smaller, and needs a parameter 100 times larger. No rate fits
both it and an input of size 1. Momentum alone does not help; dividing by √v does. Then the noise is left, and the mean
m helps. Without the corrections m begins as (1 − β₁) g and √v as √(1 − β₂) |g|: at these β the first step is 3.2 rates
long instead of 1, and the same gradients give steps up to 6.6 times longer, around step 12.

**Not shown**  That corrections lower the final loss. Here it is lower without them: steps that are long at first and
then shrink work like a falling rate. Nor that Adam is best everywhere: on inputs of one size, momentum ends as low.

`python figures/adam.py` prints the final losses in a table.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from npattn import plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Problems, steps, inputs, the size of the smallest input, rows of a batch, and the steps whose mean loss is the final.
SEEDS, STEPS, D, SMALLEST, BATCH, LAST = range(10), 400, 30, 0.01, 16, 20
RATES = 10 ** np.arange(-2, 2.6, 0.25)
BETA_1, BETA_2 = 0.9, 0.999

#: Of each rule: β₁, whether it divides by √v, whether it corrects, and its line.
RULES = {
    "gradient descent": (0, False, True, ":"),
    "momentum": (BETA_1, False, False, "-."),
    "second moment alone": (0, True, True, "--"),
    "Adam, uncorrected": (BETA_1, True, False, (0, (5, 1, 1, 1, 1, 1))),
    "Adam": (BETA_1, True, True, "-"),
}


class Regression:
    """y = X w + noise, for every seed a problem. The loss is E (X p − X w)²/2 with the input's covariance."""

    def __init__(self) -> None:
        self.rngs = [np.random.default_rng(seed) for seed in SEEDS]
        mixed = np.stack([np.eye(D) + 0.5 * self.normal(rng, D, D) / D**0.5 for rng in self.rngs])
        sizes = np.geomspace(1, SMALLEST, D)
        self.mix = mixed * sizes                              # (S, D, D)  X = Z mix, Z from N(0, 1)
        self.w = np.stack([self.normal(rng, D) for rng in self.rngs]) / sizes
        self.covariance = self.mix.mT @ self.mix

    @staticmethod
    def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    def gradient(self, p: np.ndarray) -> np.ndarray:
        """Return the gradients (S, R, D) of a new batch of each problem, at parameters p (S, R, D)."""
        X = np.stack([self.normal(rng, BATCH, D) for rng in self.rngs]) @ self.mix
        noise = 0.1 * np.stack([self.normal(rng, BATCH) for rng in self.rngs])
        residual = (p - self.w[:, None]) @ X.mT - noise[:, None]
        return residual @ X / BATCH

    def loss(self, p: np.ndarray) -> np.ndarray:
        error = p - self.w[:, None]
        return ((error @ self.covariance) * error).sum(-1) / 2


def step(rule: str, t: int, g: np.ndarray, m: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the step of a rule for a rate of 1; update m and v."""
    beta_1, divides, corrects, _ = RULES[rule]
    m += (1 - beta_1) * (g - m)
    v += (1 - BETA_2) * (g * g - v)
    c_1, c_2 = (1 - beta_1**t, 1 - BETA_2**t) if corrects else (1, 1)
    return m / c_1 / (np.sqrt(v / c_2) + 1e-9) if divides else m / c_1


@cache
def measure() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each rule the losses (STEPS, seeds, rates), and the mean |step| of a parameter over the rate."""
    found = {}
    for rule in RULES:
        problem, p = Regression(), np.zeros((len(SEEDS), len(RATES), D))
        m, v = np.zeros((2, *p.shape))
        losses, lengths = np.empty((2, STEPS, *p.shape[:2]))
        with np.errstate(over="ignore", invalid="ignore"):    # the largest rates diverge
            for t in range(1, STEPS + 1):
                d = step(rule, t, problem.gradient(p), m, v)
                p -= RATES[:, None] * d
                losses[t - 1], lengths[t - 1] = problem.loss(p), np.abs(d).mean(-1)
        found[rule] = losses, lengths
    return found


def final(losses: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the final losses (seeds, rates), infinite where they diverged, and the index of the best rate."""
    ends = losses[-LAST:].mean(0)
    ends[~np.isfinite(ends)] = np.inf
    return ends, int(np.median(ends, 0).argmin())


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw the losses at the best rates, the final losses against the rate, and the length of the first steps."""
    axes = plot.mosaic(["LRS"], 8.3, 3.9, theme=theme)
    first, second, *others = plot.palette_of(axes["L"]).colours
    steps = np.arange(1, STEPS + 1)
    for (rule, (losses, lengths)), colour in zip(measure().items(), (*others[:3], second, first), strict=True):
        ends, best = final(losses)
        style = {"linestyle": RULES[rule][3], "color": colour}
        plot.spread(steps, losses[:, :, best].T, colour=colour, ax=axes["L"])
        axes["L"].lines[-1].set(linestyle=style["linestyle"], label=f"{rule}: {np.median(ends[:, best]):.2g}")
        axes["R"].plot(RATES, np.median(ends, 0), **style)
        axes["R"].plot(RATES[best], np.median(ends[:, best]), "o", color=colour, markersize=4)
        if RULES[rule][:2] == (BETA_1, True):
            axes["S"].plot(steps[:100], np.median(lengths[:100, :, 4], 1), **style)
    axes["L"].set(yscale="log", xlabel="step", ylabel="loss", ylim=(1e-3, 50))
    axes["R"].set(xscale="log", yscale="log", xlabel="rate", ylabel="final loss", ylim=(1e-3, 1e3))
    axes["S"].set(xlabel="step", ylabel="mean |step| / rate", ylim=(0, None))
    for name, text in (("L", "each rule at its best rate"), ("R", "the choice of the rate"), ("S", "the first steps")):
        plot.title(axes[name], text)
        plot.grid(axes[name])
    options = {"loc": "outside lower center", "ncols": 3, "frameon": False, "fontsize": 9, "handlelength": 3.5}
    lines = axes["L"].get_legend_handles_labels()
    axes["L"].figure.legend(*lines, labelcolor=plot.palette_of(axes["L"]).ink, **options)
    return axes["L"]


def table() -> str:
    """Return the final losses in Markdown: the median over the seeds, the least and the largest, and the best rate."""
    lines = ["| rule | best rate | median final loss | least | largest |", "|---|---:|---:|---:|---:|"]
    for rule, (losses, _) in measure().items():
        ends, best = final(losses)
        at_best = ends[:, best]
        numbers = f"{np.median(at_best):.2g} | {at_best.min():.2g} | {at_best.max():.2g}"
        lines.append(f"| {rule} | {RATES[best]:.2g} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
