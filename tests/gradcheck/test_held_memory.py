"""What is known of an object, and which arrays share memory, as far as that can be told."""

from __future__ import annotations

import numpy as np

from npattn.gradcheck.memory import fingerprint, overlaps


class OnAnotherDevice:
    """An array that cannot be read from here, as a cache may hold one."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("copy it to the host first")


def test_a_function_a_class_and_a_bare_object_are_known_by_their_type_alone():
    """Their text holds an address, which says nothing of what has been written."""
    cache = [lambda: None, OnAnotherDevice, OnAnotherDevice(), 1.5, "text"]
    names = ["function", "type", "OnAnotherDevice", "1.5", "'text'"]
    assert fingerprint({"cache": cache}) == {f"cache[{i}]": name for i, name in enumerate(names)}


def test_only_arrays_are_asked_whether_they_share_memory():
    X = np.ones(3)
    assert overlaps(X, X[1:]) and not overlaps(X[:2], X[2:]) and not overlaps(X, X.copy())
    assert not overlaps(X, OnAnotherDevice()) and not overlaps(OnAnotherDevice(), X)


def test_arrays_whose_overlap_is_too_hard_to_tell_count_as_apart():
    """These do share a number, but a search of 10,000 steps does not find it; to name one by mistake would be worse."""
    memory, shape = np.zeros(900_000, np.int8), (56, 56, 56)
    one = np.lib.stride_tricks.as_strided(memory, shape, (6831, 4090, 4290))
    other = np.lib.stride_tricks.as_strided(memory[64173:], shape, (735, 7091, 5921))
    assert np.shares_memory(one, other) and not overlaps(one, other)
