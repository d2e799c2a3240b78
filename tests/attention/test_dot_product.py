"""The core with its options, and edges that all attentions share: empty axes, huge scores, special numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import causal_mask, scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn._internal.checks import Array
from npattn.attention import v2_dot_product, v4_multiple_queries
from npattn.layers import dropout
from support.calls import Setting, cotangent, examples, floating, settings
from support.pairs import PAIRS

CORE = PAIRS["npattn.attention.dot_product.scaled_dot_product_attention"]


@given(setting=settings(dtype="float64", n_batch=st.integers(0, 1)))
@examples(20)
def test_definition(setting: Setting) -> None:
    """softmax([c tanh(s Q Kᵀ/c) + bias, sinks]) V with every option, number by number."""
    call = CORE.call(setting)
    Q, K, V, mask, bias, *sinks = call.args
    options = {"offset": 0, "window": None, "softcap": None, "rng": None} | call.kwargs
    s, c, W = options["scale"] or 1 / math.sqrt(Q.shape[-1]), options["softcap"], options["window"]
    Y, cache = call.run()
    shape = (*Q.shape[:-1], K.shape[-2])
    allowed = np.broadcast_to(True if mask is None else mask, shape)
    added = np.broadcast_to(0.0 if bias is None else bias, shape)
    sink = np.exp(np.broadcast_to(sinks[0] if sinks else -np.inf, shape[:-2]))
    M = np.ones(shape)
    if options["rng"] is not None:
        M, _ = dropout(M, options["dropout"], np.random.default_rng(setting.seed))
    for *b, i in np.ndindex(Q.shape[:-1]):
        at, last = (*b, i), i + options["offset"]
        h = (*b[:-1], b[-1] * len(K) // len(Q)) if b else ()   # one batch axis at most
        first = 0 if W is None else last - W + 1
        weights = []
        for n in range(shape[-1]):
            S = s * (Q[at] @ K[(*h, n)])
            ordered = first <= n <= last or not (options["causal"] or W)
            E = S if c is None else c * math.tanh(S / c)
            weights.append(math.exp(E + added[(*at, n)]) if allowed[(*at, n)] and ordered else 0.0)
        a = np.array(weights) / (math.fsum([*weights, sink[tuple(b)]]) or 1.0)
        np.testing.assert_allclose(cache.A[at], a, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(Y[at], (a * M[at]) @ V[h], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("shape", [(), (7,), (1,), (5, 1), (5, 7), (1, 7), (2, 1, 7), (3, 1, 5, 1), (1, 2, 1, 1)])
def test_the_gradient_of_a_bias_is_summed_over_its_broadcast_axes(shape: tuple[int, ...]) -> None:
    """Additive scores are the separate argument `bias`, whose gradient is summed over its broadcast axes."""
    rng = np.random.default_rng(0)
    Q, K, V = rng.normal(size=(3, 2, 5, 4)), rng.normal(size=(3, 2, 7, 4)), rng.normal(size=(3, 2, 7, 6))
    bias = rng.normal(size=shape)
    full = np.broadcast_to(bias, (3, 2, 5, 7)).copy()
    Y, cache = scaled_dot_product_attention(Q, K, V, bias=bias)
    Z, cache_full = scaled_dot_product_attention(Q, K, V, bias=full)
    assert Y.tobytes() == Z.tobytes()
    dbias = scaled_dot_product_attention_backward(cotangent(Y), cache)[3]
    expected = scaled_dot_product_attention_backward(cotangent(Y), cache_full)[3]
    assert dbias is not None and expected is not None
    for axis, size in enumerate((1,) * (4 - len(shape)) + shape):
        if size == 1:
            expected = expected.sum(axis, keepdims=True)
    assert dbias.shape == shape
    np.testing.assert_allclose(dbias, expected.reshape(shape), rtol=1e-12, atol=1e-14)


def test_a_bias_of_minus_infinity_is_a_mask() -> None:
    """−inf − (−inf): a bias of −∞ hides as a mask does, whole rows too."""
    rng = np.random.default_rng(0)
    Q, K, V = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    mask = rng.random((4, 5)) < 0.5
    mask[1] = False
    with np.errstate(all="raise"):
        Y, cache = scaled_dot_product_attention(Q, K, V, mask)
        Z, other = scaled_dot_product_attention(Q, K, V, bias=np.where(mask, 0.0, -np.inf))
        one = scaled_dot_product_attention_backward(cotangent(Y), cache)
        two = scaled_dot_product_attention_backward(cotangent(Y), other)
    assert Y.tolist() == Z.tolist()
    for a, b in zip(one[:3], two[:3], strict=True):
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize(("N_Q", "N_X"), [(3, 3), (2, 5), (5, 2)])
def test_causal_is_aligned_at_the_top_left(N_Q: int, N_X: int) -> None:
    """Causal mask when N_Q ≠ N_X: top-left; with a mask as well, both hold."""
    rng = np.random.default_rng(0)
    Q, K, V = rng.normal(size=(N_Q, 4)), rng.normal(size=(N_X, 4)), rng.normal(size=(N_X, 3))
    pads = np.arange(N_X) != 0
    A = scaled_dot_product_attention(Q, K, V, causal=True)[1].A
    assert ((A > 0) == [[n <= i for n in range(N_X)] for i in range(N_Q)]).all()
    for mask, both in ((None, causal_mask(N_Q, N_X)), (pads, causal_mask(N_Q, N_X) & pads)):
        Y, _ = scaled_dot_product_attention(Q, K, V, mask, causal=True)
        assert Y.tobytes() == scaled_dot_product_attention(Q, K, V, both)[0].tobytes()


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((3, 5)), TypeError, r"^mask: expected a boolean array, True where .*, got float64$"),
        (np.ones((3, 5), int), TypeError, r"^mask: expected a boolean array, True where .*, got int64$"),
        (np.ones((5, 3), bool), ValueError, r"^mask: expected .* = \(3, 5\), got \(5, 3\)$"),
        (np.ones((2, 3, 5), bool), ValueError, r"^mask: expected .* = \(3, 5\), got \(2, 3, 5\)$"),
    ],
)
def test_bad_masks_beside_causal_order(mask: Array, error: type[Exception], message: str) -> None:
    """0/1 or float masks silently added, or lost in `mask & order`: refused before the two are combined."""
    with pytest.raises(error, match=message):
        scaled_dot_product_attention(np.ones((3, 2)), np.ones((5, 2)), np.ones((5, 4)), mask, causal=True)


@pytest.mark.parametrize(
    ("bias", "error", "message"),
    [
        (np.zeros((5, 3)), ValueError, r"^bias: expected a shape .* = \(3, 5\), got \(5, 3\)$"),
        (np.zeros((2, 3, 5)), ValueError, r"^bias: expected a shape .* = \(3, 5\), got \(2, 3, 5\)$"),
        (np.zeros((3, 5), np.float32), TypeError, "^bias: expected float64 like Q, got float32$"),
        (np.ones((3, 5), bool), TypeError, "^bias: expected float32 or float64, got bool$"),
        ([0.0], TypeError, "^bias: expected a NumPy array, got list$"),
    ],
)  # fmt: skip
def test_bad_biases(bias: Array, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        scaled_dot_product_attention(np.ones((3, 2)), np.ones((5, 2)), np.ones((5, 4)), bias=bias)


EMPTY = [
    (name, axis)
    for name, pair in PAIRS.items()
    for axis in ("B", "N", "N_Q", "N_X")
    if axis in ("B", *pair.axes.split())
]


@pytest.mark.parametrize(("name", "axis"), EMPTY)
@pytest.mark.parametrize("mask", ["none", "dead"])
def test_empty_axes(name: str, axis: str, mask: str) -> None:
    """Empty axes (B = 0, N_Q = 0, N_X = 0): forward and backward work: zero keys give zero output."""
    pair = PAIRS[name]
    call = pair.call(Setting(7, n_batch=1, mask=mask, optional=15, sizes={axis: 0}))
    with np.errstate(all="raise"):
        Y, cache = call.run()
        returned = pair.backward(cotangent(Y), cache)
    returned = returned if isinstance(returned, tuple) else (returned,)
    arguments = [a for a in call.args if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    assert [g.shape for g in returned] == [a.shape for a in arguments]
    assert all(np.isfinite(g).all() for g in [Y, *returned])
    if axis == "N_X" and pair.attends:
        b_O = call.args[-1] if "v7" in name else 0
        assert (b_O == Y).all()


@pytest.mark.parametrize("magnitude", [1e4, 1e100, 1e150])
def test_huge_scores(magnitude: float) -> None:
    """Huge scores ±1e4 … 1e300: finite weights, each query reads its best key."""
    rng = np.random.default_rng(0)
    Q, X = magnitude * rng.normal(size=(2, 5, 3))
    for module in (v2_dot_product, v4_multiple_queries):
        queries = Q if module is v4_multiple_queries else Q[0]
        Y, cache = module.forward(queries, X)
        assert (cache.A.max(-1) == 1).all() and (cache.A.sum(-1) == 1).all()
        assert (X[(queries @ X.T).argmax(-1)] == Y).all()
        assert all(np.isfinite(g).all() for g in module.backward(cotangent(Y), cache))


def test_nan_stays_where_it_came_from() -> None:
    """NaN or inf in an input: a query that is NaN has an output of NaN; the others have their own."""
    Q, X = np.random.default_rng(0).normal(size=(2, 4, 3))
    Q[1, 2] = np.nan
    Y, _ = v4_multiple_queries.forward(Q, X)
    others = [0, 2, 3]
    assert np.isnan(Y[1]).all()
    np.testing.assert_allclose(Y[others], v4_multiple_queries.forward(Q[others], X)[0], rtol=1e-14)


@pytest.mark.parametrize("name", [name for name, pair in PAIRS.items() if pair.attends])
@given(setting=settings(dtype="float64"))
@examples(3)
def test_one_key_gets_all_the_weight(name: str, setting: Setting) -> None:
    """At least two keys, one key only as an extra case: the gradient through the scores is zero then."""
    pair = PAIRS[name]
    call = pair.call(replace(setting, mask="none", sizes={"N_X": 1}))
    Y, cache = call.run()
    assert not hasattr(cache, "A") or (cache.A == 1).all()
    returned = floating(pair.backward(cotangent(Y), cache))
    if "core" in name or "tiled" in name:
        noise = 1e-14 * np.abs(returned[2]).max()
        assert np.abs(returned[0]).max() <= noise and np.abs(returned[1]).max() <= noise
