"""Clipping: length, direction, range of the numbers, copies and in-place changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import clip_gradients
from npattn._internal.checks import Array
from npattn.optim.clipping import sum_of_squares
from support.named_arrays import draw, flat

DTYPES = st.sampled_from([np.float32, np.float64])


@given(st.integers(0, 2**32), st.floats(-3, 3), st.floats(0.01, 100), DTYPES, st.booleans())
def test_shortens_to_max_norm_and_keeps_the_direction(
    seed: int, scale: float, max_norm: float, dtype: Any, flatten: bool
) -> None:
    grads: Any = draw(np.random.default_rng(seed), dtype, 10**scale)
    vector = np.concatenate([g.ravel() for g in grads.values()]).astype(np.float64)
    grads = flat(grads) if flatten else grads
    before = {name: g.copy() for name, g in grads.items()}
    clipped, norm = clip_gradients(grads, max_norm)
    assert norm == pytest.approx(np.linalg.norm(vector), rel=1e-6) and type(norm) is float
    assert all(np.array_equal(before[name], g) for name, g in grads.items())
    if norm <= max_norm:
        assert clipped is grads
        return
    assert type(clipped) is type(grads) and list(clipped) == list(grads)
    for name, g in clipped.items():
        assert g.dtype == dtype and not np.shares_memory(g, grads[name])
        np.testing.assert_allclose(g, before[name] * (max_norm / norm), rtol=2e-6)


@pytest.mark.parametrize(
    ("dtype", "values", "rel"),
    [(np.float64, [3e200, -4e200, 0.0], 1e-15), (np.float64, [3e307, 4e307, 1.0], 1e-15),
     (np.float32, [3e37, -4e37, 1.0], 1e-6), (np.float64, [3e-200, 4e-200, 0.0], 1e-15),
     (np.float64, [3e-160, 4e-160, 0.0], 1e-15), (np.float64, [3e-157, 4e-157, 0.0], 1e-15),
     (np.float32, [3e-30, -4e-30, 0.0], 1e-6),
     (np.float32, [3e-22, -4e-22, 0.0], 1e-6), (np.float64, [3e-320, 4e-320, 0.0], 1e-3)],
)  # fmt: skip
def test_numbers_whose_squares_leave_the_range(dtype: Any, values: list[float], rel: float) -> None:
    """Too large, too small, and so small that a square loses some of its digits."""
    grads = {"W": np.array(values[:1], dtype), "b": np.array(values[1:], dtype)}
    five = abs(values[1]) / 4 * 5
    with np.errstate(all="raise"):
        norm = clip_gradients(grads, math.inf)[1]
        clipped, _ = clip_gradients(grads, max_norm=five / 8)
    assert norm == pytest.approx(five, rel=rel)
    np.testing.assert_allclose(clipped["W"], values[0] / 8, rtol=rel)
    np.testing.assert_allclose(clipped["b"][0], values[1] / 8, rtol=rel)


def test_a_norm_beyond_all_numbers() -> None:
    grads = {"W": np.full(4, -1e308), "b": np.zeros(1, np.float32)}
    clipped, norm = clip_gradients(grads, 1.0)
    assert norm == math.inf
    np.testing.assert_allclose(clipped["W"], -0.5)


@pytest.mark.parametrize(("largest", "small"), [(1e200, 1e-200), (1.0, 1e-300)])
def test_much_smaller_numbers_become_0_without_a_warning(largest: float, small: float) -> None:
    grads = {"W": np.array([largest, small])}
    with np.errstate(all="raise"):
        clipped, norm = clip_gradients(grads, 1e-100)
    assert norm == largest and clipped["W"].tolist() == [1e-100, 0.0]


def test_at_the_limit_nothing_changes() -> None:
    grads = {"W": np.array([3.0, 4.0])}
    assert clip_gradients(grads, 5.0) == (grads, 5.0)
    assert clip_gradients(grads, math.nextafter(5.0, 0))[0] is not grads


@pytest.mark.parametrize("grads", [{}, {"W": np.zeros((0, 3))}, {"W": np.zeros(3, np.float32)}])
def test_nothing_to_clip(grads: dict[str, Array]) -> None:
    clipped, norm = clip_gradients(grads, 1e-9)
    assert clipped is grads and norm == 0


def test_many_ones_are_all_counted() -> None:
    ones = np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (2**25,), (0,))
    assert clip_gradients({"W": ones}, math.inf)[1] == pytest.approx(2**12.5, rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e200])
def test_read_only_gradients_of_any_layout(scale: float) -> None:
    """For example one number as a matrix, the gradient of a sum."""
    grads = {"W": np.broadcast_to(np.array(3 * scale), (2, 3)), "F": np.full((3, 2), 4 * scale, order="F")}
    clipped, norm = clip_gradients(grads, 1.0)
    assert norm == pytest.approx(scale * math.sqrt(6 * 9 + 6 * 16), rel=1e-15)
    np.testing.assert_allclose(clipped["W"], 3 / math.sqrt(150), rtol=1e-15)
    np.testing.assert_allclose(clipped["F"], 4 / math.sqrt(150), rtol=1e-15)


@pytest.mark.parametrize("flatten", [False, True])
def test_in_place(flatten: bool) -> None:
    grads: Any = draw(np.random.default_rng(2))
    grads = flat(grads) if flatten else grads
    expected, _ = clip_gradients(grads, 0.1)
    clipped, _ = clip_gradients(grads, 0.1, in_place=True)
    assert clipped is grads
    assert all(np.array_equal(g, expected[name]) for name, g in grads.items())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_names_a_gradient_that_is_not_finite(value: float) -> None:
    grads = draw(np.random.default_rng(0))
    grads["b"][2] = value
    message = rf"^gradient of 'b'.*1 of 4 are not, the first {value} at \(2,\)$"
    with np.errstate(all="raise"), pytest.raises(ValueError, match=message):
        clip_gradients(flat(grads), 1.0)


@pytest.mark.parametrize("max_norm", [0.0, -1.0, math.nan])
def test_refuses_a_limit_that_is_not_positive(max_norm: float) -> None:
    with pytest.raises(ValueError, match="max_norm: expected 0 < max_norm ≤ inf"):
        clip_gradients({"W": np.ones(2)}, max_norm)


def test_refuses_other_dtypes() -> None:
    with pytest.raises(TypeError, match="gradient of 'W': expected float32 or float64, got complex128"):
        clip_gradients({"W": np.ones(2, complex)}, 1.0)


def test_a_sum_of_squares_in_another_unit() -> None:
    assert sum_of_squares({"W": np.array([2.0, 4.0])}, unit=2.0) == 1 + 4
