"""Sinusoidal positions: they tell attention, which ignores order, where each row stands in the sequence.

    P[n, 2i] = sin(n / 10000^(2i/D)),    P[n, 2i+1] = cos(n / 10000^(2i/D))

for row n and columns 2i and 2i+1, all counted from 0, of width D.

Each pair of columns turns at its own speed, with wavelengths from 2π to nearly 10000·2π. For an even D, P[n + k] is
P[n] turned by angles that depend on k alone. So the dot product P[n]·P[m] depends on n − m alone.

**Use**  P is added to the embeddings Y (B, N, D), which have been scaled by √D: X = √D Y + P.

**Backward**  dY = √D dX. P has no parameters, so it has no gradient (foundations F12).

**Raises**  ValueError for negative sizes, TypeError for anything but integers.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3.5.

>>> import numpy as np
>>> sinusoidal_positions(2, 4).round(4)
array([[0.    , 1.    , 0.    , 1.    ],
       [0.8415, 0.5403, 0.01  , 1.    ]])
"""

from __future__ import annotations

import numpy as np

from npattn._internal.checks import Array, check_room, check_size


def sinusoidal_positions(N: int, D: int) -> Array:
    """Return P (N, D) in float64.

    - N: number of positions, counted from 0.
    - D: width; an odd one ends on a sine.

    Raises ValueError for negative sizes, TypeError for what is no integer.
    """
    N, D = check_size("N", N), check_size("D", D)
    check_room("N, D", N * D)
    pair = np.arange(D) // 2                                  # (D,)  i of each column
    angle = np.arange(N)[:, None] * 10000.0 ** (-2 * pair / D)      # (N, D)
    return np.where(np.arange(D) % 2, np.cos(angle), np.sin(angle))
