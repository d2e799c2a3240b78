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
from npattn.attention import VERSIONS, dot_product
from npattn.attention.tiled import attention as tiled
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
    return [*attention_cases(draw), *dot_product_cases(draw), *layer_cases(draw), *transformer_cases(draw)]


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


def dot_product_cases(draw: _Draw) -> list[Case]:
    """Scaled dot-product attention, whole and in tiles, with its options."""
    QKV, bias, mask = (draw(2, 4, 3), draw(2, 5, 3), draw(2, 5, 6)), draw(4, 5), draw.mask(2, 4, 5)
    choices: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        (" attention", QKV, {}),
        (", causal, scale, bias", (*QKV, bias), {"causal": True, "scale": 0.3}),
        (", masked, row bias", (*QKV, bias[:1]), {"mask": mask}),
    ]
    whole, in_tiles = dot_product.scaled_dot_product_attention_backward, tiled.tiled_attention_backward
    return [
        *(Case("core", f"dot-product{name}", _attend, whole, args, o) for name, args, o in choices),
        *(Case("core", f"tiled{name}", _attend_tiled, in_tiles, args, o | {"tile": 2}) for name, args, o in choices),
    ]


def layer_cases(draw: _Draw) -> list[Case]:
    """The other layers."""
    X, ids = draw(2, 5, 4), np.array([[1, 4, 1], [0, 3, 4]])

    def case(name: str, forward: str, *args: Any, **options: Any) -> Case:
        function = _softmax if forward == "softmax" else getattr(layers, forward)
        return Case("layers", name, function, getattr(layers, f"{forward}_backward"), args, options)

    return [
        case("linear", "linear", X, draw.weight(4, 3), draw(3)),
        case("linear, no bias", "linear", X, draw.weight(4, 3)),
        case("softmax", "softmax", X),
        case("softmax, masked", "softmax", X, mask=draw.mask(2, 5, 4)),
        case("layer norm", "layer_norm", X, 1 + draw(4) / 2, draw(4)),
        case("layer norm, no β", "layer_norm", X, 1 + draw(4) / 2),
        case("relu", "relu", X),
        case("gelu", "gelu", X),
        case("dropout", "dropout", X, p=0.4, rng=np.random.default_rng(1)),
        case("embedding", "embedding", ids, draw(6, 4)),
        case("cross-entropy", "cross_entropy", draw(2, 3, 5), ids),
        case("cross-entropy, smoothed, pads", "cross_entropy", draw(2, 3, 5), ids, smoothing=0.1, ignore_id=0),
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
}


def transformer_cases(draw: _Draw) -> list[Case]:
    """The whole model with a layer on each side, padded sources and targets, and parameters by name."""
    src, tgt = np.array([[4, 5, 4, 8, 3], [6, 7, 5, 0, 0]]), np.array([[1, 7, 9], [1, 4, 0]])
    found = []
    for name, choices in TRANSFORMERS.items():
        config = TransformerConfig(**SIZES | choices)
        params = {n: draw.parameter(n, *shape) for n, shape in config.shapes().items()}
        options = {"config": config, "rng": np.random.default_rng(1) if config.dropout else None}
        found.append(Case("Transformer", name, transformer.forward, transformer.backward, (params, src, tgt), options))
    return found


def _softmax(E: Array, mask: Array | None = None) -> tuple[Array, Array]:
    A = layers.softmax(E, mask)
    return A, A                                               # softmax_backward takes the output as its cache


def _attend(Q: Array, K: Array, V: Array, bias: Array | None = None, **options: Any) -> tuple[Array, dot_product.Cache]:
    return dot_product.scaled_dot_product_attention(Q, K, V, bias=bias, **options)


def _attend_tiled(
    Q: Array, K: Array, V: Array, bias: Array | None = None, **options: Any
) -> tuple[Array, tiled.Cache]:
    return tiled.tiled_attention(Q, K, V, bias=bias, **options)
