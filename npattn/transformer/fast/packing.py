"""Packed rows: the tokens of a batch without its pads.

**Equals** the padded batch (B, N, D) of `npattn.transformer.reference`, but for the rows of pads, on which no loss
depends. `unpack` gives the batch back, with zeros at the pads.

**Changed for speed** All parts of the Transformer but attention treat each token by itself. They work on the rows (n,
D) of the tokens that matter, one after another, and pads cost nothing. Attention unpacks the rows, because the places
of tokens matter there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.attention.masks import causal_mask, padding_mask


class Packing(NamedTuple):
    """Which tokens of a batch (B, N) have a row, and the bias of attention to them.

    >>> packing = Packing.of(np.array([[7, 8, 0], [9, 0, 0]]), pad_id=0)
    >>> rows = packing.pack(np.arange(6.0).reshape(2, 3, 1))
    >>> rows.ravel()
    array([0., 1., 3.])
    >>> packing.unpack(rows)[..., 0]
    array([[0., 1., 0.],
           [3., 0., 0.]])
    """

    shape: tuple[int, int]  # (B, N)
    places: Array | None    # (n,)  the place of each row among the B·N places; None: every place has a row
    rows_of: Array | None   # (B·N,)  the row of each place; any row for a place without one
    bias: Array | None      # (1 or B, 1, 1 or N, N)  for scores: 0 where a query may attend, −∞ elsewhere; None: all 0

    @classmethod
    def of(
        cls, ids: Array, pad_id: int, dtype: Any = np.float64, *, kept: Array | None = None, causal: bool = False
    ) -> Packing:
        """Give a row to the tokens `kept` (B, N), by default to all real tokens. `dtype` is that of the scores.

        The bias hides pads from every query. With `causal` it also hides from a query the tokens after it.
        """
        real = padding_mask(ids, pad_id=pad_id)               # (B, 1, 1, N)
        kept = real[:, 0, 0] if kept is None else kept
        places = None if kept.all() else np.flatnonzero(kept)
        rows_of = None if places is None else np.maximum(np.cumsum(kept) - 1, 0)
        mask = None if real.all() else real                   # no mask: the same bits, less work
        if causal:
            order = causal_mask(ids.shape[1])
            mask = order[None, None] if mask is None else mask & order
        bias = None if mask is None else np.where(mask, np.array(0, dtype), np.array(-np.inf, dtype))
        return cls(ids.shape, places, rows_of, bias)

    def pack(self, X: Array) -> Array:
        """(B, N, …) → (n, …); a view when every place has a row."""
        flat = X.reshape(self.shape[0] * self.shape[1], *X.shape[2:])
        return flat if self.places is None else flat.take(self.places, 0)

    def unpack(self, rows: Array) -> Array:
        """(n, …) → (B, N, …), zeros where there is no row; a view when every place has one."""
        if self.places is None:
            return rows.reshape(*self.shape, *rows.shape[1:])
        X = np.zeros((self.shape[0] * self.shape[1], *rows.shape[1:]), rows.dtype)
        X[self.places] = rows
        return X.reshape(*self.shape, *rows.shape[1:])

    def unpack_repeated(self, rows: Array) -> Array:
        """Like `unpack`, but quicker: a place without a row gets a copy of some row. The bias must hide these keys."""
        if self.rows_of is None or not len(rows):
            return self.unpack(rows)
        return rows.take(self.rows_of, 0).reshape(*self.shape, *rows.shape[1:])
