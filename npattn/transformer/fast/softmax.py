"""The softmax that training and decoding use.

**Equals** `npattn.layers.softmax` of scores to which a bias is added, to rounding. A bias of −∞ hides a score.

**Changed for speed** The maxima of short rows cost more than their exponentials; maximum and minimum of the whole array
cost next to nothing. If no score is large, exp cannot overflow, and no maximum is subtracted. If no score is far below
the others, no weight is negligible. If the sum of each row is large enough then, its exponentials have not vanished,
and the result is right. In most steps this holds for all rows. Otherwise the maximum is subtracted from the rows that
need it, and the other rows keep their bits.
"""

from __future__ import annotations

import numpy as np

from npattn._internal.checks import Array
from npattn.layers.kernels import REACH, row_maximum, row_sum

#: exp of scores up to here lies far inside float32 (e⁶⁰ ≈ 1e26), and so does the sum of a million of them.
HIGHEST = 60.0

#: If the exponentials of a row sum to less, all its scores are far below 0, and its maximum is subtracted.
LEAST = 1e-15


def masked_softmax(E: Array, bias: Array | None) -> Array:
    """Return softmax(E + bias), without a look at scores that the bias hides. E is overwritten."""
    if not E.size:
        return E
    with np.errstate(under="ignore", invalid="ignore"):       # ∞ − ∞ under the mask
        low = E.real.min()
        if bias is not None:
            E += bias
        high = E.real.max()
        if high <= HIGHEST and low >= high - REACH[E.real.dtype]:   # False for NaN
            A = np.exp(E)
            total = row_sum(A)
            if total.real.min() >= LEAST:
                A /= total
                return A
    return careful_softmax(E if bias is None else np.where(bias == -np.inf, -np.inf, E))


def careful_softmax(E: Array) -> Array:
    """Return softmax(E), with the maximum subtracted from the rows that need it."""
    top = row_maximum(E)                                      # (B, H, N_Q, 1)
    np.copyto(E, -np.inf, where=E.real < top - REACH[E.real.dtype])                        # negligible
    shift = np.where(top > HIGHEST, top, 0)
    with np.errstate(under="ignore"):
        vanished = row_sum(np.exp(E - shift)).real < LEAST
        A = np.exp(E - np.where(vanished, top, shift))
        total = row_sum(A)
        total[total.real == 0] = 1                            # a row that may attend to nothing: 0 / 1
        A /= total
    return A
