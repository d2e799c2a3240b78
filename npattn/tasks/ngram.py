"""A model of n-grams of bytes: the probability of a byte given the n − 1 bytes before it, counted in a text.

It is what a language model is compared with: it knows the same training text, and takes seconds to train.

**Formula**  Interpolated Kneser–Ney smoothing. With h the n − 1 bytes before, h' the same without the first of them,
c(h w) the number of times that w follows h, and D a discount,

    p_n(w | h) = max(c(h w) − D, 0) / c(h ·) + D N(h ·) / c(h ·) · p_{n−1}(w | h')

where c(h ·) = Σ_w c(h w), and N(h ·) counts the different w that follow h. An h that was never seen has
p_n(w | h) = p_{n−1}(w | h'). Each shorter order counts, in place of c, in how many different bytes before h' the text
has h' w: a byte that follows one context alone is unlikely after others. Before the order 1 stands the uniform
p_0(w) = 1/256. The discount of each order is D = n_1/(n_1 + 2 n_2), with n_k the number of different h w of count k; of
nothing it is 0. The probabilities of all bytes add up to 1.

`BEGIN` stands n − 1 times before a file, so its first bytes have a context too. It is never predicted.

**Source**  Kneser & Ney (1995), "Improved backing-off for m-gram language modeling"; in its interpolated form, Chen &
Goodman (1999), "An empirical study of smoothing techniques for language modeling".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, check_size

BEGIN = 256

#: Bits of a symbol in the number of an n-gram: 257 symbols need 9, so that 7 symbols fit into 63 bits.
BITS, MOST = 9, 7


class Order(NamedTuple):
    """The counts of one order n. An n-gram is one number: its bytes, 9 bits each, the last one lowest."""

    grams: Array     # (G,) n-grams h w, ascending
    counts: Array    # (G,) c(h w)
    contexts: Array  # (C,) different h, ascending
    totals: Array    # (C,) c(h ·)
    kinds: Array     # (C,) N(h ·)
    discount: float  # D


def train_ngrams(files: Sequence[bytes], n: int = 5) -> list[Order]:
    """Count the n-grams of files; return the orders 1 to n.

    - files: the contents of the files.
    - n: the longest n-gram, 1 to 7.

    Raises ValueError for another n, and for files without a byte.
    """
    n = check_size("n", n, least=1)
    if n > MOST:
        raise ValueError(f"n: expected at most {MOST}, got {n}")
    if not any(files):
        raise ValueError("files: expected one byte or more, got none")
    grams, counts = np.unique(numbers(files, n), return_counts=True)
    orders = []
    for length in range(n, 0, -1):
        contexts, first, kinds = np.unique(grams >> BITS, return_index=True, return_counts=True)
        ones, twos = (int((counts == k).sum()) for k in (1, 2))
        discount = ones / max(ones + 2 * twos, 1)
        orders.append(Order(grams, counts, contexts, np.add.reduceat(counts, first), kinds, discount))
        grams, counts = np.unique(grams & ((1 << BITS * (length - 1)) - 1), return_counts=True)
    return orders[::-1]


def probabilities(orders: Sequence[Order], files: Iterable[bytes]) -> Array:
    """Return p of every byte of files given the bytes before it in its file, one file after the other.

    - orders: what `train_ngrams` returned.
    - files: the contents of the files.

    >>> orders = train_ngrams([b"abab"], n=2)
    >>> probabilities(orders, [b"ab", b"b"]).round(3)
    array([0.778, 0.806, 0.112])
    """
    all_grams = numbers(list(files), len(orders))
    p = np.full(len(all_grams), 1 / 256)
    for length, order in enumerate(orders, 1):
        grams = all_grams & ((1 << BITS * length) - 1)
        at, is_known = places(grams, order.grams)
        counts = np.where(is_known, order.counts[at], 0)
        at, is_known = places(grams >> BITS, order.contexts)
        D, total = order.discount, order.totals[at]
        longer = np.maximum(counts - D, 0) / total + D * order.kinds[at] / total * p
        p = np.where(is_known, longer, p)
    return p


def numbers(files: Sequence[bytes], n: int) -> Array:
    """Return the n-gram that ends at each byte, as a number."""
    found = [np.zeros(0, np.int64)]
    for content in files:
        ids = np.concatenate([np.full(n - 1, BEGIN), np.frombuffer(content, np.uint8).astype(np.int64)])
        gram = np.zeros(len(content), np.int64)
        for i in range(n):
            gram = (gram << BITS) | ids[i : i + len(content)]
        found.append(gram)
    return np.concatenate(found)


def places(wanted: Array, known: Array) -> tuple[Array, Array]:
    """Return where each wanted number stands among the known, which ascend, and whether it does."""
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return at, known[at] == wanted
