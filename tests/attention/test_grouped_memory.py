"""Grouped queries never copy keys and values: the memory that a call adds is less than K itself."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import npattn


@pytest.mark.parametrize("attend", [npattn.scaled_dot_product_attention, npattn.tiled_attention])
def test_grouped_queries_copy_no_keys_and_values(attend: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    Q = rng.standard_normal((1, 16, 1, 64), np.float32)
    K, V = rng.standard_normal((2, 1, 2, 8192, 64), np.float32)
    grouped = added(lambda: attend(Q, K, V, grouped=True))
    repeated = added(lambda: attend(Q, K.repeat(8, 1), V.repeat(8, 1)))
    assert grouped < K.nbytes and repeated > 16 * K.nbytes


def added(call: Callable[[], Any]) -> int:
    """The most memory that was in use during the call, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
