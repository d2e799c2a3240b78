"""Learning rates by step. Steps count from 1: with a step 0, the first step of the warm-up would have the rate 0.

| rate | warm-up | afterwards | source |
|---|---|---|---|
| `noam_rate` | linear | falls as 1/√step, for ever | Vaswani et al. 2017, "Attention Is All You Need" (3) |
| `linear_rate` | linear | falls linearly, to 0 at the last step | Devlin et al. 2019, "BERT" |
| `cosine_rate` | linear | falls along half a cosine, to 0 at the last step | Loshchilov, Hutter 2017 (5) |

They are plain functions of the step, so a resumed run needs only its step: `adam.step(grads, lr=rate)`.
`npattn train` uses `linear_rate`.
"""

from __future__ import annotations

import math

from npattn._internal.checks import check_number


def noam_rate(step: float, d_model: float, warmup: float) -> float:
    """Return d_model^−½ · min(step^−½, step · warmup^−1.5).

    - step: the number of the step, from 1.
    - d_model: the width of the model.
    - warmup: the number of steps in which the rate rises.

    The two terms are equal at step = warmup, where the rate is highest: (d_model · warmup)^−½. Raises ValueError for an
    argument below 1, TypeError for what is no number.

    >>> noam_rate(25, d_model=4, warmup=100)     # 4^-½ · min(1/5, 25/1000) = 1/2 · 1/40
    0.0125
    >>> noam_rate(100, d_model=4, warmup=100)    # the peak: 1/√400
    0.05
    >>> noam_rate(400, d_model=4, warmup=100)    # four times as far, half the rate
    0.025
    """
    step, d_model, warmup = (
        check_number(symbol, value, 1) for symbol, value in (("step", step), ("d_model", d_model), ("warmup", warmup))
    )
    return min(1 / math.sqrt(step), step / warmup / math.sqrt(warmup)) / math.sqrt(d_model)


def linear_rate(step: int, total_steps: int, peak: float, warmup: int) -> float:
    """Return a rate that rises linearly from peak/warmup at step 1 to `peak` at step `warmup`, then falls to 0.

    - step: the number of the step, from 1 to `total_steps`.
    - total_steps: the number of all steps; the rate of the last one is 0.
    - peak: the highest rate.
    - warmup: the number of steps in which the rate rises, from 0 to `total_steps`.

    rate = peak · step/warmup up to step `warmup`, then peak · (total_steps − step)/(total_steps − warmup). Raises
    ValueError for an argument out of range, TypeError for what is no number.

    >>> [linear_rate(step, total_steps=6, peak=8.0, warmup=2) for step in range(1, 7)]
    [4.0, 8.0, 6.0, 4.0, 2.0, 0.0]
    """
    left = _left_after_warmup(step, total_steps, warmup)
    return check_number("peak", peak, 0) * (step / warmup if left is None else left)


def cosine_rate(step: int, total_steps: int, peak: float, warmup: int) -> float:
    """Return a rate that rises like `linear_rate`, then falls as peak · (1 + cos πx)/2, where x goes from 0 to 1.

    - step: the number of the step, from 1 to `total_steps`.
    - total_steps: the number of all steps; the rate of the last one is 0.
    - peak: the highest rate.
    - warmup: the number of steps in which the rate rises, from 0 to `total_steps`.

    Raises ValueError for an argument out of range, TypeError for what is no number.

    >>> [round(cosine_rate(step, total_steps=6, peak=8.0, warmup=2), 3) for step in range(1, 7)]
    [4.0, 8.0, 6.828, 4.0, 1.172, 0.0]
    """
    left = _left_after_warmup(step, total_steps, warmup)
    return check_number("peak", peak, 0) * (step / warmup if left is None else (1 + math.cos(math.pi * (1 - left))) / 2)


def _left_after_warmup(step: float, total_steps: float, warmup: float) -> float | None:
    """Return which part of the steps after the warm-up is left, from 1 to 0; None during the warm-up."""
    step, total_steps, warmup = (
        check_number(symbol, value, ends="()")
        for symbol, value in (("step", step), ("total_steps", total_steps), ("warmup", warmup))
    )
    if not 0 <= warmup <= total_steps:
        raise ValueError(f"warmup: expected 0 to total_steps={total_steps:g}, got {warmup:g}")
    if not 1 <= step <= total_steps:
        raise ValueError(f"step: expected 1 to total_steps={total_steps:g}, got {step:g}")
    return None if step <= warmup else (total_steps - step) / (total_steps - warmup)
