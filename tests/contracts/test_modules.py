"""Whole attention modules of transformers 5.24.0 and npattn agree in float64: outputs, and gradients of every weight.

The numbers are in golden/modules.npz, beside the script that made them; test_modern_golden.py has the other models.
Qwen3-Next's two modules are versions 12 and 14 with layers around them, put together here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import npattn
from npattn import layers
from npattn._internal.checks import Array
from npattn.attention import v12_normalised, v14_gated_delta
from npattn.layers import RotaryFrequencies
from support.golden_numbers import AGREEMENT, errors, read

CASES = read("modules")


def assert_agree(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    assert {name: error for name, error in errors(got, want).items() if not error <= AGREEMENT} == {}


def test_every_case_has_a_test() -> None:
    others = {case.partition(".")[0] for case in CASES if not case.startswith("v")}
    assert others == {"gated_attention", "gated_delta_net"}


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("v")])
def test_an_attention_module(case: str) -> None:
    golden, version = CASES[case], getattr(npattn.attention, case.partition(".")[0])
    options = dict(golden["option"])
    options["frequencies"] = RotaryFrequencies(options.pop("theta"), options.pop("factor", 1.0))
    Z, cache = version.forward(**golden["argument"], **options)
    dZ, *grown = golden["cotangent"].values()
    handed = {name: getattr(cache, name) for name in golden["cotangent"] if name != "value"}
    assert_agree({"value": Z} | handed, golden["output"])
    given = [gradient for gradient in version.backward(dZ, cache, *grown) if gradient is not None]
    assert_agree(dict(zip(golden["argument"], given, strict=True)), golden["gradient"])


def test_a_gated_attention() -> None:
    golden = CASES["gated_attention.qwen3_next"]
    cotangents = {f"d{name}": array for name, array in golden["cotangent"].items()}
    found, gradients = gated_attention(**golden["argument"], **cotangents, **golden["option"])
    assert_agree(found, golden["output"])
    assert_agree(gradients, golden["gradient"])


def gated_attention(
    X: Array, W_Q: Array, W_K: Array, W_V: Array, W_O: Array, K_past: Array, V_past: Array, W_gate: Array,
    gamma_Q: Array, gamma_K: Array, dvalue: Array, dK: Array, dV: Array, theta: Array,
) -> tuple[dict[str, Array], dict[str, Array]]:  # fmt: skip
    """Return what Qwen3NextAttention returns and caches, and the gradients of all arguments."""
    frequencies, identity = RotaryFrequencies(theta, 1.0), np.eye(len(W_O))
    Y, cache = v12_normalised.forward(
        X, W_Q, W_K, W_V, identity, K_past, V_past, None, gamma_Q, gamma_K, n_heads=4, n_kv_heads=2, eps=0.1,
        frequencies=frequencies, pairing="halves",
    )  # fmt: skip
    logits, of_X = layers.linear(X, W_gate)
    gate = sigmoid(logits)
    Z, of_gated = layers.linear(gate * Y, W_O)

    dgated, dW_O, _ = layers.linear_backward(dvalue, of_gated)
    dX_of_heads, dW_Q, dW_K, dW_V, _, dK_past, dV_past, _, dgamma_Q, dgamma_K = v12_normalised.backward(
        gate * dgated, cache, dK, dV
    )
    dX, dW_gate, _ = layers.linear_backward(gate * (1 - gate) * Y * dgated, of_X)
    return {"value": Z, "K": cache.K, "V": cache.V}, {
        "X": dX + dX_of_heads, "W_Q": dW_Q, "W_K": dW_K, "W_V": dW_V, "W_O": dW_O, "K_past": dK_past,
        "V_past": dV_past, "W_gate": dW_gate, "gamma_Q": dgamma_Q, "gamma_K": dgamma_K,
    }  # fmt: skip


@pytest.mark.parametrize("chunk", [None, 16])
def test_a_gated_delta_net(chunk: int | None) -> None:
    golden = CASES["gated_delta_net.qwen3_next"]
    value, gradients = gated_delta_net(**golden["argument"], dZ=golden["cotangent"]["value"], chunk=chunk)
    assert_agree({"value": value}, golden["output"])
    assert_agree(gradients, golden["gradient"])


def gated_delta_net(
    X: Array, W_Q: Array, W_K: Array, W_V: Array, W_Z: Array, W_beta: Array, W_g: Array, taps: Array, A_log: Array,
    b_g: Array, gamma: Array, W_O: Array, dZ: Array, chunk: int | None,
) -> tuple[Array, dict[str, Array]]:  # fmt: skip
    """Return what Qwen3NextGatedDeltaNet returns, and the gradients of all arguments."""
    D_K, D_V = 3, len(gamma)
    weights = {"W_Q": W_Q, "W_K": W_K, "W_V": W_V, "W_Z": W_Z, "W_beta": W_beta, "W_g": W_g}
    ends = np.cumsum([W.shape[1] for W in weights.values()])[:-1]
    projected, of_X = layers.linear(X, np.concatenate([*weights.values()], 1))
    mixed, Z, b, a = np.split(projected, ends[2:], -1)
    mixed, of_convolution = layers.causal_convolution(mixed, taps)
    mixed, of_silu = layers.silu(mixed)
    Q, K, V = np.split(mixed, ends[:2], -1)
    beta, rate, slope = sigmoid(b), np.exp(A_log), sigmoid(a + b_g)
    g = -rate * np.logaddexp(0, a + b_g)                      # softplus, whose slope is σ
    Y, of_rule = v14_gated_delta.forward(split(Q, D_K), split(K, D_K), split(V, D_V), g.mT, beta.mT, chunk=chunk)
    gated, of_norm = layers.gated_rms_norm(Y, split(Z, D_V), gamma, eps=0.1)
    value, of_gated = layers.linear(join(gated), W_O)

    dgated, dW_O, _ = layers.linear_backward(dZ, of_gated)
    dY, dgate, dgamma = layers.gated_rms_norm_backward(split(dgated, D_V), of_norm)
    dQ, dK, dV, dg, dbeta, _ = v14_gated_delta.backward(dY, of_rule)
    dg, dbeta = dg.mT, dbeta.mT
    da, db = -rate * slope * dg, beta * (1 - beta) * dbeta
    dmixed = layers.silu_backward(np.concatenate([join(dQ), join(dK), join(dV)], -1), of_silu)
    dmixed, dtaps, _ = layers.causal_convolution_backward(dmixed, of_convolution)
    dX, dW, _ = layers.linear_backward(np.concatenate([dmixed, join(dgate), db, da], -1), of_X)
    given = {"X": dX} | dict(zip(weights, np.split(dW, ends, 1), strict=True))
    return value, given | {
        "taps": dtaps, "A_log": (dg * g).sum((0, 1)), "b_g": da.sum((0, 1)), "gamma": dgamma, "W_O": dW_O
    }


def sigmoid(X: Array) -> Array:
    return 1 / (1 + np.exp(-X))


def split(X: Array, D: int) -> Array:
    """(B, N, H·D) → (B, H, N, D)."""
    return X.reshape(*X.shape[:2], -1, D).swapaxes(1, 2)


def join(Y: Array) -> Array:
    """(B, H, N, D) → (B, N, H·D)."""
    return Y.swapaxes(1, 2).reshape(len(Y), Y.shape[2], -1)
