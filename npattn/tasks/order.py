"""A fixed order that looks random. It splits data, and makes the first items of a set a fair sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def hash_order(texts: Iterable[str]) -> list[str]:
    """Sort texts by their hash (BLAKE2b of the UTF-8 bytes, 16 bytes).

    The result depends on the texts alone, not on their order, a seed, the machine or the version of a random generator.
    A new text does not change the order of the others.

    >>> hash_order(["a", "b", "c", "d"])
    ['d', 'a', 'b', 'c']
    """
    return sorted(texts, key=lambda text: hashlib.blake2b(text.encode(), digest_size=16).digest())
