"""Versions 11 and 12 as a ladder: each equals the one it grows from where what changed is undone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn._internal.checks import Array
from npattn.attention import v10_grouped_query as v10
from npattn.attention import v11_sliding_window as v11
from npattn.attention import v12_normalised as v12
from npattn.attention.v7_multi_head import split_heads
from npattn.layers import RotaryFrequencies, rms_norm, rotary_frequencies
from support.calls import Call, Setting, assert_same, cotangent, examples, settings
from support.pairs import PAIRS

each_setting = given(setting=settings(dtype="float64"))
each_version = pytest.mark.parametrize("version", [v11, v12], ids=["v11", "v12"])


def call(version: Any, setting: Setting) -> Call:
    return PAIRS[f"{version.__name__}.forward"].call(setting)


def as_v10(c: Call) -> Call:
    options = {name: option for name, option in c.kwargs.items() if name not in ("window", "norm", "eps", "softcap")}
    return Call(v10.forward, c.args[:7], options)


def sizes(c: Call) -> tuple[int, int]:
    """Return N_Q and P."""
    return c.args[0].shape[-2], 0 if c.args[5] is None else c.args[5].shape[-2]


def outcome(version: Any, c: Call) -> list[Array]:
    """Return Z, the grown K and V, A, and every gradient that is not None."""
    Z, cache = c.run()
    cotangents = [cotangent(Y, i) for i, Y in enumerate((Z, cache.K, cache.V))]
    gradients = version.backward(cotangents[0], cache, *cotangents[1:])
    return [Z, cache.K, cache.V, cache.A, *(gradient for gradient in gradients if gradient is not None)]


@each_setting
@examples(8)
def test_v11_with_a_wide_window_and_sinks_of_minus_infinity_is_v10(setting: Setting) -> None:
    """v11 with W ≥ N + P and sinks at −∞ = v10; the sinks have the gradient 0. None for either is the same."""
    c = call(v11, setting)
    N, P = sizes(c)
    c.kwargs["window"] = N + P + max(c.kwargs["offset"] or 0, 0)
    *args, _ = c.args
    *found, dsinks = outcome(v11, c.with_args(*args, np.full(c.kwargs["n_heads"], -np.inf)))
    expected = outcome(v10, as_v10(c))
    assert_same(found, expected)
    assert not dsinks.any()
    for window in (None, c.kwargs["window"]):
        without = outcome(v11, Call(v11.forward, (*args, None), c.kwargs | {"window": window}))
        assert [Y.tobytes() for Y in without] == [Y.tobytes() for Y in expected]


@each_setting
@examples(8)
def test_v11_is_v10_with_a_band_as_mask(setting: Setting) -> None:
    """W counts the query itself. The sinks take the rest of the weight: A = (1 − a) times that of version 10."""
    c = call(v11, setting)
    (N, P), W, mask = sizes(c), c.kwargs["window"] or 99, c.kwargs["mask"]
    offset = P if c.kwargs["offset"] is None else c.kwargs["offset"]
    band = np.array([[0 <= i + offset - n < W for n in range(P + N)] for i in range(N)]).reshape(N, P + N)
    plain = Call(v11.forward, (*c.args[:7], None), c.kwargs)
    as_mask = as_v10(c)
    as_mask.kwargs["mask"] = band if mask is None else band & mask
    assert_same(outcome(v11, plain), outcome(v10, as_mask))
    if c.args[7] is not None:
        cache = c.run()[1]
        assert_same([cache.A], [(1 - cache.a) * plain.run()[1].A])
        assert_same([cache.A.sum(-1, keepdims=True) + cache.a], [np.ones_like(cache.a)])


def in_pieces(version: Any, c: Call, cut: int, cotangents: list[Array], keep: int | None) -> list[Array]:
    """The rows of X in two pieces, with the past of the second cut to its last `keep` rows."""
    X, W_Q, W_K, W_V, W_O, K_past, V_past, *parameters = c.args
    N, P = sizes(c)
    at = c.kwargs["positions"] if c.kwargs["positions"] is not None else np.arange(P, P + N)
    weights = (W_Q, W_K, W_V, W_O)
    first = {**c.kwargs, "positions": at[..., :cut]}
    second = {**c.kwargs, "positions": at[..., cut:]}
    Z_1, cache_1 = version.forward(X[..., :cut, :], *weights, K_past, V_past, *parameters, **first)
    dropped = 0 if keep is None else max(P + cut - keep, 0)
    kept = cache_1.K[..., dropped:, :], cache_1.V[..., dropped:, :]
    Z_2, cache_2 = version.forward(X[..., cut:, :], *weights, *kept, *parameters, **second)
    dZ, dK, dV = cotangents
    dK, dV = dK[..., dropped:, :], dV[..., dropped:, :]
    dX_2, *dW_2, dK_kept, dV_kept = reordered(version.backward(dZ[..., cut:, :], cache_2, dK, dV))
    dK_1, dV_1 = np.array(cotangents[1][..., : P + cut, :]), np.array(cotangents[2][..., : P + cut, :])
    dK_1[..., dropped:, :], dV_1[..., dropped:, :] = dK_kept, dV_kept
    dX_1, *dW_1, dK_past, dV_past = reordered(version.backward(dZ[..., :cut, :], cache_1, dK_1, dV_1))
    dW = [None if one is None else one + other for one, other in zip(dW_1, dW_2, strict=True)]
    return [np.concatenate([Z_1, Z_2], -2), np.concatenate([dX_1, dX_2], -2), *given_only([*dW, dK_past, dV_past])]


def reordered(gradients: Any) -> list[Any]:
    """The gradients of the past last."""
    dX, dW_Q, dW_K, dW_V, dW_O, dK_past, dV_past, *parameters = gradients
    return [dX, dW_Q, dW_K, dW_V, dW_O, *parameters, dK_past, dV_past]


def given_only(found: list[Any]) -> list[Array]:
    return [array for array in found if array is not None]


@each_version
@pytest.mark.parametrize("keep", [None, 2], ids=["whole", "cut"])
@given(setting=settings(dtype="float64"), cut=st.integers(0, 4))
@examples(6)
def test_pieces_are_the_whole(version: Any, keep: int | None, setting: Setting, cut: int) -> None:
    """Gradients through the past and those of sinks and γ included. What has left the window can leave the past too."""
    c = call(version, setting)
    c.kwargs.update({"offset": None, "mask": None, "window": 3})
    cut = min(cut, sizes(c)[0])
    Z, cache = c.run()
    cotangents = [cotangent(Y, i) for i, Y in enumerate((Z, cache.K, cache.V))]
    whole = [Z, *given_only(reordered(version.backward(cotangents[0], cache, *cotangents[1:])))]
    assert_same(in_pieces(version, c, cut, cotangents, keep), whole)


@each_version
@each_setting
@examples(6)
def test_dead_rows_are_zero_with_zero_gradients(version: Any, setting: Setting) -> None:
    """A row with every key masked stays zero with zero gradients, sink or not."""
    c = call(version, setting)
    N, P = sizes(c)
    mask = np.ones((N, P + N), bool)
    mask[0] = False
    c.kwargs.update({"mask": mask, "offset": None})
    with np.errstate(all="raise"):
        Z, cache = c.run()
        dZ = np.zeros_like(Z)
        dZ[..., 0, :] = 1
        gradients = given_only(list(version.backward(dZ, cache)))
    assert not Z[..., 0, :].any() and not any(gradient.any() for gradient in gradients)
    assert cache.a is None or (cache.a[..., 0, :] == 1).all()


def toy(H: int = 2, N: int = 4, seed: int = 0, **options: Any) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """X, W_Q, W_K, W_V, W_O of N rows and H heads of width 3."""
    rng = np.random.default_rng(seed)
    args = tuple(rng.normal(size=shape) for shape in ((N, 5), (5, 3 * H), (5, 3 * H), (5, 2 * H), (2 * H, 5)))
    return args, {"n_heads": H, "n_kv_heads": H, "frequencies": rotary_frequencies(2)} | options


def test_the_window_counts_the_query_itself() -> None:
    """With W = 1 each query sees its own key alone; an offset moves the window along."""
    args, options = toy()
    for offset, W, seen in ((None, 1, [[0], [1], [2], [3]]), (None, 2, [[0], [0, 1], [1, 2], [2, 3]]),
                            (1, 2, [[0, 1], [1, 2], [2, 3], [3]]), (-1, 1, [[], [0], [1], [2]])):  # fmt: skip
        A = v11.forward(*args, **options, window=W, offset=offset)[1].A
        assert [np.flatnonzero(row).tolist() for row in A[0]] == seen


@pytest.mark.parametrize("more", [{}, {"scale": 0.01}, {"softcap": 0.1}], ids=str)
def test_sinks_are_neither_scaled_nor_capped(more: dict[str, Any]) -> None:
    """With scores of 0, the sink with exp = 3 takes 3/(3 + n) of n keys, and that with exp = 1 takes 1/(1 + n)."""
    (X, W_Q, *weights), options = toy()
    sinks = np.log([3.0, 1.0])
    a = v12.forward(X, 0 * W_Q, *weights, sinks=sinks, **options, **more)[1].a
    n = np.arange(1, 5)
    np.testing.assert_allclose(a[..., 0], [3 / (3 + n), 1 / (1 + n)], rtol=1e-14)


@each_version
@each_setting
@examples(6)
def test_the_gradient_of_the_sinks(version: Any, setting: Setting) -> None:
    """dsinks_h = −Σ a δ, over the batch and the queries, with δ = dY · Y."""
    c = call(version, setting)
    H, W_O = c.kwargs["n_heads"], c.args[4]
    sinks = cotangent(np.empty(H))
    Z, cache = c.with_args(*c.args[:7], sinks, *c.args[8:]).run()
    dZ = cotangent(Z)
    dY, Y = split_heads(dZ @ W_O.T, H), split_heads(cache.Y, H)
    expected = -(cache.a[..., 0] * (dY * Y).sum(-1)).swapaxes(-1, -2).reshape(-1, H).sum(0)
    assert_same([version.backward(dZ, cache)[7]], [expected])


@each_setting
@examples(8)
def test_v12_without_cap_and_norm_is_v11(setting: Setting) -> None:
    """v12 without cap and norm = v11 to the bit, and with c = 1e8 to 1e-12."""
    c = call(v12, setting)
    c = c.with_args(*c.args[:8], None, None)
    options = {name: option for name, option in c.kwargs.items() if name not in ("norm", "eps", "softcap")}
    expected = outcome(v11, Call(v11.forward, c.args[:8], options))
    for softcap in (None, 1e8):
        c.kwargs["softcap"] = softcap
        for found, wanted in zip(outcome(v12, c), expected, strict=True):
            error = np.abs(found - wanted).max(initial=0)
            assert error <= (1e-12 if softcap else 0) * max(np.abs(wanted).max(initial=0), 1e-2)


@each_setting
@examples(6)
def test_the_norm_of_one_head_is_that_of_all(setting: Setting) -> None:
    """With one head "wide_rms" is "rms"; with more heads the two differ."""
    c = call(v12, setting)
    X, W_Q, W_K, W_V, W_O, *_ = c.args
    D_Q, D_V = W_Q.shape[1] // c.kwargs["n_heads"], W_O.shape[0] // c.kwargs["n_heads"]
    one = (X, W_Q[:, :D_Q], W_K[:, :D_Q], W_V[:, :D_V], W_O[:D_V], None, None, None, W_Q[0, :D_Q], W_K[0, :D_Q])
    options = {**c.kwargs, "mask": None, "n_heads": 1, "n_kv_heads": 1}
    narrow, wide = (outcome(v12, Call(v12.forward, one, options | {"norm": norm})) for norm in ("rms", "wide_rms"))
    assert_same(narrow, wide)


def test_what_each_norm_normalises() -> None:
    """Rows of keys in the cache, not turned: mean squares of 1 in each head or in the whole row, means of 0."""
    args, options = toy(H=3)
    options |= {"frequencies": RotaryFrequencies(np.zeros(0)), "eps": 1e-30}
    K = {}
    for norm, width in (("rms", 3), ("layer", 3), ("wide_rms", 9)):
        gamma = np.ones(width)
        K[norm] = v12.forward(*args, gamma_Q=gamma, gamma_K=gamma, norm=norm, **options)[1].K
    whole = args[0] @ args[2]
    np.testing.assert_allclose((K["rms"] ** 2).mean(-1), 1, rtol=1e-13)
    np.testing.assert_allclose((K["layer"] ** 2).mean(-1), 1, rtol=1e-13)
    np.testing.assert_allclose(K["layer"].mean(-1), 0, atol=1e-15)
    assert_same([K["wide_rms"]], [split_heads(rms_norm(whole, np.ones(9), 1e-30)[0], 3)])
    assert np.abs((K["wide_rms"] ** 2).mean(-1) - 1).max() > 0.1


@pytest.mark.parametrize("symbol", ["gamma_Q", "gamma_K"])
def test_one_norm_alone(symbol: str) -> None:
    """A γ for the queries alone leaves the keys as they are, and the other way round."""
    args, options = toy()
    plain, one = (v12.forward(*args, **options, **more)[1] for more in ({}, {symbol: np.array([1.0, 2.0, 3.0])}))
    same, other = ("K", "Q") if symbol == "gamma_Q" else ("Q", "K")
    assert (getattr(plain, same) == getattr(one, same)).all()
    assert np.abs(getattr(plain, other) - getattr(one, other)).max() > 0.1
    gradients = dict(zip(("gamma_Q", "gamma_K"), v12.backward(args[0], one)[8:], strict=True))
    assert [name for name, gradient in gradients.items() if gradient is not None] == [symbol]


def test_a_hidden_key_stays_hidden_under_a_cap() -> None:
    """The cap comes before the mask: in the other order −∞ would become −c."""
    args, options = toy()
    A = v12.forward(*args, **options, softcap=0.01, mask=np.eye(4, dtype=bool)[::-1])[1].A
    assert [np.flatnonzero(row).tolist() for row in A[0]] == [[], [], [1], [0]]


def test_a_norm_keeps_scores_small_and_a_cap_bounds_them() -> None:
    """X a million times larger: the softmax does not saturate."""
    (X, *weights), options = toy()
    for more in ({"softcap": 2.0}, {"gamma_Q": np.ones(3), "gamma_K": np.ones(3)}):
        A = v12.forward(1e6 * X, *weights, **options, **more)[1].A
        assert A[:, -1].min() > 1e-3
    assert v12.forward(1e6 * X, *weights, **options)[1].A[:, -1].min() == 0


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"window": 0}, "window: expected 1 or more, got 0"),
    ({"window": 2.0}, "window: expected an integer, got 2.0"),
    ({"sinks": np.ones(3)}, "sinks: expected (H=2,), got (3,)"),
    ({"sinks": np.ones(2, np.float32)}, "sinks: expected float64 like X, got float32"),
    ({"gamma_Q": np.ones(6)}, "gamma_Q: expected (D_Q=3,), got (6,)"),
    ({"gamma_K": np.ones(2)}, "gamma_K: expected (D_Q=3,), got (2,)"),
    ({"gamma_Q": np.ones(3), "norm": "wide_rms"}, "gamma_Q: expected (H·D_Q=6,), got (3,)"),
    ({"gamma_K": np.ones(3), "norm": "wide_rms"}, "gamma_K: expected (H_K·D_Q=6,), got (3,)"),
    ({"norm": "batch"}, "norm: expected one of rms, wide_rms, layer, got 'batch'"),
    ({"norm": np.array(["rms", "layer"])}, "norm: expected one of rms, wide_rms, layer, got an array of <U5 (2,)"),
    ({"eps": 0}, "eps: expected 1.17549e-38 ≤ eps < 1.70141e+38, got 0"),
    ({"softcap": 0.0}, "softcap: expected 1.17549e-38 ≤ softcap < 8.50706e+37, got 0.0"),
    ({"n_kv_heads": 3}, "W_K: expected (D_X=5, H_K·D_Q=9), got (5, 6)"),
    ({"mask": np.ones(4)}, "mask: expected a boolean array, True where a query may attend, got float64"),
    ({"scale": np.inf}, "scale: expected -1.70141e+38 ≤ scale < 1.70141e+38, got inf"),
    ({"offset": "1"}, "offset: expected an integer, got '1'"),
    ({"pairing": "thirds"}, "pairing: expected one of neighbours, halves, got 'thirds'"),
    ({"positions": np.arange(3)}, "positions: expected a shape that broadcasts to (…, N) = (4,), got (3,)"),
    ({"positions": np.ones(4)}, "positions: expected an integer array, got float64"),
    ({"frequencies": np.ones(1)},
     "frequencies: expected what rotary_frequencies returns, got an array of float64 (1,)"),
    ({"frequencies": rotary_frequencies(4)}, "frequencies: expected at most D/2=1 of them, got 2"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "message"), WRONG, ids=[f"{i}" for i in range(len(WRONG))])
def test_wrong_arguments(changed: dict[str, Any], message: str) -> None:
    args, options = toy()
    versions = [v12] if changed.keys() & {"gamma_Q", "gamma_K", "norm", "eps", "softcap"} else [v11, v12]
    for version in versions:
        with pytest.raises((TypeError, ValueError)) as caught:
            version.forward(*args, **options | changed)
        assert str(caught.value) == message


@each_version
def test_gradients_of_k_and_v_have_their_shapes(version: Any) -> None:
    Z, cache = call(version, Setting(1, n_batch=0)).run()
    for symbol in ("dK", "dV"):
        Y = getattr(cache, symbol[1])
        with pytest.raises(ValueError, match=rf"^{symbol}: expected .* like the output, got \(1, .*$"):
            version.backward(Z, cache, **{symbol: Y[None]})


@each_version
@pytest.mark.parametrize(("batch", "N", "P"), [((0,), 2, 3), ((), 0, 3), ((2,), 3, 0), ((), 0, 0)])
def test_empty_axes(version: Any, batch: tuple[int, ...], N: int, P: int) -> None:
    W, past, sinks = np.ones((3, 6)), np.ones((*batch, 2, P, 3)), np.ones(2)
    more = {"gamma_Q": np.ones(3), "gamma_K": np.ones(3), "softcap": 2.0} if version is v12 else {}
    options = {"n_heads": 2, "n_kv_heads": 2, "window": 2, "frequencies": rotary_frequencies(2)}
    Z, cache = version.forward(np.ones((*batch, N, 3)), W, W, W, W.T, past, past, sinks, **options, **more)
    dX, *_, dK_past, dV_past, dsinks = version.backward(Z, cache, np.ones_like(cache.K), None)[:8]
    assert Z.shape == dX.shape == (*batch, N, 3) and cache.K.shape == (*batch, 2, P + N, 3)
    assert dK_past.shape == dV_past.shape == past.shape and dsinks.shape == (2,)
