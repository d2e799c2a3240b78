"""Sinusoidal positions against their formula and against what they are for: shifts are rotations."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import sinusoidal_positions
from support.calls import examples


@given(st.integers(0, 40), st.integers(0, 12))
@examples(25)
def test_formula(N: int, D: int) -> None:
    """P[n, 2i] = sin(n / 10000^(2i/D)), P[n, 2i+1] = cos(…); an odd D ends on a sine."""
    P = sinusoidal_positions(N, D)
    assert P.shape == (N, D) and P.dtype == np.float64
    for n in range(N):
        for d in range(D):
            angle = n / 10000 ** ((d - d % 2) / D)
            assert P[n, d] == pytest.approx(math.cos(angle) if d % 2 else math.sin(angle), abs=1e-13)


@given(st.integers(1, 8), st.integers(1, 10))
@examples(10)
def test_a_shift_is_a_rotation(pairs: int, k: int) -> None:
    """P[n + k] is one rotation of P[n] for all n, so P[n]·P[m] depends on n − m alone."""
    P = sinusoidal_positions(30, 2 * pairs)
    gram = P @ P.T
    np.testing.assert_allclose(gram[k:, k:], gram[:-k, :-k], atol=1e-12)
    np.testing.assert_allclose(np.diag(gram), pairs, atol=1e-12)


def test_the_rows_of_a_longer_table_are_the_same() -> None:
    assert sinusoidal_positions(5, 6).tobytes() == sinusoidal_positions(9, 6)[:5].tobytes()


def test_more_positions_than_memory_has_room_for() -> None:
    with pytest.raises(ValueError) as caught:
        sinusoidal_positions(2**30, 2**30)
    assert str(caught.value) == f"N, D: expected no more numbers than memory has room for, got {2**60}"


@pytest.mark.parametrize("sizes", [(-1, 4), (4, -1)])
def test_bad_sizes(sizes: tuple[int, int]) -> None:
    symbol = "N" if sizes[0] < 0 else "D"
    with pytest.raises(ValueError, match=f"^{symbol}: expected 0 or more, got -1$"):
        sinusoidal_positions(*sizes)


def test_modules_are_attributes_after_an_import() -> None:
    code = "import npattn; npattn.layers.positions; npattn.attention.dot_product; npattn.attention.masks"
    subprocess.run([sys.executable, "-c", code], check=True)
