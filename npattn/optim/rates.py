"""Learning rates by step. All count steps from 1: a warm-up from 0 would waste its first step at rate 0.

| rate | warm-up | afterwards | source |
|---|---|---|---|
| `noam_rate` | linear | falls as 1/√step, for ever | Vaswani et al. 2017, "Attention Is All You Need" (3) |
| `linear_rate` | linear | falls linearly, to 0 at the last step | Devlin et al. 2019, "BERT" |
| `cosine_rate` | linear | falls along half a cosine, to 0 at the last step | Loshchilov, Hutter 2017 (5) |

They are plain functions of the step, so a run that is resumed needs nothing but its step: `adam.step(grads,
lr=rate)`.
"""

from __future__ import annotations

import math

from npattn._internal.checks import check_number


def noam_rate(step: float, d_model: float, warmup: float) -> float:
    """Return d_model^−½ · min(step^−½, step · warmup^−1.5).

    The two terms meet at step = warmup, where the rate is highest: (d_model · warmup)^−½.
    ValueError: an argument is below 1.

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
    """Return a rate that climbs from peak/warmup at step 1 to `peak` at step `warmup`, then falls to 0.

    rate = peak · step/warmup up to there, then peak · (total_steps − step)/(total_steps − warmup).
    ValueError: step outside 1 … total_steps, or warmup outside 0 … total_steps.

    >>> [linear_rate(step, total_steps=6, peak=8.0, warmup=2) for step in range(1, 7)]
    [4.0, 8.0, 6.0, 4.0, 2.0, 0.0]
    """
    left = _left_after_warmup(step, total_steps, warmup)
    return check_number("peak", peak, 0) * (step / warmup if left is None else left)


def cosine_rate(step: int, total_steps: int, peak: float, warmup: int) -> float:
    """Return a rate that climbs like `linear_rate`, then falls as peak · (1 + cos πx)/2, x from 0 to 1.

    ValueError: step outside 1 … total_steps, or warmup outside 0 … total_steps.

    >>> [round(cosine_rate(step, total_steps=6, peak=8.0, warmup=2), 3) for step in range(1, 7)]
    [4.0, 8.0, 6.828, 4.0, 1.172, 0.0]
    """
    left = _left_after_warmup(step, total_steps, warmup)
    return check_number("peak", peak, 0) * (step / warmup if left is None else (1 + math.cos(math.pi * (1 - left))) / 2)


def _left_after_warmup(step: float, total_steps: float, warmup: float) -> float | None:
    """Return the share of the way down that is still ahead, or None during the warm-up."""
    step, total_steps, warmup = (
        check_number(symbol, value, ends="()")
        for symbol, value in (("step", step), ("total_steps", total_steps), ("warmup", warmup))
    )
    if not 0 <= warmup <= total_steps:
        raise ValueError(f"warmup: expected 0 to total_steps={total_steps:g}, got {warmup:g}")
    if not 1 <= step <= total_steps:
        raise ValueError(f"step: expected 1 to total_steps={total_steps:g}, got {step:g}")
    return None if step <= warmup else (total_steps - step) / (total_steps - warmup)
