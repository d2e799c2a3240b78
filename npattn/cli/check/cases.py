"""Every backward pass of the package, with arguments to check it at.

All sizes differ, so a wrong axis changes a shape. No parameter has its initial value, so none hides an error by being 0
or 1. A pair whose backward depends on options (a mask, a bias, dropout) has cases with and without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from npattn import layers
from npattn._internal.checks import Array
from npattn.attention import MODERN_VERSIONS, VERSIONS, Version, dot_product, v13_latent, v14_gated_delta
from npattn.attention.tiled import attention as tiled
from npattn.language_model import LanguageModelConfig, RotarySettings
from npattn.language_model import reference as language_model
from npattn.transformer import TransformerConfig
from npattn.transformer.fast import transformer


class Case(NamedTuple):
    """The arguments of one `npattn.check_gradients`, and the names to print."""

    group: str
    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    args: tuple[Any, ...]
    options: Mapping[str, Any] = MappingProxyType({})


def cases() -> list[Case]:
    """Return all cases, in the reading order of the package."""
    draw = _Draw(np.random.default_rng(7))
    versions = [*attention_cases(draw), *modern_cases(draw), *windowed_cases(draw)]
    versions += [*latent_cases(draw), *delta_cases(draw), *dot_product_cases(draw)]
    return [*versions, *layer_cases(draw), *transformer_cases(draw), *language_model_cases(draw)]


class _Draw:
    """Draws arrays of normal random numbers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def __call__(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape)

    def weight(self, *shape: int) -> Array:
        """A matrix that keeps the scale of the rows it multiplies."""
        return self(*shape) / math.sqrt(shape[0])

    def parameter(self, name: str, *shape: int) -> Array:
        """A parameter as after some training: γ near 1, β and b near 0, but none of them exactly there."""
        return self.weight(*shape) if len(shape) > 1 else self(*shape) / 4 + name.endswith("gamma")

    def mask(self, *shape: int) -> Array:
        """A mask that hides about a third of the inputs, and all of them from the first query."""
        mask = self.rng.random(shape) < 0.7
        mask[(0,) * (len(shape) - 1)] = False
        return mask


def attention_cases(draw: _Draw) -> list[Case]:
    """The seven versions, with and without a mask."""
    W = draw.weight
    arguments: list[tuple[tuple[Any, ...], tuple[int, ...], dict[str, Any]]] = [
        ((draw(2, 3), draw(2, 6, 5), W(3, 4), W(5, 4), draw(4)), (2, 6), {}),
        ((draw(2, 3), draw(2, 5, 3)), (2, 5), {}),
        ((draw(2, 3), draw(2, 5, 3)), (2, 5), {}),
        ((draw(2, 4, 3), draw(2, 5, 3)), (2, 4, 5), {}),
        ((draw(2, 4, 3), draw(2, 5, 6), W(6, 3), W(6, 7)), (2, 4, 5), {}),
        ((draw(2, 5, 6), W(6, 3), W(6, 3), W(6, 4)), (2, 5, 5), {}),
        (
            (draw(2, 4, 7), draw(2, 5, 8), W(7, 9), W(8, 9), W(8, 6), W(6, 11), draw(9), draw(9), draw(6), draw(11)),
            (2, 3, 4, 5),
            {"n_heads": 3},
        ),
    ]
    found = []
    for number, (version, (args, scores, options)) in enumerate(zip(VERSIONS, arguments, strict=True), 1):
        pair = version.module.forward, version.module.backward
        found += [
            Case("attention", f"v{number} {version.name}", *pair, args, options),
            Case("attention", f"v{number}, masked", *pair, args, options | {"mask": draw.mask(*scores)}),
        ]
    return found


def modern_cases(draw: _Draw) -> list[Case]:
    """Versions 8 to 10: without a past, and after a past, masked, with the grown keys and values as outputs too."""
    W, frequencies = draw.weight, layers.RotaryFrequencies(np.array([1.1, 0.3]), 1.3)
    turned = {"frequencies": frequencies, "scale": 0.4}
    options: list[tuple[int, dict[str, Any], dict[str, Any]]] = [
        (6, {}, {"scale": 0.4}),
        (6, {"frequencies": frequencies}, turned | {"pairing": "halves", "positions": np.array([4, 1, 2, 8])}),
        (2, {"frequencies": frequencies, "n_kv_heads": 2}, turned | {"pairing": "halves", "n_kv_heads": 2}),
    ]
    found = []
    for version, (H_K, plain, past) in zip(MODERN_VERSIONS[: len(options)], options, strict=True):
        args = (draw(2, 4, 7), W(7, 30), W(7, H_K * 5), W(7, H_K * 3), W(18, 8))
        pair = _with_outputs_k_and_v(version)
        after = (*args, draw(2, H_K, 9, 5), draw(2, H_K, 9, 3))
        mask = {"n_heads": 6, "mask": draw.mask(2, 6, 4, 13)}
        found += [
            Case("attention", f"v{version.number} {version.name}", *pair, args, plain | {"n_heads": 6}),
            Case("attention", f"v{version.number}, past, masked", *pair, after, past | mask),
        ]
    return found


def windowed_cases(draw: _Draw) -> list[Case]:
    """Versions 11 and 12 after a past, masked; version 12 capped, and with each norm."""
    W, (v11, v12) = draw.weight, (_with_outputs_k_and_v(version) for version in MODERN_VERSIONS[3:5])
    args = (draw(2, 4, 7), W(7, 30), W(7, 10), W(7, 6), W(18, 8), draw(2, 2, 9, 5), draw(2, 2, 9, 3))
    sinks, narrow, wide = (draw(6),), (1 + draw(5) / 2, 1 + draw(5) / 2), (1 + draw(30) / 2, 1 + draw(10) / 2)
    frequencies = layers.RotaryFrequencies(np.array([1.1, 0.3]), 1.3)
    options = {"n_heads": 6, "n_kv_heads": 2, "frequencies": frequencies, "window": 6, "mask": draw.mask(2, 6, 4, 13)}
    cap = options | {"softcap": 0.7, "scale": 0.9}
    return [
        Case("attention", "v11 sliding-window attention", *v11, args, options),
        Case("attention", "v11, sinks", *v11, (*args, *sinks), options),
        Case("attention", "v12 capped attention", *v12, (*args, *sinks), cap),
        Case("attention", "v12, RMS norm of heads", *v12, (*args, *sinks, *narrow), cap | {"norm": "rms"}),
        Case("attention", "v12, RMS norm of all heads", *v12, (*args, *sinks, *wide), options | {"norm": "wide_rms"}),
        Case("attention", "v12, layer norm of heads", *v12, (*args, *sinks, *narrow), options | {"norm": "layer"}),
    ]


def latent_cases(draw: _Draw) -> list[Case]:
    """Version 13, plain and absorbed, with and without norms and past, with the grown C and K_R as outputs too."""
    W, frequencies = draw.weight, layers.RotaryFrequencies(np.array([1.1, 0.3]), 1.3)

    def weights(D: int) -> tuple[Array, ...]:
        return W(D, 15), W(D, 12), W(7, 6), W(7, 4), W(6, 15), W(6, 24), W(24, 10)

    X, options = draw(2, 4, 7), {"n_heads": 3, "frequencies": frequencies}
    plain = (X, *weights(7), None, None, None, None, None)
    normed = (X, *weights(9), 1 + draw(6) / 2, W(7, 9), 1 + draw(9) / 2, draw(2, 5, 6), draw(2, 5, 4))
    more = {"absorbed": True, "pairing": "halves", "scale": 0.4, "eps": 0.1, "mask": draw.mask(2, 3, 4, 9)}
    pair = _latent_with_outputs, _latent_with_outputs_backward
    return [
        Case("attention", "v13 latent attention", *pair, plain, options),
        Case("attention", "v13, norms, past", *pair, normed, options | {"positions": np.array([4, 1, 2, 8])}),
        Case("attention", "v13, absorbed, norms, past", *pair, normed, options | more),
    ]


def delta_cases(draw: _Draw) -> list[Case]:
    """Version 14 in both forms and with all ways to share heads, with the last state as an output too."""
    choices: list[tuple[str, tuple[int, int, int], dict[str, Any]]] = [
        (" gated delta rule", (2, 2, 2), {}),
        (", in chunks, fewer key heads", (1, 1, 2), {"chunk": 2}),
        (", in chunks, more query heads", (4, 1, 2), {"chunk": 3, "normalise": False, "scale": 0.4}),
    ]
    found = []
    for name, (H_Q, H_K, H), options in choices:
        # g is the log of a decay, at most 0, and beta is between 0 and 1; abs is safe here: no forward runs.
        g, beta = -np.abs(draw(2, H, 7)), 1 / (1 + np.exp(draw(2, H, 7)))
        args = (draw(2, H_Q, 7, 3), draw(2, H_K, 7, 3), draw(2, H, 7, 5), g, beta, draw(2, H, 5, 3))
        found.append(Case("attention", f"v14{name}", _delta_with_state, _delta_with_state_backward, args, options))
    return found


def dot_product_cases(draw: _Draw) -> list[Case]:
    """Scaled dot-product attention, whole and in tiles, with its options."""
    QKV, bias, mask = (draw(2, 4, 3), draw(2, 5, 3), draw(2, 5, 6)), draw(4, 5), draw.mask(2, 4, 5)
    everything = (draw(2, 4, 4, 3), draw(2, 2, 5, 3), draw(2, 2, 5, 6), bias, draw(4))
    windowed = {"window": 2, "offset": 1, "softcap": 0.7, "grouped": True}
    dropped = {"dropout": 0.4, "rng": np.random.default_rng(1)}
    choices: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        (" attention", QKV, {}),
        (", causal, scale, bias", (*QKV, bias), {"causal": True, "scale": 0.3}),
        (", masked, row bias", (*QKV, bias[:1]), {"mask": mask}),
    ]
    whole, in_tiles = dot_product.scaled_dot_product_attention_backward, tiled.tiled_attention_backward
    return [
        *(Case("core", f"dot-product{name}", _attend, whole, args, o) for name, args, o in choices),
        Case("core", "dot-product, window, sinks, cap", _attend, whole, everything, windowed),
        Case("core", "dot-product, dropout", _attend, whole, QKV, dropped),
        *(Case("core", f"tiled{name}", _attend_tiled, in_tiles, args, o | {"tile": 2}) for name, args, o in choices),
        Case("core", "tiled, window, sinks, cap", _attend_tiled, in_tiles, everything, windowed | {"tile": 2}),
    ]


def layer_cases(draw: _Draw) -> list[Case]:
    """The other layers."""
    X, ids = draw(2, 5, 4), np.array([[1, 4, 1], [0, 3, 4]])
    frequencies = layers.RotaryFrequencies(np.array([1.1, 0.3]), 1.3)
    turned = {"positions": np.array([4, 1, 1, 8, 0]), "pairing": "halves"}
    grouped = {"correction": np.array([0.0, 0.3, 0.1, -0.2, 0.4, 0.0]), "n_groups": 3, "n_chosen_groups": 2}
    choices = np.array([[[0, 2], [2, 0], [1, 2], [0, 1], [2, 2]]] * 2)

    def case(name: str, forward: str, *args: Any, **options: Any) -> Case:
        function = _softmax if forward == "softmax" else getattr(layers, forward)
        return Case("layers", name, function, getattr(layers, f"{forward}_backward"), args, options)

    def experts() -> tuple[Array, ...]:
        return tuple(draw(*shape) / 2 for shape in ((4, 4, 6), (4, 3, 5), (4, 6), (4, 5)))   # the last is not chosen

    return [
        case("linear", "linear", X, draw.weight(4, 3), draw(3)),
        case("linear, no bias", "linear", X, draw.weight(4, 3)),
        case("softmax", "softmax", X),
        case("softmax, masked", "softmax", X, mask=draw.mask(2, 5, 4)),
        case("layer norm", "layer_norm", X, 1 + draw(4) / 2, draw(4)),
        case("layer norm, no β", "layer_norm", X, 1 + draw(4) / 2),
        case("RMS norm", "rms_norm", X, 1 + draw(4) / 2),
        case("RMS norm, 1 + γ", "rms_norm", X, draw(4) / 2, unit_offset=True),
        case("gated RMS norm", "gated_rms_norm", X, draw(2, 5, 4), 1 + draw(4) / 2),
        case("ℓ2 norm", "l2_norm", X, eps=0.5),
        case("causal convolution", "causal_convolution", X, draw(3, 4)),
        case("causal convolution, past", "causal_convolution", X, draw(3, 4), draw(2, 2, 4)),
        case("rotary", "rotary", X, frequencies=frequencies),
        case("rotary, halves, positions", "rotary", draw(2, 5, 6), frequencies=frequencies, **turned),
        case("relu", "relu", X),
        case("gelu", "gelu", X),
        case("gelu, by tanh", "gelu", X, approximate="tanh"),
        case("silu", "silu", X),
        case("swiglu", "swiglu", X),
        case("swiglu, as gpt-oss", "swiglu", X, gate="even", limit=0.8, slope=1.702, unit_offset=True),
        case("geglu", "geglu", X),
        case("geglu, by tanh, second half", "geglu", X, gate="second", approximate="tanh"),
        case("soft cap", "soft_cap", X, cap=0.7),
        case("dropout", "dropout", X, p=0.4, rng=np.random.default_rng(1)),
        case("embedding", "embedding", ids, draw(6, 4)),
        case("cross-entropy", "cross_entropy", draw(2, 3, 5), ids),
        case("cross-entropy, smoothed, pads", "cross_entropy", draw(2, 3, 5), ids, smoothing=0.1, ignore_id=0),
        case("router, softmax", "route", draw(2, 3, 6), n_chosen=3, renormalise=False),
        case("router, sigmoid, groups", "route", draw(2, 3, 6), n_chosen=3, score="sigmoid", scale=2.5, **grouped),
        case("mixture of experts", "mixture_of_experts", X, draw(2, 5, 2), *experts(), ids=choices),
    ]


SIZES: dict[str, Any] = {
    "src_vocab": 9, "tgt_vocab": 11, "d_model": 6, "n_heads": 2, "d_ff": 40,
    "n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0.0,
}  # fmt: skip

TRANSFORMERS: dict[str, dict[str, Any]] = {
    "post-norm, as in the paper": {},
    "pre-norm": {"norm": "pre"},
    "post-norm, final norm": {"final_norm": True},
    "all embeddings tied": {"tie": "all", "src_vocab": 11},
    "nothing tied": {"tie": "none"},
    "gelu": {"activation": "gelu"},
    "gelu, no biases": {"activation": "gelu", "bias": False},
    "dropout": {"dropout": 0.3},
    "attention dropout": {"attention_dropout": 0.3},
}


def transformer_cases(draw: _Draw) -> list[Case]:
    """The whole model with a layer on each side, padded sources and targets, and parameters by name."""
    src, tgt = np.array([[4, 5, 4, 8, 3], [6, 7, 5, 0, 0]]), np.array([[1, 7, 9], [1, 4, 0]])
    found = []
    for name, choices in TRANSFORMERS.items():
        config = TransformerConfig(**SIZES | choices)
        params = {n: draw.parameter(n, *shape) for n, shape in config.shapes().items()}
        options = {"config": config, "rng": np.random.default_rng(1) if "dropout" in name else None}
        found.append(Case("Transformer", name, transformer.forward, transformer.backward, (params, src, tgt), options))
    return found


GEMMA: dict[str, Any] = {
    "norm_position": "both", "unit_offset": True, "activation": "gelu_tanh", "scale_embedding": True, "tie": True,
    "layer_types": ("sliding_attention",), "window": 2,
}  # fmt: skip

LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "Llama": {"rotary": RotarySettings(scaling="llama3", s=4.0, original_length=8)},
    "OLMo 2": {"norm_position": "post", "qk_norm": "wide_rms"},
    "Gemma 2": GEMMA | {"attention_softcap": 0.7, "logit_softcap": 0.9},
    "Gemma 3": GEMMA | {"qk_norm": "rms"},
    "GPT-2": {
        "positions": "learned", "max_length": 9, "norm": "layer", "norm_bias": True, "attention_bias": True,
        "feed_forward_bias": True, "gated": False, "activation": "gelu_tanh", "tie": True, "n_kv_heads": 4,
    },
}  # fmt: skip


def language_model_cases(draw: _Draw) -> list[Case]:
    """A layer of each family, with a short row of ids that pads fill."""
    ids, found = np.array([[4, 5, 4, 1, 3], [6, 6, 2, 0, 0]]), []
    for name, choices in LANGUAGE_MODELS.items():
        sizes = {"d_model": 5, "n_layers": 1, "n_heads": 4, "n_kv_heads": 2, "d_head": 6, "d_ff": 3}
        config = LanguageModelConfig(7, **sizes | choices)
        params = {n: draw.parameter(n, *shape) for n, shape in config.shapes().items()}
        pair = language_model.forward, language_model.backward
        found.append(Case("language model", name, *pair, (params, ids), {"config": config}))
    return found


def _with_outputs_k_and_v(version: Version) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the pair of a version with a past, with (Z, K, V) in place of Z: later pieces read the grown K and V."""
    def forward(
        X: Array, W_Q: Array, W_K: Array, W_V: Array, W_O: Array, K_past: Array | None = None,
        V_past: Array | None = None, sinks: Array | None = None, gamma_Q: Array | None = None,
        gamma_K: Array | None = None, **options: Any,
    ) -> tuple[tuple[Array, Array, Array], Any]:  # fmt: skip
        more = [parameter for parameter in (sinks, gamma_Q, gamma_K) if parameter is not None]
        Z, cache = version.module.forward(X, W_Q, W_K, W_V, W_O, K_past, V_past, *more, **options)
        return (Z, cache.K, cache.V), cache

    def backward(cotangents: tuple[Array, Array, Array], cache: Any) -> Any:
        dZ, dK, dV = cotangents
        return tuple(gradient for gradient in version.module.backward(dZ, cache, dK, dV) if gradient is not None)

    return forward, backward


def _latent_with_outputs(
    *args: Array | None, **options: Any
) -> tuple[tuple[Array, Array, Array], v13_latent.Cache]:
    """Version 13 with (Z, C, K_R) in place of Z: later pieces read the grown C and K_R."""
    Z, cache = v13_latent.forward(*args, **options)           # type: ignore[arg-type]  # the last five may be None
    return (Z, cache.C, cache.K_R), cache


def _latent_with_outputs_backward(cotangents: tuple[Array, Array, Array], cache: v13_latent.Cache) -> Any:
    dZ, dC, dK_R = cotangents
    return v13_latent.backward(dZ, cache, dC, dK_R)


def _delta_with_state(*args: Array, **options: Any) -> tuple[tuple[Array, Array], v14_gated_delta.Cache]:
    """Version 14 with (Y, S) in place of Y: later pieces go on from the last state S."""
    Y, cache = v14_gated_delta.forward(*args, **options)
    return (Y, cache.S), cache


def _delta_with_state_backward(cotangents: tuple[Array, Array], cache: v14_gated_delta.Cache) -> Any:
    dY, dS = cotangents
    return v14_gated_delta.backward(dY, cache, dS)


def _softmax(E: Array, mask: Array | None = None) -> tuple[Array, Array]:
    A = layers.softmax(E, mask)
    return A, A                                               # softmax_backward takes the output as its cache


def _attend(
    Q: Array, K: Array, V: Array, bias: Array | None = None, sinks: Array | None = None, **options: Any
) -> tuple[Array, dot_product.Cache]:
    return dot_product.scaled_dot_product_attention(Q, K, V, bias=bias, sinks=sinks, **options)


def _attend_tiled(
    Q: Array, K: Array, V: Array, bias: Array | None = None, sinks: Array | None = None, **options: Any
) -> tuple[Array, tiled.Cache]:
    return tiled.tiled_attention(Q, K, V, bias=bias, sinks=sinks, **options)
