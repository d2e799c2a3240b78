"""The error messages of every pair of attention and layers for wrong shapes and dtypes: symbol, expected, given."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from npattn import layers, scaled_dot_product_attention, tiled_attention
from npattn._internal.checks import Array
from npattn.attention import v2_dot_product, v3_scaled_dot_product
from support.calls import Call, Setting, cotangent
from support.pairs import PAIRS, Pair

SIZES = {
    "B": 2, "N": 3, "N_Q": 3, "N_X": 4, "D": 4, "D_Q": 5, "D_X": 6, "D_V": 7, "D_E": 8, "D_XQ": 9, "D_Z": 10,
    "H": 2, "V": 8, "D_in": 5, "D_out": 6, "P": 11,
    "D_LQ": 12, "D_L": 13, "D_C": 14, "E": 5, "F": 7, "k": 2, "D_Y": 15,
}  # fmt: skip

#: The floating arguments of each forward in their order, then the cotangent of its backward, each with the shape that
#: it must have when the arguments before it are right. The sizes are those above, with one batch axis.
EXPECTED = {
    "npattn.layers.linear.linear": """
        X: (…, D_in)
        W: (D_in=5, D_out)
        b: (D_out=6,)
        dY: (2, 3, 6) like the output
    """,
    "npattn.layers.softmax.softmax": """
        E: (…, N_X)
        dA: (2, 3, 4) like the output
    """,
    "npattn.layers.layer_norm.layer_norm": """
        X: (…, D)
        gamma: (D=4,)
        beta: (D=4,)
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.relu.relu": """
        X: any shape
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.rms_norm.rms_norm": """
        X: (…, D)
        gamma: (D=4,)
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.gated_rms_norm.gated_rms_norm": """
        X: (…, D)
        Z: (2, 3, D=4)
        gamma: (D=4,)
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.l2_norm.l2_norm": """
        X: (…, D)
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.causal_convolution.causal_convolution": """
        X: (…, N, D)
        W: (C, D=4)
        X_past: (2, C−1, D=4)
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.mixture_of_experts.route": """
        logits: (…, E)
        dY: (2, 3, 2) like the output
    """,
    "npattn.layers.mixture_of_experts.mixture_of_experts": """
        X: (…, D)
        weights: (2, 3, k)
        W_1: (E, D=4, 2F)
        W_2: (E=5, F, D_Y)
        b_1: (E=5, 2F=14)
        b_2: (E=5, D_Y=15)
        dY: (2, 3, 15) like the output
    """,
    "npattn.layers.rotary.rotary": """
        X: (…, N, D)
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.silu.silu": """
        X: any shape
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.soft_cap.soft_cap": """
        X: any shape
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.gated_feed_forward.swiglu": """
        X: (…, 2D)
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.gated_feed_forward.geglu": """
        X: (…, 2D)
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.gelu.gelu": """
        X: any shape
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.dropout.dropout": """
        X: any shape
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.embedding.embedding": """
        W_E: (V, D)
        dY: (2, 3, 4) like the output
    """,
    "npattn.layers.cross_entropy.cross_entropy": """
        logits: (…, V)
    """,
    "npattn.attention.dot_product.scaled_dot_product_attention": """
        Q: (…, N_Q, D_Q)
        K: (2, N_X, D_Q=5)
        V: (2, N_X=4, D_V)
        bias: any shape
        sinks: any shape
        dY: (2, 3, 7) like the output
    """,
    "npattn.attention.tiled.attention.tiled_attention": """
        Q: (…, N_Q, D_Q)
        K: (2, N_X, D_Q=5)
        V: (2, N_X=4, D_V)
        bias: any shape
        sinks: any shape
        dY: (2, 3, 7) like the output
    """,
    "npattn.attention.v1_feed_forward.forward": """
        q: (…, D_Q)
        X: (2, N_X, D_X)
        W_Q: (D_Q=5, D_E)
        W_X: (D_X=6, D_E=8)
        w: (D_E=8,)
        dy: (2, 6) like the output
    """,
    "npattn.attention.v2_dot_product.forward": """
        q: (…, D_Q)
        X: (2, N_X, D_Q=5)
        dy: (2, 5) like the output
    """,
    "npattn.attention.v3_scaled_dot_product.forward": """
        q: (…, D_Q)
        X: (2, N_X, D_Q=5)
        dy: (2, 5) like the output
    """,
    "npattn.attention.v4_multiple_queries.forward": """
        Q: (…, N_Q, D_Q)
        X: (2, N_X, D_Q=5)
        dY: (2, 3, 5) like the output
    """,
    "npattn.attention.v5_cross_attention.forward": """
        Q: (…, N_Q, D_Q)
        X: (2, N_X, D_X)
        W_K: (D_X=6, D_Q=5)
        W_V: (D_X=6, D_V)
        dY: (2, 3, 7) like the output
    """,
    "npattn.attention.v6_self_attention.forward": """
        X: (…, N_X, D_X)
        W_Q: (D_X=6, D_Q)
        W_K: (D_X=6, D_Q=5)
        W_V: (D_X=6, D_V)
        dY: (2, 4, 7) like the output
    """,
    "npattn.attention.v7_multi_head.forward": """
        X_Q: (…, N_Q, D_XQ)
        X: (2, N_X, D_X)
        W_Q: (D_XQ=9, H·D_Q)
        W_K: (D_X=6, H·D_Q=10)
        W_V: (D_X=6, H·D_V)
        W_O: (H·D_V=14, D_Z)
        b_Q: (H·D_Q=10,)
        b_K: (H·D_Q=10,)
        b_V: (H·D_V=14,)
        b_O: (D_Z=10,)
        dZ: (2, 3, 10) like the output
    """,
    "npattn.attention.v13_latent.forward": """
        X: (…, N_Q, D_X)
        W_Q: (D_LQ=12, H·D_C)
        W_QR: (D_LQ=12, H·D_R)
        W_DKV: (D_X=6, D_L)
        W_KR: (D_X=6, D_R=4)
        W_UK: (D_L=13, H·D_C=28)
        W_UV: (D_L=13, H·D_V)
        W_O: (H·D_V=14, D_Z)
        gamma: (D_L=13,)
        W_DQ: (D_X=6, D_LQ)
        gamma_Q: (D_LQ=12,)
        C_past: (2, P, D_L=13)
        K_R_past: (2, P=11, D_R=4)
        dZ: (2, 3, 10) like the output
    """,
    "npattn.attention.v14_gated_delta.forward": """
        Q: (…, H_Q, N, D_Q)
        K: (2, H_K, N=3, D_Q=5)
        V: (2, H_V, N=3, D_V)
        g: (2, H_V=4, N=3)
        beta: (2, H_V=4, N=3)
        S_0: (2, H_V=4, D_V=7, D_Q=5)
        dY: (2, 4, 3, 7) like the output
    """,
    **{
        f"npattn.attention.{name}.forward": f"""
        X: (…, N_Q, D_X)
        W_Q: (D_X=6, H·D_Q)
        W_K: (D_X=6, {group}·D_Q=10)
        W_V: (D_X=6, {group}·D_V)
        W_O: (H·D_V={7 * H}, D_Z)
        K_past: (2, {group}=2, P, D_Q=5)
        V_past: (2, {group}=2, P=11, D_V=7)
        {more}dZ: (2, 3, 10) like the output
    """
        for name, group, H, more in (
            ("v8_causal", "H", 2, ""),
            ("v9_rotary", "H", 2, ""),
            ("v10_grouped_query", "H_K", 4, ""),
            ("v11_sliding_window", "H_K", 4, "sinks: (H=4,)\n"),
            ("v12_normalised", "H_K", 4, "sinks: (H=4,)\ngamma_Q: (D_Q=5,)\ngamma_K: (D_Q=5,)\n"),
        )
    },
}

each_pair = pytest.mark.parametrize(("pair", "expected"), [(PAIRS[name], EXPECTED[name]) for name in PAIRS], ids=PAIRS)


#: The scores in the message about a mask that does not fit them, by the name of the forward.
SCORES = {
    "npattn.layers.softmax.softmax": "(…, N_X) = (2, 3, 4)",
    "npattn.attention.dot_product.scaled_dot_product_attention": "(…, N_Q, N_X) = (2, 3, 4)",
    "npattn.attention.tiled.attention.tiled_attention": "(…, N_Q, N_X) = (2, 3, 4)",
    "npattn.attention.v1_feed_forward.forward": "(…, N_X) = (2, 4)",
    "npattn.attention.v2_dot_product.forward": "(…, N_X) = (2, 4)",
    "npattn.attention.v3_scaled_dot_product.forward": "(…, N_X) = (2, 4)",
    "npattn.attention.v4_multiple_queries.forward": "(…, N_Q, N_X) = (2, 3, 4)",
    "npattn.attention.v5_cross_attention.forward": "(…, N_Q, N_X) = (2, 3, 4)",
    "npattn.attention.v6_self_attention.forward": "(…, N_X, N_X) = (2, 4, 4)",
    "npattn.attention.v7_multi_head.forward": "(…, H, N_Q, N_X) = (2, 2, 3, 4)",
    "npattn.attention.v8_causal.forward": "(…, H, N_Q, P+N_Q) = (2, 2, 3, 3)",
    "npattn.attention.v9_rotary.forward": "(…, H, N_Q, P+N_Q) = (2, 2, 3, 3)",
    "npattn.attention.v10_grouped_query.forward": "(…, H, N_Q, P+N_Q) = (2, 3, 3, 3)",
    "npattn.attention.v11_sliding_window.forward": "(…, H, N_Q, P+N_Q) = (2, 3, 3, 3)",
    "npattn.attention.v12_normalised.forward": "(…, H, N_Q, P+N_Q) = (2, 3, 3, 3)",
    "npattn.attention.v13_latent.forward": "(…, H, N_Q, P+N_Q) = (2, 2, 3, 3)",
}


def said(run: Any, *args: Any) -> str:
    """Return the type and the message of the error that a call raises."""
    with pytest.raises((TypeError, ValueError)) as caught:
        run(*args)
    return f"{caught.type.__name__}: {caught.value}"


def floating_arguments(call: Call) -> list[tuple[int, Array]]:
    return [(i, a) for i, a in enumerate(call.args) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]


def replaced(call: Call, i: int, array: Array) -> Call:
    return call.with_args(*call.args[:i], array, *call.args[i + 1 :])


def lines(expected: str) -> list[tuple[str, str]]:
    """Return the symbol and the shape of every line."""
    pairs = (line.strip().split(": ") for line in expected.strip().splitlines())
    return [(symbol, shape) for symbol, shape in pairs]


@each_pair
def test_a_wrong_shape(pair: Pair, expected: str) -> None:
    call = pair.call(Setting(optional=15, sizes=SIZES))
    wanted = lines(expected)
    for (i, _), (symbol, shape) in zip(floating_arguments(call), wanted, strict=False):
        if shape != "any shape":
            assert said(replaced(call, i, np.array(1.0)).run) == f"ValueError: {symbol}: expected {shape}, got ()"
    Y, cache = call.run()
    if wanted[-1][1].endswith("like the output"):
        symbol, shape = wanted[-1]
        assert said(pair.backward, np.array(1.0), cache) == f"ValueError: {symbol}: expected {shape}, got ()"
        assert said(pair.backward, Y[None], cache).startswith(f"ValueError: {symbol}: expected {shape}, got (1, 2, ")


@each_pair
def test_a_wrong_dtype(pair: Pair, expected: str) -> None:
    call = pair.call(Setting(optional=15, sizes=SIZES))
    for (i, array), (symbol, _) in zip(floating_arguments(call), lines(expected), strict=False):
        wrong = replaced(call, i, array.astype(int))
        assert said(wrong.run) == f"TypeError: {symbol}: expected float32 or float64, got int64"
    Y, cache = call.run()
    symbol, shape = lines(expected)[-1]
    if shape.endswith("like the output"):
        wrong_dY = cotangent(Y).astype(np.float32)
        wanted = f"TypeError: {symbol}: expected an array of float64 like the output, got float32"
        assert said(pair.backward, wrong_dY, cache) == wanted


@pytest.mark.parametrize("name", SCORES)
def test_a_mask_that_does_not_fit(name: str) -> None:
    call = PAIRS[name].call(Setting(sizes=SIZES))
    forward = call.forward
    arguments = dict(zip(inspect.signature(forward).parameters, call.args, strict=False)) | call.kwargs
    wanted = f"ValueError: mask: expected a shape that broadcasts to the scores {SCORES[name]}, got (2, 9)"
    assert said(lambda: forward(**arguments | {"mask": np.ones((2, 9), bool)})) == wanted
    masked = np.ma.masked_array(np.ones(4, bool), [False] * 4)
    wanted = "TypeError: mask: expected a boolean array, True where a query may attend, got MaskedArray"
    assert said(lambda: forward(**arguments | {"mask": masked})) == wanted


@pytest.mark.parametrize("name", PAIRS)
def test_a_cache_that_is_none(name: str) -> None:
    pair = PAIRS[name]
    Y, cache = pair.call(Setting(optional=15, sizes=SIZES)).run()
    if name.endswith("softmax"):
        assert said(pair.backward, Y, None) == "TypeError: A: expected a NumPy array, got NoneType"
        return
    kind = f"{type(cache).__module__}.{type(cache).__name__}"
    assert said(pair.backward, Y, None) == f"TypeError: cache: expected what forward returned, a {kind}, got NoneType"


def test_the_cache_of_a_neighbour() -> None:
    """The caches of versions 2 and 3 have the same fields, but the gradients differ."""
    y, cache = v2_dot_product.forward(np.ones(3), np.ones((4, 3)))
    wanted = "npattn.attention.v3_scaled_dot_product.Cache, got npattn.attention.v2_dot_product.Cache"
    assert said(v3_scaled_dot_product.backward, y, cache).endswith(f"a {wanted}")


def test_none_for_a_required_argument() -> None:
    assert said(layers.linear, None, np.ones((2, 3))) == "TypeError: X: expected a NumPy array, got NoneType"
    assert said(layers.linear, np.ones(2), None) == "TypeError: W: expected a NumPy array, got NoneType"


FINITE = "expected -1.70141e+38 ≤ scale < 1.70141e+38"


@pytest.mark.parametrize("attend", [scaled_dot_product_attention, tiled_attention])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"causal": 1}, "TypeError: causal: expected True or False, got 1"),
        ({"scale": "1"}, "TypeError: scale: expected a number, got '1'"),
        ({"scale": np.nan}, f"ValueError: scale: {FINITE}, got nan"),
        ({"scale": 2.0**127}, f"ValueError: scale: {FINITE}, got 1.7014118346046923e+38"),
    ],
)
def test_options_of_attention(attend: Any, options: dict[str, Any], message: str) -> None:
    Q = np.ones((2, 3))
    assert said(lambda: attend(Q, Q, Q, **options)) == message
    assert np.isfinite(attend(Q, Q, Q, scale=-(2.0**127), causal=np.True_)[0]).all()
