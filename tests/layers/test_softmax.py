"""Softmax: dead rows, masks, huge scores and special numbers."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given

from npattn._internal.checks import Array
from npattn.layers import softmax_backward
from npattn.layers.kernels import row_maximum, row_sum
from support.calls import Setting, cotangent, examples, settings
from support.pairs import PAIRS as ALL
from support.pairs import softmax

PAIR = ALL["npattn.layers.softmax.softmax"]


@given(setting=settings(dtype="float64"))
@examples(10)
def test_definition(setting: Setting) -> None:
    """exp(e) over the sum of exp, entry by entry, over the keys that the mask allows."""
    call = PAIR.call(setting)
    (E,), mask = call.args, call.kwargs["mask"]
    A = softmax(E, mask)[0]
    allowed = np.ones(E.shape, bool) if mask is None else np.broadcast_to(mask, E.shape)
    for row in np.ndindex(E.shape[:-1]):
        weights = [math.exp(e) if m else 0.0 for e, m in zip(E[row], allowed[row], strict=True)]
        expected = [w / (math.fsum(weights) or 1.0) for w in weights]
        np.testing.assert_allclose(A[row], expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_that_may_attend_to_nothing(dtype: str) -> None:
    """A row that may attend to nothing: zeros, exactly, and not a warning."""
    E = np.array([[1.0, -2.0, 3.0], [0.5, 1.0, 2.0]], dtype)
    mask = np.array([[True, False, True], [False, False, False]])
    with np.errstate(all="raise"):
        A, cache = softmax(E, mask)
        dE = softmax_backward(cotangent(A), cache)
    assert A.dtype == dE.dtype == dtype
    assert not A[1].any() and not dE[1].any()
    assert A[0].sum() == pytest.approx(1) and np.any(dE[0] != 0)


@pytest.mark.parametrize("mask", [None, np.array([[True, True], [True, True]])])
def test_scores_of_minus_infinity(mask: Array | None) -> None:
    """−inf − (−inf): a row of −∞, as an additive mask makes it, is dead too, with a mask and without one."""
    with np.errstate(all="raise"):
        A, cache = softmax(np.array([[-np.inf, -np.inf], [-np.inf, 7.0]]), mask)
        dE = softmax_backward(np.array([[1.0, 2.0], [3.0, 4.0]]), cache)
    assert A.tolist() == [[0, 0], [0, 1]]
    assert dE.tolist() == [[0, 0], [0, 0]]


@given(setting=settings(mask="full"))
@examples(10)
def test_an_all_true_mask_equals_no_mask_bit_for_bit(setting: Setting) -> None:
    """−inf − (−inf) in the max-subtraction; an all-True mask equals no mask bit for bit."""
    call = PAIR.call(setting)
    (E,), mask = call.args, call.kwargs["mask"]
    assert mask.all()
    A, B = softmax(E, mask)[0], softmax(E)[0]
    assert A.tobytes() == B.tobytes()
    dA = cotangent(A)
    assert softmax_backward(dA, A).tobytes() == softmax_backward(dA, B).tobytes()


def test_a_masked_score_cannot_be_out_learned() -> None:
    """A finite −1e9 can be out-learned and leaks: behind the mask no score is large enough."""
    E = np.array([[1e30, 0.0, 1.0], [-1e30, -2e30, 3e38]], np.float32)
    mask = np.array([[False, True, True], [True, True, False]])
    A, cache = softmax(E, mask)
    assert A[0, 0] == A[1, 2] == 0
    np.testing.assert_allclose(A[0, 1:], [1 / (1 + math.e), math.e / (1 + math.e)], rtol=1e-6)
    assert A[1].tolist() == [1, 0, 0]
    assert not softmax_backward(cotangent(A), cache)[~mask].any()


@pytest.mark.parametrize("magnitude", [1e4, 1e9, 1e100, 1e300])
def test_huge_scores(magnitude: float) -> None:
    """Huge scores ±1e4 … 1e300: finite weights, exact where the gaps are as large."""
    E = magnitude * np.array([[1.0, 0.0, -1.0], [-1.0, -1.0, -1.0], [0.0, 1.0, 1.0]])
    with warnings.catch_warnings(), np.errstate(all="raise"):
        A, cache = softmax(E)
        dE = softmax_backward(np.array([3.0, 5.0, 9.0]) + np.zeros_like(A), cache)
    np.testing.assert_allclose(A, [[1, 0, 0], [1 / 3] * 3, [0, 0.5, 0.5]], rtol=1e-15, atol=0)
    np.testing.assert_allclose(dE[2], [0, -1, 1], rtol=1e-15, atol=0)
    assert not dE[0].any()


def test_one_tiny_weight_raises_no_underflow() -> None:
    """exp(−740) is below the smallest normal number, so its weight is 0."""
    with np.errstate(all="raise"):
        A = softmax(np.array([0.0, 0.0, 0.0, -740.0]))[0]
    np.testing.assert_allclose(A, [1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-15)


@pytest.mark.parametrize(("dtype", "root"), [("float32", 2.0**-63), ("float64", 2.0**-511)])
@pytest.mark.parametrize("top", [0.0, -90.0, 1e4])
def test_weights_down_to_the_root_of_the_smallest_normal_number_count(dtype: str, root: float, top: float) -> None:
    depth = -math.log(root)
    E = np.array([[top, top - depth + 0.1, top - depth - 0.1], [top, top, top - 1]], dtype)
    A, _ = softmax(E)
    assert A[0, 2] == 0
    np.testing.assert_allclose(A[0, 1], root * math.exp(0.1), rtol=1e-12 if dtype == "float64" else 1e-3)
    np.testing.assert_array_equal(A[1], softmax(E[1])[0])     # the bits of a row don't depend on its neighbours


@given(setting=settings(dtype="float64", mask="none"))
@examples(10)
def test_a_shift_of_the_scores_changes_nothing(setting: Setting) -> None:
    """… so are gradients along any shift of the scores: Σ dE of a row is zero, measured against its neighbours."""
    (E,) = PAIR.call(setting).args
    A, cache = softmax(E)
    np.testing.assert_allclose(softmax(E + 5.0)[0], A, rtol=1e-14)
    np.testing.assert_allclose(A.sum(-1), 1, rtol=1e-15)
    dE = softmax_backward(cotangent(A), cache)
    assert np.abs(dE.sum(-1)).max() <= 1e-15 * np.abs(cotangent(A)).max()


def test_nan_and_infinity_in_an_input() -> None:
    """NaN or inf in an input: NaN stays in its row, and what the mask hides is never read."""
    E = np.array([[np.nan, 1.0, 2.0], [3.0, 1.0, 2.0], [np.nan, 1.0, 1.0], [np.inf, 1.0, 1.0]])
    mask = np.array([[True, True, True], [True, True, True], [False, True, True], [False, True, True]])
    A = softmax(E, mask)[0]
    assert np.isnan(A[0]).all()
    assert np.array_equal(A[1], softmax(E[1])[0])
    assert A[2:].tolist() == [[0, 0.5, 0.5]] * 2
    with np.errstate(invalid="ignore"):
        assert np.isnan(softmax(np.array([np.inf, 0.0]))[0]).all()  # ∞ − ∞: no number, and not a wrong one


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 3)])
def test_empty_axes(shape: tuple[int, ...]) -> None:
    """Empty axes (B = 0, N_Q = 0, N_X = 0): forward and backward work."""
    for mask in (None, np.ones(shape, bool), np.zeros(shape, bool)):
        A, cache = softmax(np.zeros(shape), mask)
        assert A.shape == softmax_backward(np.zeros(shape), cache).shape == shape


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.array([1, 0, 1]), TypeError, "mask: expected a boolean array, True where .*, got int64"),
        (np.array([0.0, -np.inf, 0.0]), TypeError, "mask: expected a boolean array, True where .*, got float64"),
        ([True, True, False], TypeError, "mask: expected a boolean array, True where .*, got list"),
        (np.ones((3, 2), bool), ValueError, r"the scores \(…, N_X\) = \(2, 3\), got \(3, 2\)"),
        (np.ones((4, 2, 3), bool), ValueError, r"the scores \(…, N_X\) = \(2, 3\), got \(4, 2, 3\)"),
    ],
)
def test_bad_masks(mask: Array, error: type[Exception], message: str) -> None:
    """0/1 or float masks silently added: TypeError unless bool; a mask may not enlarge the scores."""
    with pytest.raises(error, match=message):
        softmax(np.zeros((2, 3)), mask)


def test_a_bad_mask_of_a_single_row_names_its_axis() -> None:
    with pytest.raises(ValueError, match=r"the scores \(…, N_X\) = \(3,\), got \(2,\)"):
        softmax(np.zeros(3), np.ones(2, bool))


def test_a_score_alone_is_named() -> None:
    with pytest.raises(ValueError, match=r"^E: expected \(…, N_X\), got \(\)$"):
        softmax(np.array(1.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_the_softmax_is_made_of(dtype: str) -> None:
    """What is subtracted of a row is its maximum, but 0 where there is none; and sums keep the dtype."""
    E = np.array([[3.0, -1.0], [-np.inf, -np.inf], [-np.inf, -2.0]], dtype)
    top, total = row_maximum(E), row_sum(np.exp(E))
    assert top.dtype == total.dtype == dtype
    assert top.tolist() == [[3], [0], [-2]] and row_maximum(E[:, :0]).tolist() == [[0], [0], [0]]
    np.testing.assert_allclose(total[:, 0], [math.exp(3) + math.exp(-1), 0, math.exp(-2)], rtol=1e-6)
