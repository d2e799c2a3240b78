"""Masks in every attention: True = may attend, dead rows are zero, and what is masked does not exist."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npattn
from npattn import causal_mask, padding_mask
from npattn._internal.checks import Array
from support.calls import Call, Setting, cotangent, examples, floating, settings
from support.pairs import PAIRS, Pair, gradients

ATTENTIONS = {name: pair for name, pair in PAIRS.items() if pair.attends and "softmax" not in name}
each_attention = pytest.mark.parametrize("pair", ATTENTIONS.values(), ids=ATTENTIONS)
MANY = {name: pair for name, pair in ATTENTIONS.items() if "N_Q" in pair.axes and "D_Z" not in pair.axes}


def masked(call: Call, mask: Array | None) -> Call:
    """The same call with another mask: it is an option of the versions, and the core's fourth argument."""
    if "mask" in call.kwargs:
        return Call(call.forward, call.args, call.kwargs | {"mask": mask})
    return call.with_args(*call.args[:3], mask, *call.args[4:])


def scores_shape(call: Call) -> tuple[int, ...]:
    Y, cache = masked(call, None).run()
    return cache.A.shape if hasattr(cache, "A") else (*Y.shape[:-1], call.args[1].shape[-2])


@each_attention
@given(setting=settings(mask="none", optional=0))
@examples(4)
def test_a_row_that_may_attend_to_nothing(pair: Pair, setting: Setting) -> None:
    """A row that may attend to nothing: zero output and exactly zero gradients, under np.errstate(all="raise")."""
    call = pair.call(setting)
    dead = masked(call, np.zeros(scores_shape(call), bool))
    with np.errstate(all="raise"):
        Y, cache = dead.run()
        returned = floating(pair.backward(cotangent(Y), cache))
    assert not Y.any()
    assert not any(gradient.any() for gradient in returned)
    if hasattr(cache, "A"):
        assert not cache.A.any()


@pytest.mark.parametrize("name", MANY)
@given(seed=st.integers(0, 2**32 - 1))
@examples(4)
def test_a_dead_query_leaves_the_others_alone(name: str, seed: int) -> None:
    """A row that may attend to nothing has no gradient and adds none to what all queries share."""
    pair = MANY[name]
    call = pair.call(Setting(seed, n_batch=0, optional=0))
    shape = scores_shape(call)
    mask = np.ones(shape, bool)
    mask[0] = False
    dY = cotangent(call.run()[0])
    with np.errstate(all="raise"):
        Y, cache = masked(call, mask).run()
        dQ, *rest = pair.backward(dY, cache)
    assert not Y[0].any() and not dQ[0].any()
    others = masked(call.with_args(call.args[0][1:], *call.args[1:]), mask[1:])
    Z, cache = others.run()
    np.testing.assert_allclose(Y[1:], Z, rtol=1e-13, atol=1e-15)
    expected = pair.backward(dY[1:], cache)
    for got, wanted in zip(floating((dQ[1:], *rest)), floating(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


@each_attention
@given(setting=settings(mask="full"))
@examples(4)
def test_an_all_true_mask_equals_no_mask_bit_for_bit(pair: Pair, setting: Setting) -> None:
    """−inf − (−inf) in the max-subtraction: an all-True mask equals no mask bit for bit, backwards too."""
    call = pair.call(setting)
    bare = masked(call, None)
    assert call.run()[0].tobytes() == bare.run()[0].tobytes()
    for one, other in zip(floating(gradients(pair, call)), floating(gradients(pair, bare)), strict=True):
        assert one.tobytes() == other.tobytes()


#: Arguments whose rows along the axis −2 are the keys.
KEYED = {"dot_product": (1, 2), "tiled": (1, 2), "v1": (1,), "v2": (1,), "v3": (1,), "v4": (1,), "v5": (1,), "v7": (1,)}


@pytest.mark.parametrize("key", KEYED)
@given(setting=settings(mask="none", dtype="float64"), amount=st.sampled_from([1e-3, 1.0, 1e8]))
@examples(4)
def test_what_is_masked_changes_nothing(key: str, setting: Setting, amount: float) -> None:
    """Changing what is masked changes nothing, to the last bit, and its gradient is exactly zero."""
    pair = next(pair for name, pair in ATTENTIONS.items() if f"attention.{key}" in name)
    call = pair.call(replace(setting, optional=setting.optional & 11))  # without causal order
    N_X = call.args[1].shape[-2]
    hidden = np.arange(N_X) == setting.seed % N_X
    call = masked(call, np.broadcast_to(~hidden, scores_shape(call)))
    args = list(call.args)
    for i in KEYED[key]:
        args[i] = args[i] + amount * hidden[:, None]
    changed = call.with_args(*args)
    assert call.run()[0].tobytes() == changed.run()[0].tobytes()
    returned, again = gradients(pair, call), gradients(pair, changed)
    for i in KEYED[key]:
        gradient = returned[i]
        assert gradient is not None and not gradient[..., hidden, :].any()
    queries, queries_again = returned[0], again[0]
    assert queries is not None and queries_again is not None
    assert queries.tobytes() == queries_again.tobytes()


@given(setting=settings(mask="none", dtype="float64", sizes=st.just({"N_X": 7})))
@examples(4)
def test_a_masked_input_of_self_attention_is_a_query_only(setting: Setting) -> None:
    """Changing what is masked changes nothing but its own row; if that row does not count, its gradient is zero."""
    pair = ATTENTIONS["npattn.attention.v6_self_attention.forward"]
    call = pair.call(setting)
    X, *weights = call.args
    hidden = np.arange(X.shape[-2]) == setting.seed % X.shape[-2]
    call = masked(call, ~hidden)
    Y, cache = call.run()
    Z, _ = call.with_args(X + 1e3 * hidden[:, None], *weights).run()
    assert (Y[..., ~hidden, :] == Z[..., ~hidden, :]).all() and (Y[..., hidden, :] != Z[..., hidden, :]).any()
    dX = pair.backward(cotangent(Y) * ~hidden[:, None], cache)[0]
    assert not dX[..., hidden, :].any() and dX.any()


def test_polarity() -> None:
    """Polarity differs between libraries: here True = may attend, everywhere."""
    X = np.array([[1.0], [2.0], [4.0]])
    only_last = np.array([False, False, True])
    for name, pair in ATTENTIONS.items():
        if "N_Q" not in pair.axes and "v1" not in name and "v6" not in name:
            y, cache = pair.forward(np.array([0.5]), X, mask=only_last)
            assert y.tolist() == [4.0] and cache.A.tolist() == [0, 0, 1]
    Y, cache = npattn.scaled_dot_product_attention(X, X, X, only_last)
    assert Y.tolist() == [[4.0]] * 3


def test_a_padding_mask_read_as_queries_times_keys() -> None:
    """A (B, N_X) padding mask read as (N_Q, N_X) when B == N_Q: `padding_mask` has axes for heads and queries."""
    rng = np.random.default_rng(0)
    B = N_Q = 3
    H, N_X, D = 2, 4, 5
    Q, K, V = rng.normal(size=(B, H, N_Q, D)), rng.normal(size=(B, H, N_X, D)), rng.normal(size=(B, H, N_X, D))
    lengths = np.array([1, 2, 4])
    A = npattn.scaled_dot_product_attention(Q, K, V, padding_mask(lengths))[1].A
    for b, n in enumerate(lengths):
        assert (A[b, ..., :n] > 0).all() and not A[b, ..., n:].any()
    with pytest.raises(ValueError, match=r"\(…, N_Q, N_X\) = \(3, 2, 2, 4\), got \(3, 4\)"):
        npattn.scaled_dot_product_attention(Q[:, :, :2], K, V, padding_mask(lengths)[:, 0, 0])


def test_causal_and_padding_make_dead_rows() -> None:
    """Causal ∩ padding makes dead rows: pads on the left leave the first queries nothing."""
    ids = np.array([[0, 0, 7, 8], [5, 6, 7, 8]])
    mask = padding_mask(ids, pad_id=0) & causal_mask(4)
    X = np.random.default_rng(1).normal(size=(2, 1, 4, 3))
    pair = PAIRS["npattn.attention.v4_multiple_queries.forward"]
    with np.errstate(all="raise"):
        Y, cache = pair.forward(X, X, mask)
        dQ, dX = pair.backward(cotangent(Y), cache)
        core, _ = npattn.scaled_dot_product_attention(X, X, X, padding_mask(ids, pad_id=0), causal=True)
    assert not Y[0, 0, :2].any() and not dQ[0, 0, :2].any() and not dX[0, 0, :2].any()
    assert (Y[0, 0, 2] == X[0, 0, 2]).all()  # the first real token sees itself alone
    np.testing.assert_allclose(core, Y, rtol=1e-14)


@pytest.mark.parametrize("name", ["v4_multiple_queries", "v5_cross_attention", "v7_multi_head"])
def test_a_padded_batch_equals_its_members_one_by_one(name: str) -> None:
    pair = PAIRS[f"npattn.attention.{name}.forward"]
    call = pair.call(Setting(4, n_batch=1, optional=15))
    B, N_X = call.args[1].shape[:2]
    lengths = np.arange(B) % N_X + 1
    pads = padding_mask(lengths, N_X)
    whole = masked(call, pads if "v7" in name else pads[:, 0])
    Y, cache = whole.run()
    dY = cotangent(Y)
    dQ, dX, *shared = pair.backward(dY, cache)
    totals: list[Any] = [0.0 for _ in shared]
    for b, n in enumerate(lengths):
        alone = masked(call.with_args(call.args[0][b], call.args[1][b, :n], *call.args[2:]), None)
        y, cache = alone.run()
        dq, dx, *own = pair.backward(dY[b], cache)
        np.testing.assert_allclose(Y[b], y, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(dQ[b], dq, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(dX[b, :n], dx, rtol=1e-12, atol=1e-14)
        assert not dX[b, n:].any()
        totals = [total + gradient for total, gradient in zip(totals, own, strict=True)]
    for gradient, total in zip(shared, totals, strict=True):
        np.testing.assert_allclose(gradient, total, rtol=1e-11, atol=1e-13)


@each_attention
def test_bad_masks(pair: Pair) -> None:
    """0/1 or float masks silently added: TypeError unless bool; a wrong shape is named with the axes."""
    call = pair.call(Setting(optional=0))
    shape = scores_shape(call)
    for wrong in (np.ones(shape, int), np.zeros(shape), np.ones(shape).tolist()):
        with pytest.raises(TypeError, match=r"^mask: expected a boolean array, True where a query may attend, got "):
            masked(call, wrong).run()
    for size in ((2, *shape), (*shape[:-1], shape[-1] + 1), (*shape[:-1], 0)):
        with pytest.raises(ValueError, match=r"^mask: expected a shape that broadcasts to the scores \(.*N_(X|Q)\) = "):
            masked(call, np.ones(size, bool)).run()
