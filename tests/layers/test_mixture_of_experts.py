"""Routers and experts: the choice, its ties and groups, what the conventions share, and the sum over experts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn.layers import (
    linear,
    linear_backward,
    mixture_of_experts,
    mixture_of_experts_backward,
    route,
    route_backward,
    softmax,
    swiglu,
    swiglu_backward,
)

RNG = np.random.default_rng(0)
LOGITS, DY = RNG.standard_normal((2, 7, 8)), RNG.standard_normal((2, 7, 3))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def test_softmax_renormalised_is_the_softmax_of_the_chosen() -> None:
    weights, cache = route(LOGITS, 3)
    chosen = np.take_along_axis(LOGITS, cache.ids, -1)
    np.testing.assert_array_equal(chosen, np.sort(LOGITS, -1)[..., :-4:-1])          # the largest first
    np.testing.assert_allclose(weights, softmax(chosen), rtol=1e-15)
    plain, of_plain = route(LOGITS, 3, renormalise=False)
    np.testing.assert_allclose(weights, plain / plain.sum(-1, keepdims=True), rtol=1e-14)
    assert (of_plain.ids == cache.ids).all()
    unchosen = np.ones(LOGITS.shape, bool)
    np.put_along_axis(unchosen, cache.ids, False, -1)
    assert (route_backward(DY, cache)[unchosen] == 0).all()
    assert (route_backward(DY, of_plain)[unchosen] != 0).all()


def test_softmax_of_chosen_logits_far_below_the_largest() -> None:
    """A correction can choose what has no share of all scores, but all of the chosen ones."""
    weights, cache = route(np.array([[0.0, -900.0, -901.0]]), 2, correction=np.array([0.0, 2.0, 2.0]))
    np.testing.assert_allclose(weights, softmax(np.array([[-900.0, -901.0]])), rtol=1e-14)
    assert cache.ids.tolist() == [[1, 2]]
    weights, cache = route(np.array([[9.0, -1e4]]), 1, score="sigmoid", correction=np.array([0.0, 2.0]))
    assert weights.tolist() == [[0.0]] and route_backward(np.ones((1, 1)), cache).tolist() == [[0.0, 0.0]]


def test_ties_take_the_lowest_id_first() -> None:
    for options in ({}, {"score": "sigmoid"}, {"score": "sigmoid", "n_groups": 2, "n_chosen_groups": 1}):
        assert route(np.zeros((1, 6)), 3, **options)[1].ids.tolist() == [[0, 1, 2]]
    assert route(np.array([[1.0, 2.0, 1.0, 2.0, 1.0]]), 4)[1].ids.tolist() == [[1, 3, 0, 2]]
    scores = RNG.integers(0, 3, (2, 1000)).astype(float)      # so many that an unstable sort would show
    order = [sorted(range(1000), key=lambda e: (-row[e], e)) for row in scores]
    assert route(scores, 1000)[1].ids.tolist() == order


def test_a_group_counts_by_the_sum_of_its_two_best_corrected_scores() -> None:
    scores = np.array([[0.9, 0.1, 0.2, 0.6, 0.5, 0.1, 0.3, 0.3, 0.3]])                # sums 1.1, 1.1 and 0.6
    logits = np.log(scores / (1 - scores))
    options: dict[str, Any] = {"score": "sigmoid", "n_groups": 3}
    assert route(logits, 3, **options)[1].ids.tolist() == [[0, 3, 4]]
    assert route(logits, 3, n_chosen_groups=1, **options, correction=np.repeat([0.0, 0.1, 0.0], 3))[1].ids.tolist() == [
        [3, 4, 5]
    ]
    scores[0, 2], scores[0, 5] = 0.25, 0.5                    # 1.15 against 1.1, although its third is lower
    logits = np.log(scores / (1 - scores))
    assert route(logits, 3, n_chosen_groups=1, **options)[1].ids.tolist() == [[0, 2, 1]]
    raised = np.array([0.0] * 6 + [0.5, 0.0, 0.5])
    weights, cache = route(logits, 2, **options, n_chosen_groups=1, correction=raised, renormalise=False, scale=10.0)
    assert cache.ids.tolist() == [[6, 8]]
    np.testing.assert_allclose(weights, [[3.0, 3.0]])         # without the correction, times the scale


def test_groups_of_rows_in_a_batch_are_those_of_each_row() -> None:
    options: dict[str, Any] = {"score": "sigmoid", "n_groups": 4, "n_chosen_groups": 2}
    weights, cache = route(LOGITS, 3, **options)
    for place in np.ndindex(2, 7):
        row, of_row = route(LOGITS[place], 3, **options)
        assert (row == weights[place]).all() and (of_row.ids == cache.ids[place]).all()
    assert set(route(LOGITS, 4, **options)[1].ids[0, 0] // 2) == set(cache.ids[0, 0] // 2)      # all of two groups


def test_a_batch_of_rows_in_float32() -> None:
    weights, of_route = route(LOGITS.astype(np.float32), 3)
    shapes = (2, 7, 5), (8, 5, 8), (8, 4, 6)
    X, W_1, W_2 = (RNG.standard_normal(shape).astype(np.float32) for shape in shapes)
    Y, cache = mixture_of_experts(X, weights, W_1, W_2, ids=of_route.ids)
    found: Any = mixture_of_experts_backward(Y, cache)
    dW_1: Any = 0
    for n in range(2):                                        # each of the batch by itself
        one, of_one = mixture_of_experts(X[n], weights[n], W_1, W_2, ids=of_route.ids[n])
        dX, _, dW_1_n, *_ = mixture_of_experts_backward(Y[n], of_one)
        dW_1 = dW_1 + dW_1_n
        np.testing.assert_allclose(Y[n], one, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[0][n], dX, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[2], dW_1, rtol=1e-4, atol=1e-3)
    assert {array.dtype for array in (Y, cache.Y, *found[:4])} == {np.dtype(np.float32)}


def test_sigmoid_scores_and_their_gradients() -> None:
    weights, cache = route(LOGITS, 3, score="sigmoid", scale=2.5)
    s = np.take_along_axis(sigmoid(LOGITS), cache.ids, -1)
    np.testing.assert_allclose(weights, 2.5 * s / s.sum(-1, keepdims=True), rtol=1e-14)
    dlogits = np.take_along_axis(route_backward(DY, cache), cache.ids, -1)
    total = s.sum(-1, keepdims=True)
    expected = 2.5 * (DY / total - (DY * s).sum(-1, keepdims=True) / total**2) * s * (1 - s)
    np.testing.assert_allclose(dlogits, expected, rtol=1e-12, atol=1e-15)


def test_the_sum_over_experts_is_that_of_the_layers_one_by_one() -> None:
    X, weights = RNG.standard_normal((4, 5)), RNG.standard_normal((4, 2))
    W_1, W_2, b_1, b_2 = (RNG.standard_normal(shape) for shape in ((3, 5, 8), (3, 4, 6), (3, 8), (3, 6)))
    ids, dY = np.array([[0, 1], [1, 0], [1, 1], [0, 1]]), RNG.standard_normal((4, 6))     # nothing chooses expert 2
    Y, cache = mixture_of_experts(X, weights, W_1, W_2, b_1, b_2, ids=ids, slope=1.7)
    gradients = mixture_of_experts_backward(dY, cache)
    expected = [np.zeros_like(array) for array in (X, weights, W_1, W_2, b_1, b_2)]
    out = np.zeros_like(Y)
    for n, k in np.ndindex(ids.shape):
        e = ids[n, k]
        H, of_1 = linear(X[n : n + 1], W_1[e], b_1[e])
        G, of_swiglu = swiglu(H, slope=1.7)
        f, of_2 = linear(G, W_2[e], b_2[e])
        out[n] += weights[n, k] * f[0]
        expected[1][n, k] = f[0] @ dY[n]
        dG, dW_2, db_2 = linear_backward(weights[n, k] * dY[n : n + 1], of_2)
        dx, dW_1, db_1 = linear_backward(swiglu_backward(dG, of_swiglu), of_1)
        expected[0][n] += dx[0]
        for array, gradient in zip(expected[2:], (dW_1, dW_2, db_1, db_2), strict=True):
            array[e] += gradient
    np.testing.assert_allclose(Y, out, rtol=1e-13, atol=1e-13)
    for got, want in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    assert not gradients[2][2].any() and gradients[2][0].any()
    bare = mixture_of_experts_backward(dY, mixture_of_experts(X, weights, W_1, W_2, ids=ids)[1])
    assert bare[4:] == (None, None)
    for b in ((b_1, None), (None, b_2)):
        one = mixture_of_experts_backward(dY, mixture_of_experts(X, weights, W_1, W_2, *b, ids=ids)[1])
        assert [gradient is None for gradient in one[4:]] == [each is None for each in b]


@pytest.mark.parametrize("options", [{}, {"renormalise": False}, {"score": "sigmoid", "renormalise": False}])
def test_nan_among_the_logits_of_a_row_shows_in_all_its_weights(options: dict[str, Any]) -> None:
    logits = LOGITS[0].copy()
    logits[2, 5] = np.nan
    weights, _ = route(logits, 3, **options)
    assert np.isnan(weights[2]).all() and not np.isnan(np.delete(weights, 2, 0)).any()


def test_the_correction_may_have_another_dtype() -> None:
    """Models keep it in float32 beside scores in other dtypes."""
    correction = RNG.standard_normal(8)
    one, other = (route(LOGITS.astype(np.float32), 3, correction=correction.astype(d)) for d in (np.float32, float))
    assert one[0].dtype == other[0].dtype == np.float32 and (one[1].ids == other[1].ids).all()


def test_no_rows_at_all() -> None:
    assert route(np.zeros((0, 4)), 1, n_groups=2, n_chosen_groups=1)[0].shape == (0, 1)
    weights, of_route = route(np.zeros((0, 4)), 2)
    Y, cache = mixture_of_experts(np.zeros((0, 3)), weights, np.ones((4, 3, 2)), np.ones((4, 1, 5)), ids=of_route.ids)
    assert Y.shape == (0, 5) and route_backward(weights, of_route).shape == (0, 4)
    assert [g.shape for g in mixture_of_experts_backward(Y, cache)[:3] if g is not None] == [(0, 3), (0, 2), (4, 3, 2)]


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"n_chosen": 0}, ValueError, "n_chosen: expected"),
    ({"n_chosen": 2.0}, TypeError, "n_chosen: expected"),
    ({"n_chosen": 9}, ValueError, "expected n_groups=1 to divide E=8, and n_chosen=9 experts in n_chosen_groups=1 of"),
    ({"n_groups": 3}, ValueError, "logits: expected n_groups=3 to divide E=8"),
    ({"n_groups": 0}, ValueError, "n_groups: expected"),
    ({"n_groups": 2, "n_chosen_groups": 3}, ValueError, "logits: expected .* in n_chosen_groups=3"),
    ({"n_groups": 2, "n_chosen_groups": 0}, ValueError, "n_chosen_groups: expected"),
    ({"n_groups": 4, "n_chosen_groups": 1}, ValueError, "n_chosen=3 experts in n_chosen_groups=1"),
    ({"score": "relu"}, ValueError, "score: expected one of softmax, sigmoid"),
    ({"renormalise": 1}, TypeError, "renormalise: expected"),
    ({"scale": 0.0}, ValueError, "scale: expected"),
    ({"correction": np.zeros(7)}, ValueError, r"correction: expected \(E=8,\), got \(7,\)"),
    ({"correction": np.zeros((1, 8))}, ValueError, r"correction: expected \(E,\), got \(1, 8\)"),
    ({"correction": np.zeros(8, int)}, TypeError, "correction: expected"),
])  # fmt: skip
def test_wrong_options_of_a_router(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        route(LOGITS, **{"n_chosen": 3} | options)


def test_wrong_experts() -> None:
    X, weights, ids = np.ones((2, 3)), np.ones((2, 2)), np.array([[0, 1], [1, 3]])
    with pytest.raises(ValueError, match="W_2: expected F=2, half the width of W_1, got 3"):
        mixture_of_experts(X, weights, np.ones((4, 3, 4)), np.ones((4, 3, 5)), ids=ids)
    with pytest.raises(IndexError, match="ids: expected"):
        mixture_of_experts(X, weights, np.ones((3, 3, 4)), np.ones((3, 2, 5)), ids=ids)
    with pytest.raises(ValueError, match=r"ids: expected \(2, 2\)"):
        mixture_of_experts(X, weights, np.ones((4, 3, 4)), np.ones((4, 2, 5)), ids=ids[:1])
