"""Heads: named split and merge, weights for each head, and a bias without effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import check_gradients
from npattn._internal.checks import Array
from npattn.attention import (
    v3_scaled_dot_product,
    v4_multiple_queries,
    v5_cross_attention,
    v6_self_attention,
    v7_multi_head,
)
from npattn.attention.v7_multi_head import merge_heads, split_heads
from support.calls import Setting, assert_same, cotangent, examples, settings, summed
from support.pairs import PAIRS

PAIR = PAIRS["npattn.attention.v7_multi_head.forward"]


@given(st.permutations([2, 3, 4, 5, 7]), st.integers(0, 2))
@examples(10)
def test_split_and_merge_are_inverse(sizes: list[int], n_batch: int) -> None:
    """Head split by reshape without transpose: column h·D + d of row n becomes entry [h, n, d]."""
    *batch, N, H, D = sizes[2 - n_batch :]
    X = np.arange(float(np.prod([*batch, N, H * D]))).reshape(*batch, N, H * D)
    heads = split_heads(X, H)
    assert heads.shape == (*batch, H, N, D)
    for h in range(H):
        assert (heads[..., h, :, :] == X[..., h * D : (h + 1) * D]).all()
    assert (merge_heads(heads) == X).all()
    assert (heads.reshape(-1) != X.reshape(*batch, H, N, D).reshape(-1)).any()


def ones_beside(X: Array) -> Array:
    """[X, 1]: a bias is one more row of the weights."""
    return np.concatenate([X, np.ones_like(X[..., :1])], -1)


def below(W: Array, b: Array | None) -> Array:
    return np.vstack([W, np.zeros(W.shape[1]) if b is None else b])


@given(setting=settings(dtype="float64", optional=st.sampled_from([0, 5, 10, 15])))
@examples(10)
def test_v7_is_a_loop_over_heads(setting: Setting) -> None:
    """Head split by reshape without transpose: equality with a loop over heads of v5, H ≠ D_H ≠ N."""
    c = PAIR.call(setting)
    X_Q, X, W_Q, W_K, W_V, W_O, b_Q, b_K, b_V, b_O = c.args
    H = c.kwargs["n_heads"]
    Z, cache = c.run()
    dZ = cotangent(Z)
    dX_Q, dX, dW_Q, dW_K, dW_V, dW_O, *db = v7_multi_head.backward(dZ, cache)
    mask = c.kwargs["mask"]
    mask = None if mask is None else np.broadcast_to(mask, cache.A.shape)
    columns, v_columns = (np.split(np.arange(W.shape[1]), H) for W in (W_K, W_V))
    caches, Y = [], []
    for h in range(H):
        queries = ones_beside(X_Q) @ below(W_Q, b_Q)[:, columns[h]]
        keys, values = below(W_K, b_K)[:, columns[h]], below(W_V, b_V)[:, v_columns[h]]
        y, head = v5_cross_attention.forward(
            queries, ones_beside(X), keys, values, None if mask is None else mask[..., h, :, :]
        )
        assert_same([cache.A[..., h, :, :]], [head.A])
        Y.append(y)
        caches.append(head)
    merged = ones_beside(np.concatenate(Y, -1))
    assert_same([Z], [merged @ below(W_O, b_O)])

    expected: dict[str, Any] = {"X": 0.0, "X_Q": 0.0}
    weights: dict[str, list[Array]] = {"Q": [], "K": [], "V": []}
    dY = dZ @ W_O.T
    for h in range(H):
        dQ, dX_h, dK, dV = v5_cross_attention.backward(dY[..., v_columns[h]], caches[h])
        expected["X"] += dX_h[..., :-1]
        expected["X_Q"] += dQ @ W_Q[:, columns[h]].T
        weights["Q"].append(summed(ones_beside(X_Q).mT @ dQ, 2))
        weights["K"].append(dK)
        weights["V"].append(dV)
    whole = {name: np.concatenate(parts, 1) for name, parts in weights.items()}
    whole["O"] = summed(merged.mT @ dZ, 2)
    assert_same([dX_Q, dX], [expected["X_Q"], expected["X"]])
    assert_same([dW_Q, dW_K, dW_V, dW_O], [whole[name][:-1] for name in "QKVO"])
    given_biases = [i for i, b in enumerate((b_Q, b_K, b_V, b_O)) if b is not None]
    assert [i for i, d in enumerate(db) if d is not None] == given_biases
    if given_biases:  # side by side: that of b_K is noise, and only small beside its neighbours
        expected_db = [whole["QKVO"[i]][-1] for i in given_biases]
        assert_same([np.concatenate([db[i] for i in given_biases])], [np.concatenate(expected_db)])


def test_the_cache_holds_queries_keys_and_values_with_their_biases() -> None:
    """Of b_K nothing else tells: it changes neither the output nor any gradient."""
    call = PAIR.call(Setting(3, optional=15))
    X_Q, X, W_Q, W_K, W_V, _, b_Q, b_K, b_V, _ = call.args
    cache = call.run()[1]
    H = call.kwargs["n_heads"]
    assert_same([cache.Q, cache.K], [split_heads(X_Q @ W_Q + b_Q, H), split_heads(X @ W_K + b_K, H)])
    assert_same([cache.V], [split_heads(X @ W_V + b_V, H)])


@given(setting=settings(mask=st.sampled_from(["none", "live"])))
@examples(5)
def test_weights_are_always_per_head(setting: Setting) -> None:
    """Weights averaged over heads, or asking for them changes the answer: one code path, (…, H, N_Q, N_X)."""
    call = PAIR.call(setting)
    Z, cache = call.run()
    X_Q, X = call.args[:2]
    assert cache.A.shape == (*X.shape[:-2], call.kwargs["n_heads"], X_Q.shape[-2], X.shape[-2])
    np.testing.assert_allclose(cache.A.sum(-1), 1, rtol=1e-6)
    assert np.abs(cache.A[..., 0, :, :] - cache.A[..., 1, :, :]).max() > 1e-3
    assert call.run()[0].tobytes() == Z.tobytes()


@given(setting=settings(dtype="float64", optional=st.integers(2, 15).filter(lambda bits: bits & 2)))
@examples(10)
def test_the_bias_of_the_keys_has_no_gradient(setting: Setting) -> None:
    """b_K shifts every score of a query alike: its gradient is noise, measured against that of W_K."""
    call = PAIR.call(setting)
    Z, cache = call.run()
    _, _, _, dW_K, _, _, _, db_K, _, _ = v7_multi_head.backward(cotangent(Z), cache)
    assert dW_K is not None and db_K is not None
    assert np.abs(db_K).max() <= 1e-13 * max(np.abs(dW_K).max(), 1e-3)
    shifted = list(call.args)
    shifted[7] = call.args[7] + 3.0
    np.testing.assert_allclose(call.with_args(*shifted).run()[0], Z, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("mask", ["none", "dead"])
def test_self_attention(mask: str) -> None:
    """Self-attention: dQ + dK + dV all flow into one X: added once each, when X is passed twice."""
    setting = Setting(5, n_batch=1, mask=mask, optional=15, sizes={"N_Q": 5, "N_X": 5, "D_XQ": 6, "D_X": 6})
    call = PAIR.call(setting)

    def forward(X: Array, *parameters: Array):  # type: ignore[no-untyped-def]
        return v7_multi_head.forward(X, X, *parameters, **call.kwargs)

    def backward(dZ: Array, cache):  # type: ignore[no-untyped-def]
        dX_Q, dX, *rest = v7_multi_head.backward(dZ, cache)
        return dX_Q + dX, *rest

    report = check_gradients(forward, backward, call.args[1:], method="complex-step", rtol=1e-12)
    assert report.max_error <= 1e-12


@pytest.mark.parametrize(
    ("n_heads", "message"),
    [
        (0, "^n_heads: expected 1 or more, got 0$"),
        (-2, "^n_heads: expected 1 or more, got -2$"),
        (2.0, r"^n_heads: expected an integer, got 2\.0$"),
        (True, "^n_heads: expected an integer, got True$"),
        (4, "^W_Q: expected H·D_Q divisible by n_heads=4, got 6$"),
        (3, "^W_V: expected H·D_V divisible by n_heads=3, got 10$"),
    ],
)
def test_bad_numbers_of_heads(n_heads: int, message: str) -> None:
    X, W = np.ones((3, 5)), np.ones((5, 6))
    with pytest.raises((TypeError, ValueError), match=message):
        v7_multi_head.forward(X, X, W, W, np.ones((5, 10)), np.ones((10, 2)), n_heads=n_heads)


def test_a_number_of_heads_from_numpy() -> None:
    X, W = np.random.default_rng(0).normal(size=(2, 3, 4, 4))[:, 0]
    Y, cache = v7_multi_head.forward(X, X, W, W, W, W, n_heads=np.int64(2))
    assert (v7_multi_head.forward(X, X, W, W, W, W, n_heads=2)[0] == Y).all() and cache.A.shape == (2, 4, 4)


@pytest.mark.parametrize("D_Q", [0, 1])
def test_widths_without_a_root(D_Q: int) -> None:
    """√D_Q is 1 for a width of 1; queries and keys of no width leave scores of 0, and so even weights."""
    rng = np.random.default_rng(D_Q)
    Q, X, w = rng.normal(size=(2, D_Q)), rng.normal(size=(3, 4)), rng.normal(size=(4, D_Q))
    K = X @ w
    A = np.exp(Q @ K.T) / np.exp(Q @ K.T).sum(-1, keepdims=True)
    V = np.eye(4)
    for Y, cache, backward in [
        (*v5_cross_attention.forward(Q, X, w, V), v5_cross_attention.backward),
        (*v7_multi_head.forward(Q, X, np.eye(D_Q), w, V, V, n_heads=1), v7_multi_head.backward),
    ]:
        np.testing.assert_allclose(Y, A @ X, rtol=1e-14)
        assert all(np.isfinite(d).all() for d in backward(Y, cache) if d is not None)
    A = np.exp(K @ K.T) / np.exp(K @ K.T).sum(-1, keepdims=True)
    Y, cache = v6_self_attention.forward(X, w, w, V)
    np.testing.assert_allclose(Y, A @ X, rtol=1e-14)
    assert all(np.isfinite(d).all() for d in v6_self_attention.backward(Y, cache))
    Y, cache = v4_multiple_queries.forward(K, K)
    np.testing.assert_allclose(cache.A, A, rtol=1e-14)
    dQ, _ = v4_multiple_queries.backward(Y, cache)
    _, cache = v3_scaled_dot_product.forward(K[0], K)
    np.testing.assert_allclose(cache.A, A[0], rtol=1e-14)
    dq, _ = v3_scaled_dot_product.backward(Y[0], cache)
    np.testing.assert_allclose(dq, dQ[0], rtol=1e-13, atol=1e-15)


def test_gradients_of_width_1() -> None:
    rng = np.random.default_rng(1)
    Q, K, X, w, V = (rng.normal(size=shape) for shape in ((2, 1), (3, 1), (3, 4), (4, 1), (4, 2)))
    for version, args in [
        (v3_scaled_dot_product, (Q[0], K)),
        (v4_multiple_queries, (Q, K)),
        (v5_cross_attention, (Q, X, w, V)),
        (v6_self_attention, (X, w, w, V)),
    ]:
        assert check_gradients(version.forward, version.backward, args).ok
    args = (X, X, w, w, V, rng.normal(size=(2, 3)))
    assert check_gradients(v7_multi_head.forward, v7_multi_head.backward, args, {"n_heads": 1}).ok
