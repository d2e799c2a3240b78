"""Version 13: absorbed = plain, in pieces = at once, and without norm and rotary part at full rank it is version 8.

Forwards and backwards: gradients follow by the chain rule written out here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from npattn._internal.checks import Array
from npattn.attention import v8_causal, v13_latent
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.layers import RotaryFrequencies
from support.calls import Call, Setting, arrays, assert_same, cotangent, examples, settings
from support.pairs import PAIRS

each_setting = given(setting=settings(dtype="float64"))
NAMES = ("X", "W_Q", "W_QR", "W_DKV", "W_KR", "W_UK", "W_UV", "W_O", "gamma", "W_DQ", "gamma_Q", "C_past", "K_R_past")
NO_TURN = RotaryFrequencies(np.zeros(0))


def call(setting: Setting, **options: Any) -> Call:
    c = PAIRS["npattn.attention.v13_latent.forward"].call(setting)
    return Call(c.forward, c.args, c.kwargs | options)


def outcome(c: Call) -> list[Array]:
    """Return Z, what the cache hands on, and every gradient, with a cotangent of each output."""
    Z, cache = c.run()
    gradients = v13_latent.backward(cotangent(Z), cache, cotangent(cache.C, 2), cotangent(cache.K_R, 3))
    return [Z, cache.C, cache.K_R, cache.A, *arrays(gradients)]


@each_setting
@examples(12)
def test_absorbed_is_plain(setting: Setting) -> None:
    plain, absorbed = (call(setting, absorbed=absorbed, eps=0.01) for absorbed in (False, True))
    assert_same(outcome(absorbed), outcome(plain))


def test_absorbed_makes_no_keys_and_values() -> None:
    _, cache = call(Setting(optional=15), absorbed=True).run()
    assert np.shares_memory(cache.K, cache.C) and np.shares_memory(cache.V, cache.C)


@each_setting
@examples(8)
def test_at_full_rank_without_norm_and_rotary_part_it_is_v8(setting: Setting) -> None:
    """W_DKV = 1: C is X, so W_UK and W_UV are W_K and W_V. A past of rows X has the keys X W_K."""
    c = call(setting)
    given_arrays = dict(zip(NAMES, c.args, strict=True))
    X, W_O, H, mask = given_arrays["X"], given_arrays["W_O"], c.kwargs["n_heads"], c.kwargs["mask"]
    D, width = X.shape[-1], given_arrays["W_UK"].shape[1]
    rng = np.random.default_rng(setting.seed)
    W_Q, W_K, W_V = (rng.standard_normal((D, n)) for n in (width, width, W_O.shape[0]))
    past = None if given_arrays["C_past"] is None else rng.standard_normal((*X.shape[:-2], X.shape[-2] + 1, D))
    if past is not None and mask is not None:
        mask = np.ones((*mask.shape[:-1], 1), bool)
    none, scale = np.zeros((D, 0)), c.kwargs["scale"]
    pasts = (None, None) if past is None else (past, past[..., :0])
    Z, cache = v13_latent.forward(
        X, W_Q, none, np.eye(D), none, W_K, W_V, W_O, None, None, None, *pasts, n_heads=H, frequencies=NO_TURN,
        scale=scale, mask=mask, absorbed=c.kwargs["absorbed"],
    )
    K_past, V_past = (None, None) if past is None else (split_heads(past @ W, H) for W in (W_K, W_V))
    expected, cache_8 = v8_causal.forward(X, W_Q, W_K, W_V, W_O, K_past, V_past, n_heads=H, scale=scale, mask=mask)
    dZ = cotangent(Z)
    dX, dW_Q, _, _, _, dW_UK, dW_UV, dW_O, *_, dC_past, _ = v13_latent.backward(dZ, cache)
    dX_8, dW_Q_8, dW_K, dW_V, dW_O_8, dK_past, dV_past = v8_causal.backward(dZ, cache_8)
    assert_same([Z, cache.A], [expected, cache_8.A])
    if past is not None:                                      # the past is made of W_K and W_V too
        dK, dV = merge_heads(dK_past), merge_heads(dV_past)
        rows = past.reshape(-1, D).T
        dW_K = dW_K + rows @ dK.reshape(rows.shape[1], -1)
        dW_V = dW_V + rows @ dV.reshape(rows.shape[1], -1)
        assert_same([dC_past], [dK @ W_K.T + dV @ W_V.T])
    assert_same([dX, dW_Q, dW_UK, dW_UV, dW_O], [dX_8, dW_Q_8, dW_K, dW_V, dW_O_8])


@each_setting
@examples(6)
def test_in_pieces_is_at_once(setting: Setting) -> None:
    """C and K_R alone go from piece to piece, and their gradients come back. Mask and positions are the pieces' own."""
    c = call(setting, mask=None, positions=None, eps=0.01)
    *fixed, C_past, K_R_past = c.args
    X, weights = fixed[0], fixed[1:]
    expected = outcome(c)
    del expected[3]                                           # A
    for cut in range(1, X.shape[-2]):
        Z_1, first = v13_latent.forward(X[..., :cut, :], *weights, C_past, K_R_past, **c.kwargs)
        Z_2, second = v13_latent.forward(X[..., cut:, :], *weights, first.C, first.K_R, **c.kwargs)
        Z = np.concatenate([Z_1, Z_2], -2)
        dZ = cotangent(Z)
        dX_2, *dW_2, dC, dK_R = v13_latent.backward(
            dZ[..., cut:, :], second, cotangent(second.C, 2), cotangent(second.K_R, 3)
        )
        dX_1, *dW_1, dC_past, dK_R_past = v13_latent.backward(dZ[..., :cut, :], first, dC, dK_R)
        dW = [one + other for one, other in zip(dW_1, dW_2, strict=True) if one is not None and other is not None]
        dX = np.concatenate(list(arrays([dX_1, dX_2])), -2)
        assert_same([Z, second.C, second.K_R, dX, *dW, *arrays([dC_past, dK_R_past])], expected)


@each_setting
@examples(5)
def test_scores_depend_on_distances_alone(setting: Setting) -> None:
    c = call(setting)
    if c.args[-1] is None:                                    # keys of the past stay where they are
        N = c.args[0].shape[-2]
        near, far = (call(setting, positions=np.arange(start, start + N)).run() for start in (0, 1000))
        np.testing.assert_allclose(near[0], far[0], atol=1e-11 * np.abs(near[0]).max(initial=1))
        np.testing.assert_allclose(near[1].A, far[1].A, atol=1e-11)


def test_messages() -> None:
    c = call(Setting(optional=15))
    given_arrays = dict(zip(NAMES, c.args, strict=True))
    D_X, shape = c.args[0].shape[-1], c.args[1].shape
    with pytest.raises(ValueError) as caught:
        v13_latent.forward(**given_arrays | {"W_DQ": None}, **c.kwargs)
    assert str(caught.value) == f"W_Q: expected (D_X={D_X}, H·D_C) without W_DQ, got {shape}"
    for missing in ("C_past", "K_R_past"):
        options = c.kwargs | {"mask": None}
        with pytest.raises(ValueError, match=r"^C_past: expected together with K_R_past, or None for both$"):
            v13_latent.forward(**given_arrays | {missing: None}, **options)
    Z, cache = c.run()
    with pytest.raises(ValueError, match=r"^dC: expected .* like the output"):
        v13_latent.backward(Z, cache, cache.K_R)
    with pytest.raises(ValueError, match=r"^dK_R: expected .* like the output"):
        v13_latent.backward(Z, cache, None, cache.C)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"frequencies": None}, "TypeError: frequencies: expected what rotary_frequencies returns, got None"),
        ({"positions": np.ones(3)}, "TypeError: positions: expected an integer array, got float64"),
        ({"pairing": "none"}, "ValueError: pairing: expected one of neighbours, halves, got 'none'"),
        ({"scale": "1"}, "TypeError: scale: expected a number, got '1'"),
        ({"eps": "1"}, "TypeError: eps: expected a number, got '1'"),
        ({"absorbed": 1}, "TypeError: absorbed: expected True or False, got 1"),
    ],
)
def test_options(option: dict[str, Any], message: str) -> None:
    c = call(Setting(optional=0))
    with pytest.raises((TypeError, ValueError)) as caught:
        v13_latent.forward(*c.args, **c.kwargs | option)
    assert f"{caught.type.__name__}: {caught.value}" == message


def test_by_default_it_is_plain() -> None:
    c = call(Setting(optional=15))
    plain = {name: option for name, option in c.kwargs.items() if name != "absorbed"}
    _, cache = v13_latent.forward(*c.args, **plain)
    assert cache.K.shape[-3] == c.kwargs["n_heads"] and not cache.absorbed


@pytest.mark.parametrize("absorbed", [False, True])
def test_queries_of_width_0_weigh_all_rows_alike(absorbed: bool) -> None:
    c = call(Setting(optional=15, sizes={"D_C": 0}), absorbed=absorbed, scale=None, frequencies=NO_TURN)
    named = dict(zip(NAMES, c.args, strict=True))
    named |= {name: named[name][..., :0] for name in ("W_QR", "W_KR", "K_R_past")}
    A = v13_latent.forward(*named.values(), **c.kwargs)[1].A
    assert_same([A], [(A > 0) / (A > 0).sum(-1, keepdims=True)])


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("axis", ["N_Q", "B", "D_X", "D_L", "D_C", "D_V", "D_Z", "D_LQ"])
def test_empty_axes(axis: str, absorbed: bool) -> None:
    c = call(Setting(optional=15, sizes={axis: 0}), absorbed=absorbed)
    Z, cache = c.run()
    gradients = v13_latent.backward(cotangent(Z), cache)
    for gradient, array in zip(gradients, c.args, strict=True):
        assert gradient is not None and gradient.shape == array.shape and np.isfinite(gradient).all()
