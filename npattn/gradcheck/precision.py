"""Recognise code that computes in float32 although its arguments are float64, by what it returns.

Such a layer is right to about seven digits. It is compared with central differences whose steps suit this precision,
and with the tolerance `TOLERANCE`.

- Numbers that are all equal to their own float32 come from float32, if they are not short numbers like 0.5.
- Casts inside leave no such trace. Then the fourth difference of the output along short steps h tells. In float64 it is
  h⁴ times a derivative, which vanishes. In float32 it is about 1e-7 of the output, at every h.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.numeric import Loss
from npattn.gradcheck.points import largest_finite, perturbed
from npattn.gradcheck.report import Method

TOLERANCE: dict[Method, float] = {"complex-step": 1e-5, "central-difference": 2e-3}
SHORT_STEPS = (1e-5, 1e-6)
LEAST, MOST = 3e-9, 2e-6  # rounding of float32, relative to the largest output


def is_single(arrays: Iterable[Array]) -> bool:
    """Whether float32 holds every number exactly, and some number has more than 11 binary digits."""
    with np.errstate(all="ignore"):
        values = np.concatenate([np.empty(0), *map(np.ravel, arrays)])
        digits = 2048 * np.frexp(values)[0]
        return np.array_equal(values, values.astype(np.float32)) and not np.array_equal(digits, np.rint(digits))


def output_is_single(loss: Loss, rng: np.random.Generator) -> bool:
    """Whether the output is in float32 at float64 numbers close by."""
    return is_single([loss.pair.output(perturbed(loss.values, 1e-3, rng))])


def rounds_like_single(loss: Loss, rng: np.random.Generator) -> bool:
    """Whether the fourth difference of the output is rounding of the size of float32 at two short steps."""
    moves = perturbed(loss.values, 1.0, rng)
    sizes = []
    for h in SHORT_STEPS:
        outputs = [
            loss.pair.output([value + k * h * (moved - value) for value, moved in zip(loss.values, moves, strict=True)])
            for k in (-2, -1, 0, 1, 2)
        ]
        difference = abs(np.array([1, -4, 6, -4, 1]) @ np.stack(outputs))
        sizes.append(largest_finite(difference) / (largest_finite(outputs[2]) or 1.0))
    return all(LEAST < size < MOST for size in sizes)
