"""The fingerprint of an object, and which arrays share memory."""

from __future__ import annotations

import numpy as np

from npattn.gradcheck.memory import fingerprint, overlaps


class OnAnotherDevice:
    """An array that NumPy cannot read. A cache may hold one."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("copy it to the host first")


def test_the_fingerprint_of_a_function_a_class_and_a_bare_object_is_their_type():
    """Their text contains an address, which does not change when they are written to."""
    cache = [lambda: None, OnAnotherDevice, OnAnotherDevice(), 1.5, "text"]
    names = ["function", "type", "OnAnotherDevice", "1.5", "'text'"]
    assert fingerprint({"cache": cache}) == {f"cache[{i}]": name for i, name in enumerate(names)}


def test_only_arrays_share_memory():
    X = np.ones(3)
    assert overlaps(X, X[1:]) and not overlaps(X[:2], X[2:]) and not overlaps(X, X.copy())
    assert not overlaps(X, OnAnotherDevice()) and not overlaps(OnAnotherDevice(), X)


def test_an_overlap_that_is_too_hard_to_find_is_not_reported():
    """These arrays share a number, but a search of 10,000 steps does not find it. A false alarm would be worse."""
    memory, shape = np.zeros(900_000, np.int8), (56, 56, 56)
    one = np.lib.stride_tricks.as_strided(memory, shape, (6831, 4090, 4290))
    other = np.lib.stride_tricks.as_strided(memory[64173:], shape, (735, 7091, 5921))
    assert np.shares_memory(one, other) and not overlaps(one, other)
