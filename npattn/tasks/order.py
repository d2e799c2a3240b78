"""A fixed order that looks random, for splitting data and for fair samples of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def hash_order(texts: Iterable[str]) -> list[str]:
    """Sort texts by their hash (BLAKE2b of the UTF-8 bytes, 16 bytes).

    The order depends on the texts alone: not on the order they came in, not on a seed, a machine or the
    version of a random generator. A text that is added moves no other text past a third one.

    >>> hash_order(["a", "b", "c", "d"])
    ['d', 'a', 'b', 'c']
    """
    return sorted(texts, key=lambda text: hashlib.blake2b(text.encode(), digest_size=16).digest())
