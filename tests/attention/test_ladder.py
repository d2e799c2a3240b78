"""The seven versions as a ladder: each equals its neighbour where what changed is undone.

Forwards and backwards, with masks: gradients follow by the chain rule written out here.
"""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npattn import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.attention import (
    VERSIONS,
    v2_dot_product,
    v3_scaled_dot_product,
    v4_multiple_queries,
    v5_cross_attention,
    v6_self_attention,
    v7_multi_head,
)
from support.calls import Call, Setting, assert_same, cotangent, examples, settings, summed
from support.pairs import PAIRS

each_setting = given(setting=settings(dtype="float64"))


def call(version: int, setting: Setting) -> Call:
    return PAIRS[f"{VERSIONS[version - 1].module.__name__}.forward"].call(setting)


@each_setting
@examples(10)
def test_v3_is_v2_with_a_scaled_query(setting: Setting) -> None:
    """v3 = v2 with q/√D_Q."""
    c = call(3, setting)
    q, X = c.args
    root = math.sqrt(q.shape[-1])
    y, cache_3 = c.run()
    expected, cache_2 = v2_dot_product.forward(q / root, X, **c.kwargs)
    dy = cotangent(y)
    dq, dX = v2_dot_product.backward(dy, cache_2)
    assert_same([y, cache_3.A], [expected, cache_2.A])
    assert_same(v3_scaled_dot_product.backward(dy, cache_3), [dq / root, dX])


@each_setting
@examples(10)
def test_a_row_of_v4_is_v3(setting: Setting) -> None:
    """a row of v4 = v3; X, which all queries share, gathers the gradients of all rows."""
    c = call(4, setting)
    Q, X = c.args
    Y, cache = c.run()
    dY = cotangent(Y)
    dQ, dX = v4_multiple_queries.backward(dY, cache)
    mask = c.kwargs["mask"]
    mask = None if mask is None else np.broadcast_to(mask, cache.A.shape)
    total = np.zeros_like(X)
    for i in range(Q.shape[-2]):
        y, row = v3_scaled_dot_product.forward(Q[..., i, :], X, None if mask is None else mask[..., i, :])
        dq, dX_i = v3_scaled_dot_product.backward(dY[..., i, :], row)
        assert_same([Y[..., i, :], cache.A[..., i, :], dQ[..., i, :]], [y, row.A, dq])
        total += dX_i
    assert_same([dX], [total])


@each_setting
@examples(10)
def test_v5_without_projections_is_v4(setting: Setting) -> None:
    """v5(W_K=W_V=I) = v4."""
    c = call(4, setting)
    Q, X = c.args
    Y, cache_4 = c.run()
    identity = np.eye(X.shape[-1])
    expected, cache_5 = v5_cross_attention.forward(Q, X, identity, identity, **c.kwargs)
    dY = cotangent(Y)
    assert_same([Y, cache_4.A], [expected, cache_5.A])
    assert_same(v4_multiple_queries.backward(dY, cache_4), v5_cross_attention.backward(dY, cache_5)[:2])


@each_setting
@examples(10)
def test_v6_is_v5_with_queries_from_the_input(setting: Setting) -> None:
    """v6 = v5 with Q = X W_Q: dQ flows on into W_Q, and into X as a third term."""
    c = call(6, setting)
    X, W_Q, W_K, W_V = c.args
    Y, cache_6 = c.run()
    expected, cache_5 = v5_cross_attention.forward(X @ W_Q, X, W_K, W_V, **c.kwargs)
    dY = cotangent(Y)
    dQ, dX, dW_K, dW_V = v5_cross_attention.backward(dY, cache_5)
    dW_Q = summed(X.mT @ dQ, 2)
    assert_same([Y, cache_6.A], [expected, cache_5.A])
    assert_same(v6_self_attention.backward(dY, cache_6), [dX + dQ @ W_Q.T, dW_Q, dW_K, dW_V])


@each_setting
@examples(10)
def test_v7_with_one_head_is_v6(setting: Setting) -> None:
    """v7(H=1, W_O=I) = v6. Self-attention: dQ + dK + dV all flow into one X, added once each."""
    c = call(6, setting)
    X, W_Q, W_K, W_V = c.args
    mask = c.kwargs["mask"]
    mask = mask[..., None, :, :] if mask is not None and mask.ndim > 1 else mask
    Y, cache_6 = c.run()
    W_O = np.eye(W_V.shape[1])
    expected, cache_7 = v7_multi_head.forward(X, X, W_Q, W_K, W_V, W_O, n_heads=1, mask=mask)
    dY = cotangent(Y)
    dX_Q, dX, dW_Q, dW_K, dW_V, dW_O, *db = v7_multi_head.backward(dY, cache_7)
    assert_same([Y, cache_6.A], [expected, cache_7.A[..., 0, :, :]])
    assert_same(v6_self_attention.backward(dY, cache_6), [dX_Q + dX, dW_Q, dW_K, dW_V])
    assert_same([dW_O], [summed(Y.mT @ dY, 2)])
    assert db == [None] * 4


@each_setting
@examples(10)
def test_the_core_is_v4_and_v5(setting: Setting) -> None:
    """Core attention equals v4 (K = V = X) and v5 (K = X W_K, V = X W_V)."""
    c = call(4, setting)
    Q, X = c.args
    Y, cache_4 = c.run()
    dY = cotangent(Y)
    core, cache = scaled_dot_product_attention(Q, X, X, **c.kwargs)
    dQ, dK, dV, dbias = scaled_dot_product_attention_backward(dY, cache)
    assert dbias is None
    assert_same([core, cache.A], [Y, cache_4.A])
    assert_same([dQ, dK + dV], v4_multiple_queries.backward(dY, cache_4))

    c = call(5, setting)
    Q, X, W_K, W_V = c.args
    Y, cache_5 = c.run()
    dY = cotangent(Y)
    core, cache = scaled_dot_product_attention(Q, X @ W_K, X @ W_V, **c.kwargs)
    dQ, dK, dV, _ = scaled_dot_product_attention_backward(dY, cache)
    assert_same([core, cache.A], [Y, cache_5.A])
    expected = [dQ, dK @ W_K.T + dV @ W_V.T, summed(X.mT @ dK, 2), summed(X.mT @ dV, 2)]
    assert_same(v5_cross_attention.backward(dY, cache_5), expected)


@given(setting=settings(dtype="float64", n_batch=st.integers(0, 1)))
@examples(5)
def test_v1_is_what_it_says(setting: Setting) -> None:
    """The first rung has no neighbour below: e = tanh(q W_Q + X W_X) w, number by number."""
    c = call(1, setting)
    q, X, W_Q, W_X, w = c.args
    y, cache = c.run()
    mask = c.kwargs["mask"]
    allowed = np.ones(cache.A.shape, bool) if mask is None else np.broadcast_to(mask, cache.A.shape)
    for at in np.ndindex(q.shape[:-1]):
        weights = []
        for x, may_attend in zip(X[at], allowed[at], strict=True):
            hidden = [math.tanh(q[at] @ W_Q[:, j] + x @ W_X[:, j]) for j in range(len(w))]
            weights.append(math.exp(np.dot(hidden, w)) if may_attend else 0.0)
        a = np.array(weights) / (math.fsum(weights) or 1.0)
        assert_same([cache.A[at], y[at]], [a, a @ X[at]])
