"""The softmax that training uses.

**Equals** `npattn.layers.softmax` under the mask of a `Packing`, to rounding.

**Changed for speed** The maximum of a short row costs more than its exponentials, the maximum of the whole array next to
nothing. If all scores are moderate, no maximum is subtracted: exp cannot overflow. If the sum of a row is moderate too,
its exponentials have not vanished. Usually that holds for all rows; where it does not, the other rows keep their bits.
"""

from __future__ import annotations

import numpy as np

from npattn._internal.checks import Array
from npattn.layers.kernels import row_maximum, row_sum
from npattn.transformer.fast.packing import Packing

#: exp of scores up to here stays far inside float32 (e⁶⁰ ≈ 1e26), also when a million of them are summed.
HIGHEST = 60.0

#: If the exponentials of a row sum to less, all its scores are far below 0, and its maximum must be subtracted.
LEAST = 1e-20


def masked_softmax(E: Array, packing: Packing) -> Array:
    """softmax(E) under the mask of the keys. E belongs to the caller of this very step and is overwritten."""
    if not E.size:
        return E                                              # no scores, no weights
    with np.errstate(under="ignore", invalid="ignore"):       # ∞ − ∞ under the mask
        if packing.bias is not None:
            E += packing.bias
        if E.real.max() <= HIGHEST:                           # not if it is NaN
            A = np.exp(E)
            total = row_sum(A)
            if total.real.min() >= LEAST:
                A /= total
                return A
    return careful_softmax(E if packing.mask is None else np.where(packing.mask, E, -np.inf))


def careful_softmax(E: Array) -> Array:
    """softmax(E), with the maximum subtracted from the rows that need it."""
    top = row_maximum(E)                                      # (B, H, N_Q, 1)
    shift = np.where(top > HIGHEST, top, 0)
    with np.errstate(under="ignore"):
        vanished = row_sum(np.exp(E - shift)).real < LEAST
        A = np.exp(E - np.where(vanished, top, shift))
        total = row_sum(A)
        total[total.real == 0] = 1                            # may attend to nothing: 0 / 1
        A /= total
    return A
