"""The parts of a layer, pair by pair: gradients by both methods, and the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn import TransformerConfig, check_gradients
from npattn._internal.checks import Array
from npattn.layers import layer_norm
from npattn.transformer.fast import attention, layers
from npattn.transformer.fast.gradient import computed
from npattn.transformer.fast.packing import Packing
from npattn.transformer.parameters import nested
from support.transformer_toys import toy_params

METHODS = [("complex-step", 1e-12), ("central-difference", 1e-7)]
B, N, N_S, D = 3, 5, 7, 4


def small_config(**options: Any) -> TransformerConfig:
    sizes: dict[str, Any] = {"d_model": D, "n_heads": 2, "d_ff": 6, "n_encoder_layers": 1, "n_decoder_layers": 1}
    return TransformerConfig(5, 5, **sizes | {"dropout": 0.0} | options)


def by_name(backward: Any) -> Any:
    """Return `backward` with the gradients of W_Q, W_K and W_V under their own names, and without what is None or 0.

    The gradients of a whole layer come one after another, those of matrices as functions.
    """

    def split(grads: Any) -> Any:
        if not isinstance(grads, dict):
            return grads
        out = {name: split(computed(gradient)) for name, gradient in grads.items() if gradient is not None}
        for kind in "Wb":
            if f"{kind}_QKV" in out:
                parts = np.split(out.pop(f"{kind}_QKV"), 3, -1)
                out |= {f"{kind}_{which}": part for which, part in zip("QKV", parts, strict=True)}
        return out

    return lambda dY, cache: tuple(split(each) for each in backward(dY, cache) if not isinstance(each, float))


def at_once(layer_backward: Any) -> Any:
    """Return a backward of a layer that returns dX, dM and all gradients."""

    def backward(dX: Array, cache: Any) -> Any:
        found: dict[str, Any] = {}

        def run() -> Any:
            dX_dM = yield from layer_backward(dX, cache, "layer")
            found["dX, dM"] = dX_dM

        grads = dict(run())
        assert all(name.startswith("layer.") for name in grads)
        return *found["dX, dM"], nested({name.removeprefix("layer."): gradient for name, gradient in grads.items()})

    return backward


def parts(config: TransformerConfig, seed: int = 1) -> dict[str, Any]:
    """Return the parameters as nested dicts, each once: nothing of a plain dict stands side by side."""
    return nested(toy_params(config, seed))


def draw(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


SRC = np.array([[3, 4, 3, 4, 0, 0, 0], [3, 3, 4, 4, 3, 4, 3], [0, 0, 0, 0, 0, 0, 0]])   # (B, N_S)  pads alone last
TGT = np.array([[1, 3, 4, 3, 3], [1, 4, 0, 0, 0], [1, 3, 3, 0, 0]])                       # (B, N)
TOKENS_M, TOKENS = Packing.of(SRC, 0), Packing.of(TGT, 0, causal=True)
n_M, n = int((SRC != 0).sum()), int((TGT != 0).sum())

LAYER_OPTIONS: dict[str, dict[str, Any]] = {
    "post": {},
    "pre": {"norm": "pre"},
    "post, gelu, no bias, dropout": {"activation": "gelu", "bias": False, "dropout": 0.4},
    "pre, gelu, no bias, dropout": {"norm": "pre", "activation": "gelu", "bias": False, "dropout": 0.4},
}


def generator(config: TransformerConfig) -> np.random.Generator | None:
    return np.random.default_rng(7) if config.dropout else None


@pytest.mark.parametrize(("method", "bound"), METHODS)
class TestSubLayers:
    @pytest.mark.parametrize("activation", ["relu", "gelu"])
    @pytest.mark.parametrize("bias", [True, False])
    def test_feed_forward(self, method: Any, bound: float, activation: Any, bias: bool) -> None:
        p = parts(small_config(bias=bias))["encoder"]["0"]["feed_forward"]
        args, kwargs = (draw(0, B, N, D), p), {"activation": activation}
        backward = by_name(layers.feed_forward_backward)
        check_gradients(layers.feed_forward, backward, args, kwargs, method=method, rtol=bound)

    @pytest.mark.parametrize("bias", [True, False])
    def test_cross_attention(self, method: Any, bound: float, bias: bool) -> None:
        p = parts(small_config(bias=bias))["decoder"]["0"]["cross_attention"]
        args = (draw(0, n, D), draw(1, n_M, D), p)
        kwargs = {"packing": TOKENS, "packing_M": TOKENS_M, "config": small_config(), "rng": None}
        backward = by_name(attention.cross_attention_backward)
        check_gradients(attention.cross_attention, backward, args, kwargs, method=method, rtol=bound)

    @pytest.mark.parametrize("packing", [TOKENS_M, TOKENS])
    def test_self_attention(self, method: Any, bound: float, packing: Packing) -> None:
        rows = int(packing.places.size)
        args = (draw(0, rows, D), parts(small_config(bias=False))["encoder"]["0"]["self_attention"])
        kwargs: dict[str, Any] = {"packing": packing, "config": small_config(), "rng": None}
        backward = by_name(attention.self_attention_backward)
        check_gradients(attention.self_attention, backward, args, kwargs, method=method, rtol=bound)

    @pytest.mark.parametrize("norm", ["post", "pre"])
    def test_sub_layer(self, method: Any, bound: float, norm: Any) -> None:
        config = small_config(norm=norm, dropout=0.4)

        def forward(X: Array, f: Any, norm: Any, rng: Any) -> Any:
            return layers.sub_layer(X, lambda I: layers.feed_forward(I, f, "gelu"), norm, config, rng)

        def backward(dY: Array, cache: Any) -> Any:
            return layers.sub_layer_backward(dY, cache, layers.feed_forward_backward)

        p = parts(config)["encoder"]["0"]
        args = (draw(0, B, N, D), p["feed_forward"], p["norm_2"])
        check_gradients(forward, by_name(backward), args, {"rng": generator(config)}, method=method, rtol=bound)


class TestLayers:
    """The complex step checks every number. Central differences are slow and check random directions."""

    @pytest.mark.parametrize("options", LAYER_OPTIONS.values(), ids=LAYER_OPTIONS.keys())
    def test_encoder_layer(self, options: dict[str, Any]) -> None:
        self.check_encoder_layer(small_config(**options), "complex-step", 1e-12)

    @pytest.mark.parametrize("options", LAYER_OPTIONS.values(), ids=LAYER_OPTIONS.keys())
    def test_decoder_layer(self, options: dict[str, Any]) -> None:
        self.check_decoder_layer(small_config(**options), "complex-step", 1e-12)

    @pytest.mark.parametrize("norm", ["post", "pre"])
    def test_by_central_differences(self, norm: Any) -> None:
        config = small_config(norm=norm, bias=False, activation="gelu", d_ff=128)
        self.check_encoder_layer(config, "central-difference", 1e-7)
        self.check_decoder_layer(config, "central-difference", 1e-7)

    def check_encoder_layer(self, config: TransformerConfig, method: Any, bound: float) -> None:
        args = (draw(0, n_M, D), parts(config)["encoder"]["0"])
        kwargs = {"packing": TOKENS_M, "config": config, "rng": generator(config)}
        backward = by_name(at_once(layers.encoder_layer_backward))
        check_gradients(layers.encoder_layer, backward, args, kwargs, method=method, rtol=bound)

    def check_decoder_layer(self, config: TransformerConfig, method: Any, bound: float) -> None:
        args = (draw(0, n, D), draw(1, n_M, D), parts(config)["decoder"]["0"])
        kwargs = {"packing": TOKENS, "packing_M": TOKENS_M, "config": config, "rng": generator(config)}
        backward = by_name(at_once(layers.decoder_layer_backward))
        check_gradients(layers.decoder_layer, backward, args, kwargs, method=method, rtol=bound)


class TestSubLayer:
    """With f(X) = 3 X the two formulas can be written down."""

    X = draw(5, B, N, D)

    def run(self, norm: Any) -> tuple[Array, layers.SubLayerCache]:
        p = parts(small_config())["encoder"]["0"]["norm_1"]
        return layers.sub_layer(self.X, lambda I: (3 * I, "cache of f"), p, small_config(norm=norm))

    def norm(self, X: Array) -> Array:
        p = parts(small_config())["encoder"]["0"]["norm_1"]
        return layer_norm(X, p["gamma"], p["beta"])[0]

    def test_post(self) -> None:
        np.testing.assert_array_equal(self.run("post")[0], self.norm(self.X + 3 * self.X))

    def test_pre(self) -> None:
        np.testing.assert_array_equal(self.run("pre")[0], self.X + 3 * self.norm(self.X))

    def test_cache_of_the_sub_layer(self) -> None:
        assert self.run("pre")[1].f == "cache of f"

    def test_dropout_is_on_f_alone(self) -> None:
        """Every entry of Y is x where f was dropped, and x + f/(1 − p) elsewhere."""
        config = small_config(norm="pre", dropout=0.25)
        p = parts(config)["encoder"]["0"]["norm_1"]
        Y, _ = layers.sub_layer(self.X, lambda I: (I + 9, None), p, config, np.random.default_rng(0))
        full = self.X + (self.norm(self.X) + 9) / 0.75
        dropped = np.isclose(Y, self.X, rtol=0, atol=1e-13)
        assert 0 < dropped.sum() < Y.size / 2
        np.testing.assert_allclose(Y[~dropped], full[~dropped], rtol=1e-13)


def test_an_encoder_layer_has_no_dM() -> None:
    config = small_config()
    X, cache = layers.encoder_layer(draw(0, n_M, D), parts(config)["encoder"]["0"], TOKENS_M, config)
    assert at_once(layers.encoder_layer_backward)(np.ones_like(X), cache)[1] == 0


def test_a_source_of_pads_alone_is_not_read() -> None:
    """Cross-attention to it gives b_O, whatever M holds."""
    config = small_config()
    p = parts(config)["decoder"]["0"]["cross_attention"]
    M = draw(1, n_M, D)
    Z, cache = attention.cross_attention(draw(0, n, D), M, p, TOKENS, TOKENS_M, config, None)
    np.testing.assert_array_equal(TOKENS.unpack(Z)[2, :3], np.broadcast_to(p["b_O"], (3, D)))
    assert not cache.A[2].any()
    dX_Q, dM, _ = attention.cross_attention_backward(draw(2, n, D), cache)
    assert not TOKENS.unpack(dX_Q)[2].any()
    assert dM.all()


def test_relu_works_in_place() -> None:
    U, dH = draw(0, 3, 2, D), draw(1, 3, 2, D)
    before, given = U.copy(), dH.copy()
    H, cache = layers.relu(U)
    dU = layers.relu_backward(dH, cache)
    assert H is U is cache and dU is dH
    np.testing.assert_array_equal(H, np.maximum(before, 0))
    np.testing.assert_array_equal(dU, given * (before > 0))
