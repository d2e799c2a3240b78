"""ALiBi, attention with linear biases: scores fall with the distance of query and key, at a slope for each head.

    B[h, i, n] = −m_h (i + offset − n)

for query i, key n and head h, all counted from 0. It is added to the scores, as `bias` of
`npattn.scaled_dot_product_attention`; positions are not added to the inputs then.

The slopes of H heads, a power of two, are 2^(−8/H), 2^(−16/H), … 2^−8. For other H they are those of the next smaller
power H', followed by every other slope of 2H' heads, the first, the third, …, until there are H. Twelve heads have
2^−1 … 2^−8, then 2^−½, 2^−1.5, 2^−2.5, 2^−3.5.

**Conventions**  Much code writes m_h n, which rises towards the query, in place of −m_h (i − n). The two differ by
m_h i, the same for all keys of a query, and the softmax does not see it. They do differ when something stands beside
the scores in the softmax, such as a sink. Keys after the query get positive numbers here; a causal mask hides them.

**Raises**  ValueError for negative sizes and no heads, TypeError for anything but integers.

**Source**  Press, Smith & Lewis (2021), arXiv:2108.12409, §3; the slopes of other H are in the authors' code.

>>> alibi_bias(2, 3)
array([[[ 0.        ,  0.0625    ,  0.125     ],
        [-0.0625    ,  0.        ,  0.0625    ],
        [-0.125     , -0.0625    ,  0.        ]],
<BLANKLINE>
       [[ 0.        ,  0.00390625,  0.0078125 ],
        [-0.00390625,  0.        ,  0.00390625],
        [-0.0078125 , -0.00390625,  0.        ]]])
"""

from __future__ import annotations

import numpy as np

from npattn._internal.checks import Array, check_integer, check_room, check_size


def alibi_bias(n_heads: int, N_Q: int, N_X: int | None = None, offset: int = 0) -> Array:
    """Return the biases B (H, N_Q, N_X) in float64.

    - n_heads: H, the number of heads.
    - N_Q: number of queries.
    - N_X: number of keys; None for N_Q.
    - offset: number of keys before the first query, as when decoding with a cache.

    Raises ValueError for negative sizes and no heads, TypeError for what is no integer.

    >>> alibi_bias(1, 1, 4, offset=3) * 256
    array([[[-3., -2., -1.,  0.]]])
    """
    n_heads, N_Q = check_size("n_heads", n_heads, least=1), check_size("N_Q", N_Q)
    N_X = N_Q if N_X is None else check_size("N_X", N_X)
    offset = check_integer("offset", offset)
    check_room("n_heads, N_Q, N_X", n_heads * N_Q * N_X)
    ahead = np.arange(N_X) - (np.arange(N_Q)[:, None] + float(offset))              # (N_Q, N_X)
    return slopes(n_heads)[:, None, None] * ahead


def slopes(n_heads: int) -> Array:
    """The slopes m (H,)."""
    power = 2 ** (n_heads.bit_length() - 1)                   # H'
    first = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    rest = 2.0 ** (-4 * np.arange(1, 2 * (n_heads - power), 2) / power)
    return np.concatenate([first, rest])
