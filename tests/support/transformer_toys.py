"""Small Transformers for the tests, and the formulas of the paper written once more, for one sentence at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npattn import Transformer, TransformerConfig
from npattn._internal.checks import Array, Params
from npattn.transformer.fast.packing import Packing

#: Axes of pairwise different sizes: 4 rows, 5 source and 3 target positions, 2 heads of width 3, and so on.
SIZES: dict[str, Any] = {
    "src_vocab": 9, "tgt_vocab": 11, "d_model": 6, "n_heads": 2, "d_ff": 8,
    "n_encoder_layers": 2, "n_decoder_layers": 2, "dropout": 0.0,
}  # fmt: skip

#: Every option of a configuration at least twice: once beside the defaults and once beside other options.
OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "pre": {"norm": "pre"},
    "pre, no final norm": {"norm": "pre", "final_norm": False},
    "post, final norm": {"final_norm": True},
    "tie all": {"tie": "all", "src_vocab": 11},
    "untied": {"tie": "none"},
    "no bias": {"bias": False},
    "gelu": {"activation": "gelu"},
    "large epsilon": {"norm_eps": 0.5, "final_norm": True},
    "dropout": {"dropout": 0.3},
    "attention dropout": {"attention_dropout": 0.3},
    "one head, uneven depths": {"n_heads": 1, "n_encoder_layers": 1, "n_decoder_layers": 3},
    "no encoder layer": {"n_encoder_layers": 0, "tie": "none"},
    "odd width": {"d_model": 7, "n_heads": 1},
    "many": {"norm": "pre", "tie": "all", "src_vocab": 11, "bias": False, "activation": "gelu", "dropout": 0.2,
             "norm_eps": 0.1},
    "many others": {"final_norm": True, "tie": "none", "activation": "gelu", "dropout": 0.5, "bias": False},
}
#: The choices of models of Hugging Face: they run on the reference.
VARIANTS: dict[str, dict[str, Any]] = {
    "t5": {"norm": "pre", "norm_type": "rms", "bias": False, "positions": "relative", "relative_buckets": 6,
           "relative_max_distance": 4, "attention_scale": 1.0, "scale_embedding": False, "scale_output": True,
           "tie": "all", "src_vocab": 11, "d_head": 4, "n_decoder_layers": 1},
    "t5, gated": {"norm": "pre", "norm_type": "rms", "bias": False, "positions": "relative", "relative_buckets": 5,
                  "relative_max_distance": 3, "attention_scale": 0.7, "scale_embedding": False, "gated": True,
                  "activation": "gelu_tanh", "tie": "embeddings", "src_vocab": 11, "dropout": 0.3,
                  "activation_dropout": 0.2, "final_dropout": True, "n_encoder_layers": 1},
    "marian": {"positions": "sinusoidal_halves", "activation": "silu", "output_bias": True, "tie": "all",
               "src_vocab": 11, "n_encoder_layers": 1, "n_decoder_layers": 1},
    "bart": {"positions": "learned", "max_length": 40, "position_offset": 2, "embedding_norm": True,
             "scale_embedding": False, "activation": "gelu_tanh", "output_bias": True, "n_encoder_layers": 1,
             "n_decoder_layers": 1},
}
PAPER = list(OPTIONS)
OPTIONS |= VARIANTS

SRC = np.array([[4, 5, 4, 8, 3], [6, 6, 7, 0, 0], [0, 0, 0, 0, 0], [5, 0, 0, 0, 0]])   # (4, 5), one of pads alone
TGT = np.array([[1, 7, 7], [1, 4, 0], [1, 10, 9], [1, 0, 0]])                           # (4, 3)


def toy_config(**options: Any) -> TransformerConfig:
    return TransformerConfig(**SIZES | options)


def toy_params(config: TransformerConfig, seed: int = 0, dtype: Any = np.float64) -> dict[str, Array]:
    """Draw every parameter apart from the values that a new model starts with: γ is not 1, β and b are not 0."""
    rng = np.random.default_rng(seed)
    params = {}
    for name, shape in config.shapes().items():
        centre = 1.0 if name.endswith("gamma") else 0.0
        params[name] = rng.normal(centre, 0.3, shape).astype(dtype)
    return params


def toy_model(seed: int = 0, dtype: Any = np.float64, **options: Any) -> Transformer:
    config = toy_config(**options)
    model = Transformer(config, rng=seed, dtype=dtype)
    for name, array in toy_params(config, seed, dtype).items():
        model.params[name] = array
    return model


def deviation(one: Params, other: Params) -> float:
    """The largest difference between two sets of gradients, relative to the largest gradient of all."""
    assert one.keys() == other.keys()
    largest = max(float(np.abs(other[name]).max()) for name in other)
    return max(float(np.abs(one[name] - other[name]).max()) for name in other) / largest


def mask_of(packing: Packing) -> Array | None:
    """Return which keys a packing lets its queries attend to, True or False; None for all of them."""
    return None if packing.bias is None else packing.bias == 0


class LoopTransformer:
    """The Transformer for one sentence without pads: loops over positions and heads, forward alone."""

    def __init__(self, params: Params, config: TransformerConfig) -> None:
        self.params, self.config = params, config

    def logits(self, src: list[int], tgt: list[int]) -> Array:
        """Return the logits (N_T, V)."""
        c = self.config
        source = self.embed(src, self.table("source"))
        for i in range(c.n_encoder_layers):
            source = self.sublayer(f"encoder.{i}.norm_1", source, lambda x, i=i: self.attend(
                f"encoder.{i}.self_attention", x, x, causal=False))
            source = self.sublayer(f"encoder.{i}.norm_2", source, lambda x, i=i: self.feed_forward(
                f"encoder.{i}.feed_forward", x))
        source = self.norm("encoder.norm", source) if self.has_final_norm() else source
        target = self.embed(tgt, self.table("target"))
        for i in range(c.n_decoder_layers):
            target = self.sublayer(f"decoder.{i}.norm_1", target, lambda x, i=i: self.attend(
                f"decoder.{i}.self_attention", x, x, causal=True))
            target = self.sublayer(f"decoder.{i}.norm_2", target, lambda x, i=i: self.attend(
                f"decoder.{i}.cross_attention", x, source, causal=False))
            target = self.sublayer(f"decoder.{i}.norm_3", target, lambda x, i=i: self.feed_forward(
                f"decoder.{i}.feed_forward", x))
        target = self.norm("decoder.norm", target) if self.has_final_norm() else target
        if c.tie == "none":
            return target @ self.params["output.W"]
        return target @ self.table("target").T

    def table(self, side: str) -> Array:
        return self.params["embedding.W_E" if self.config.tie == "all" else f"{side}_embedding.W_E"]

    def has_final_norm(self) -> bool:
        return {None: self.config.norm == "pre", True: True, False: False}[self.config.final_norm]

    def embed(self, ids: list[int], W_E: Array) -> Array:
        D = self.config.d_model
        rows = []
        for n, token in enumerate(ids):
            angles = [n / 10000 ** (2 * (i // 2) / D) for i in range(D)]
            position = [math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(angles)]
            rows.append(W_E[token] * math.sqrt(D) + np.array(position))
        return np.array(rows).reshape(len(ids), D)

    def sublayer(self, norm: str, x: Array, f: Any) -> Array:
        if self.config.norm == "pre":
            return x + f(self.norm(norm, x))
        return self.norm(norm, x + f(x))

    def norm(self, name: str, x: Array) -> Array:
        gamma, eps = self.params[f"{name}.gamma"], self.config.norm_eps
        rows = [(row - row.mean()) / math.sqrt(row.var() + eps) * gamma for row in x]
        return np.array(rows) + self.params.get(f"{name}.beta", 0.0)

    def project(self, name: str, which: str, x: Array) -> Array:
        return x @ self.params[f"{name}.W_{which}"] + self.params.get(f"{name}.b_{which}", 0.0)

    def attend(self, name: str, x_q: Array, x: Array, causal: bool) -> Array:
        H = self.config.n_heads
        width = self.config.d_model // H
        Q, K, V = (self.project(name, which, rows) for which, rows in (("Q", x_q), ("K", x), ("V", x)))
        out = np.zeros_like(Q)
        for h in range(H):
            head = slice(h * width, (h + 1) * width)
            for i in range(len(Q)):
                seen = i + 1 if causal else len(K)
                weights = np.exp(K[:seen, head] @ Q[i, head] / math.sqrt(width))
                out[i, head] = weights / weights.sum() @ V[:seen, head]
        return self.project(name, "O", out)

    def feed_forward(self, name: str, x: Array) -> Array:
        hidden = self.project(name, "1", x)
        if self.config.activation == "relu":
            hidden = np.where(hidden > 0, hidden, 0)
        else:
            hidden = hidden * np.vectorize(lambda z: 0.5 * (1 + math.erf(z / math.sqrt(2))))(hidden)
        return self.project(name, "2", hidden)
