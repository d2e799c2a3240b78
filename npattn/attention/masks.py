"""Masks: boolean arrays, True where a query may attend to a key. Combine them with `&`.

**Sequence mask**  (or causal mask)  M_in = (n ≤ i + offset): query i may attend to the keys up to its own place. No
output then depends on what comes after it.

**Pad mask**  M_bn = (token n of row b is no pad): pads fill a batch up, and get the weight 0.

A score whose mask is False counts as −∞ in `npattn.layers.softmax`: its weight is exactly 0, and so is its gradient.

**Backward**  There is none to write. The softmax's dE_in has the factor A_in (foundations F9), which is 0 where a key
is hidden. dV_n = Σ_i A_in dY_i has it too. So nothing flows to a hidden key. A mask is boolean and has no gradient.

The sequence mask (N_Q, N_X), the pad mask (B, 1, 1, N_X) and their `&` (B, 1, N_Q, N_X) broadcast to the scores
(B, H, N_Q, N_X).

**Raises**  ValueError for sizes, lengths and shapes that don't fit, TypeError for anything but integers.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3.2.3, for the sequence mask.

>>> import numpy as np
>>> causal_mask(3)
array([[ True, False, False],
       [ True,  True, False],
       [ True,  True,  True]])
>>> padding_mask(np.array([2, 3]))[:, 0, 0]                # lengths of two rows
array([[ True,  True, False],
       [ True,  True,  True]])
>>> (padding_mask(np.array([[7, 8, 0]]), pad_id=0) & causal_mask(3))[0, 0]
array([[ True, False, False],
       [ True,  True, False],
       [ True,  True, False]])
"""

from __future__ import annotations

import numpy as np

from npattn._internal.checks import Array, check_integer, check_integers, check_room, check_size


def causal_mask(N_Q: int, N_X: int | None = None, offset: int = 0) -> Array:
    """Return the sequence mask (N_Q, N_X): query i may attend to keys 0 … i + offset.

    - N_Q: number of queries.
    - N_X: number of keys; None for N_Q. The mask is aligned at the top left, also when N_Q ≠ N_X.
    - offset: number of keys before the first query, as when decoding with a cache.

    Raises ValueError for negative sizes, TypeError for what is no integer.

    >>> causal_mask(2, 4, offset=1)
    array([[ True,  True, False, False],
           [ True,  True,  True, False]])
    """
    N_Q = check_size("N_Q", N_Q)
    N_X = N_Q if N_X is None else check_size("N_X", N_X)
    check_room("N_Q, N_X", N_Q * N_X, itemsize=1)
    offset = min(max(check_integer("offset", offset), -N_Q), N_X)   # beyond that nothing changes
    return np.arange(N_X) <= np.arange(N_Q)[:, None] + offset


def padding_mask(lengths_or_ids: Array, N_X: int | None = None, *, pad_id: int | None = None) -> Array:
    """Return the pad mask (B, 1, 1, N_X): every query and head may attend to the real tokens of its own row.

    - lengths_or_ids: either the lengths (B,) of the rows, or their ids (B, N_X) with `pad_id`.
    - N_X: the width of the mask; None for the longest length, or the width of the ids.
    - pad_id: every other id is a real token; None when lengths are given.

    The two single axes stand for heads and queries: a mask (B, N_X) would be read as (N_Q, N_X) whenever B = N_Q. For
    scores without a head axis take `[:, 0]`.

    Raises TypeError for arrays that are no integers, ValueError for a shape or a length that does not fit.
    """
    given = lengths_or_ids
    if N_X is not None:
        N_X = check_size("N_X", N_X)
    check_integers("lengths_or_ids", given)
    if pad_id is not None:
        pad_id = check_integer("pad_id", pad_id)
        if given.ndim != 2:
            raise ValueError(f"ids: expected (B, N_X), got {given.shape}")
        if N_X not in (None, given.shape[1]):
            raise ValueError(f"N_X: expected {given.shape[1]}, the width of the ids, got {N_X}")
        return (given != pad_id)[:, None, None, :]
    if given.ndim != 1:
        raise ValueError(f"lengths: expected (B,), got {given.shape}; for ids (B, N_X) give their pad_id")
    longest = int(given.max(initial=0))
    N_X = longest if N_X is None else N_X
    if longest > N_X or (given < 0).any():
        worst = longest if longest > N_X else given.min()
        raise ValueError(f"lengths: expected 0 to N_X={N_X}, got {worst}")
    check_room("N_X", given.size * N_X, itemsize=1)
    return (np.arange(N_X) < given[:, None])[:, None, None, :]
