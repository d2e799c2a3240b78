"""Every public forward/backward pair of attention and layers, with a function that makes its arguments.

`PAIRS` maps the qualified name of a forward function to a `Pair`. `PAIRS[name].call(setting)` makes a `Call` of it.
`discover()` finds the pairs in the source of the package, and a test compares the two.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import npattn
from npattn import layers
from npattn._internal.checks import Array
from npattn.attention import (
    MODERN_VERSIONS,
    VERSIONS,
    dot_product,
    v7_multi_head,
    v12_normalised,
    v13_latent,
    v14_gated_delta,
)
from npattn.attention.tiled import attention as tiled
from support.calls import Call, Maker, Setting, cotangent


@dataclass(frozen=True)
class Pair:
    """A pair of the package, or a thin adapter of it where its signature is another."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    axes: str
    make: Callable[[Maker], tuple[tuple[Any, ...], dict[str, Any]]]
    least: int = 2  # size of the smallest axis; the other sizes are the next numbers
    batch: Mapping[str, int] = field(default_factory=lambda: {"B": 13, "C": 17})
    attends: bool = False  # takes a mask over keys N_X
    plain: bool = True  # forward is the public function itself

    def call(self, setting: Setting) -> Call:
        args, kwargs = self.make(Maker(setting, self.axes, self.least, self.batch))
        return Call(self.forward, args, kwargs)


def softmax(E: Array, mask: Array | None = None) -> tuple[Array, Array]:
    A = layers.softmax(E, mask)
    return A, A


def attend(
    Q: Array, K: Array, V: Array, mask: Array | None = None, bias: Array | None = None, sinks: Array | None = None,
    **options: Any,
) -> Any:  # fmt: skip
    """Dot-product attention with its bias and its sinks among the arguments that are differentiated."""
    return dot_product.scaled_dot_product_attention(Q, K, V, mask, bias=bias, sinks=sinks, **options)


def attend_in_tiles(
    Q: Array, K: Array, V: Array, mask: Array | None = None, bias: Array | None = None, sinks: Array | None = None,
    **options: Any,
) -> Any:  # fmt: skip
    return tiled.tiled_attention(Q, K, V, mask, bias=bias, sinks=sinks, **options)


def make_linear(m: Maker) -> Any:
    return (m.array("... N D_in"), m.weight("D_in D_out"), m.maybe("D_out")), {}


def make_softmax(m: Maker) -> Any:
    return (m.array("... N_Q N_X"),), {"mask": m.mask("... N_Q N_X")}


def make_layer_norm(m: Maker) -> Any:
    return (m.array("... N D") + m.array("", 1.0), m.array("D", 1.0), m.maybe("D")), {}


def make_relu(m: Maker) -> Any:
    X = m.array("... N D")
    return (X + np.copysign(X.dtype.type(0.1 * m.setting.scale), X),), {}  # clear of the kink


def make_silu(m: Maker) -> Any:
    return (m.array("... N D"),), {}


def make_dropout(m: Maker) -> Any:
    rng = np.random.default_rng(m.setting.seed) if m.setting.optional % 4 else None
    return (m.array("... N D"),), {"p": 0.4, "rng": rng}


def make_embedding(m: Maker) -> Any:
    W_E = m.array("V D")
    ids = m.rng.integers(m.sizes["V"], size=m.shape("... N"))
    ids[..., 1:2] = ids[..., :1]  # at least one repeat
    return (ids, W_E), {}


def make_cross_entropy(m: Maker) -> Any:
    targets = m.rng.integers(m.sizes["V"], size=m.shape("... N"))
    targets[..., :1] = 1
    smoothing = 0.1 if m.setting.optional & 1 else 0.0
    ignored = 0 if m.setting.optional & 2 else None
    return (m.array("... N V"), targets), {"smoothing": smoothing, "ignore_id": ignored}


def make_core(m: Maker) -> Any:
    Q, K, V = m.array("... N_Q D_Q"), m.array("... N_X D_Q"), m.array("... N_X D_V")
    bias = m.maybe(["N_Q N_X", "... 1 N_X", "N_X", "N_Q 1"][m.rng.integers(4)])
    scale = 0.3 if m.setting.optional & 2 else None
    options = {"scale": scale, "causal": bool(m.setting.optional & 4)}
    return (Q, K, V, m.mask("... N_Q N_X"), bias), options


def make_attention(m: Maker) -> Any:
    """With all options; with an odd seed, two heads of keys and values for the last batch axis of the queries."""
    (Q, K, V, mask, bias), options = make_core(m)
    if m.setting.sizes.get("N_X") == 1:
        return (Q, K, V, mask, bias), options
    options["grouped"] = bool(m.setting.seed % 2) and Q.ndim > 2 and Q.shape[-3] % 2 == 0
    if options["grouped"]:
        K, V = K[..., :2, :, :], V[..., :2, :, :]
    sinks = given_or_not(m, "1" if m.setting.n_batch and m.rng.integers(2) else "...")
    if options["causal"]:
        options |= drawn_from(m, causal=(True, False), offset=(0, 1, 2), window=(None, 1, 2))
    if m.setting.optional & 8:
        options |= {"dropout": 0.4, "rng": np.random.default_rng(m.setting.seed)}
    options["softcap"] = max(0.7 * m.setting.scale**2, 1e-30) if m.rng.integers(2) else None
    return (Q, K, V, mask, bias, *([] if sinks is None else [sinks])), options


def make_tiled(m: Maker) -> Any:
    args, options = make_attention(m)
    options = {name: option for name, option in options.items() if name not in ("dropout", "rng")}
    return args, options | {"tile": (2, 3, 512)[m.rng.integers(3)]}


def make_v1(m: Maker) -> Any:
    q, X, w = m.array("... D_Q"), m.array("... N_X D_X"), m.array("D_E", 1.0)
    return (q, X, m.weight("D_Q D_E"), m.weight("D_X D_E"), w), {"mask": m.mask("... N_X")}


def make_v2(m: Maker) -> Any:
    return (m.array("... D_Q"), m.array("... N_X D_Q")), {"mask": m.mask("... N_X")}


def make_v4(m: Maker) -> Any:
    return (m.array("... N_Q D_Q"), m.array("... N_X D_Q")), {"mask": m.mask("... N_Q N_X")}


def make_v5(m: Maker) -> Any:
    Q, X = m.array("... N_Q D_Q"), m.array("... N_X D_X")
    return (Q, X, m.weight("D_X D_Q"), m.weight("D_X D_V")), {"mask": m.mask("... N_Q N_X")}


def make_v6(m: Maker) -> Any:
    weights = (m.weight("D_X D_Q"), m.weight("D_X D_Q"), m.weight("D_X D_V"))
    return (m.array("... N_X D_X"), *weights), {"mask": m.mask("... N_X N_X")}


def make_v7(m: Maker) -> Any:
    X_Q, X = m.array("... N_Q D_XQ"), m.array("... N_X D_X")
    weights = (m.weight(p) for p in ("D_XQ H·D_Q", "D_X H·D_Q", "D_X H·D_V", "H·D_V D_Z"))
    biases = (m.maybe(p) for p in ("H·D_Q", "H·D_Q", "H·D_V", "D_Z"))
    return (X_Q, X, *weights, *biases), {"n_heads": m.sizes["H"], "mask": m.mask("... H N_Q N_X")}


def drawn_from(m: Maker, **choices: tuple[Any, ...]) -> dict[str, Any]:
    """Draw one of the choices for each name."""
    return {name: values[m.rng.integers(len(values))] for name, values in choices.items()}


def draw_frequencies(m: Maker, D: int) -> layers.RotaryFrequencies:
    """Draw at most D/2 frequencies of any size, and a factor."""
    n_pairs = int(m.rng.integers(1 if D > 1 else 0, D // 2 + 1))
    return layers.RotaryFrequencies(m.rng.uniform(0.1, 3, n_pairs), float(m.rng.choice([1.0, 1.3])))


def draw_positions(m: Maker, pattern: str) -> Array | None:
    """Draw positions of a shape that broadcasts to the pattern, with repeats, or None."""
    shape = m.shape(pattern)[m.rng.integers(2) * m.setting.n_batch :]
    return m.rng.integers(9, size=shape) if m.rng.integers(2) else None


def make_rms_norm(m: Maker) -> Any:
    return (m.array("... N D") + m.array("", 1.0), m.array("D", 1.0)), drawn_from(m, unit_offset=(False, True))


def make_soft_cap(m: Maker) -> Any:
    return (m.array("... N D"),), {"cap": max(0.7 * m.setting.scale, 1e-30)}


def make_rotary(m: Maker) -> Any:
    options = {"frequencies": draw_frequencies(m, m.sizes["D"]), "positions": draw_positions(m, "... N")}
    return (m.array("... N D"),), options | drawn_from(m, pairing=("neighbours", "halves"))


def make_gelu(m: Maker) -> Any:
    return (m.array("... N D"),), drawn_from(m, approximate=("none", "tanh"))


def make_geglu(m: Maker) -> Any:
    options = drawn_from(m, gate=("first", "second", "even"), approximate=("none", "tanh"))
    return (m.array("... N 2·D"),), options


def make_swiglu(m: Maker) -> Any:
    """Numbers are drawn clear of the limit, at which there is a kink."""
    X, size = m.array("... N 2·D"), max(m.setting.scale, 1e-30)
    options = drawn_from(m, gate=("first", "second", "even"), slope=(1.0, 1.7), unit_offset=(False, True))
    if m.rng.integers(2):
        options["limit"] = size
        X = np.where(np.abs(np.abs(X) - size) < 0.1 * size, X * X.dtype.type(0.5), X)
    return (X,), options


def make_v8(m: Maker) -> Any:
    """A setting with one key has one query and no past."""
    m.sizes["H_K"] = m.sizes.get("H_K", m.sizes.setdefault("H", 2))
    alone = m.setting.sizes.get("N_X") == 1
    m.sizes |= {"N_Q": 1} if alone else {}
    patterns = ("... N_Q D_X", "D_X H·D_Q", "D_X H_K·D_Q", "D_X H_K·D_V", "H·D_V D_Z")
    X, *weights = (m.array(p) if "..." in p else m.weight(p) for p in patterns)
    has_past = bool(m.setting.optional & 3) and not alone
    past = (m.array("... H_K P D_Q"), m.array("... H_K P D_V")) if has_past else (None, None)
    m.sizes["N_X"] = m.sizes["N_Q"] + m.sizes["P"] * has_past
    options = drawn_from(m, scale=(None, 0.3), offset=(None, None, 1))
    return (X, *weights, *past), {"n_heads": m.sizes["H"], "mask": m.mask("... H N_Q N_X")} | options


def make_v9(m: Maker) -> Any:
    args, options = make_v8(m)
    options |= {"frequencies": draw_frequencies(m, m.sizes["D_Q"]), "positions": draw_positions(m, "... N_Q")}
    return args, options | drawn_from(m, pairing=("neighbours", "halves"))


def make_v10(m: Maker) -> Any:
    """Two groups of at least two heads, or all heads in one group."""
    m.sizes["H_K"] = 2 if m.setting.optional & 4 else 1
    m.sizes["H"] = m.sizes["H_K"] * (2 if m.sizes["H_K"] == 2 else 3)
    args, options = make_v9(m)
    return args, options | {"n_kv_heads": m.sizes["H_K"]}


def given_or_not(m: Maker, pattern: str) -> Array | None:
    """An argument of magnitude 1, or None."""
    return np.asarray(m.array(pattern, 1.0)) if m.setting.optional == 15 or m.rng.integers(2) else None


def make_v11(m: Maker) -> Any:
    """A setting with one key has neither sinks nor window."""
    args, options = make_v10(m)
    if m.setting.sizes.get("N_X") == 1:
        return (*args, None), options
    return (*args, given_or_not(m, "H")), options | drawn_from(m, window=(None, 1, 2, 3))


def make_v12(m: Maker) -> Any:
    """Keys of a past are as large as the new ones, and the cap is as large as the scores."""
    (*args, K_past, V_past, sinks), options = make_v11(m)
    options |= drawn_from(m, norm=("rms", "wide_rms", "layer"), eps=(1e-6, 0.1))
    n_heads, n_groups = ("H·", "H_K·") if options["norm"] == "wide_rms" else ("", "")
    gamma_Q, gamma_K = given_or_not(m, f"{n_heads}D_Q"), given_or_not(m, f"{n_groups}D_Q")
    if gamma_K is not None and K_past is not None:
        K_past = m.array("... H_K P D_Q", 1.0)
    size = m.setting.scale ** ((gamma_Q is None) + (gamma_K is None))
    options["softcap"] = max(0.7 * size, 1e-30) if m.rng.integers(2) else None
    return (*args, K_past, V_past, sinks, gamma_Q, gamma_K), options


def make_v13(m: Maker) -> Any:
    """A setting with one key has one query and no past."""
    alone, has_latent = m.setting.sizes.get("N_X") == 1, bool(m.setting.optional & 2)
    m.sizes |= {"N_Q": 1} if alone else {}
    m.sizes |= {"D_R": 4} | ({} if has_latent else {"D_LQ": m.sizes["D_X"]})
    has_past = bool(m.setting.optional & 1) and not alone
    m.sizes["N_X"] = m.sizes["N_Q"] + m.sizes["P"] * has_past
    patterns = "D_LQ H·D_C", "D_LQ H·D_R", "D_X D_L", "D_X D_R", "D_L H·D_C", "D_L H·D_V", "H·D_V D_Z"
    gamma, gamma_Q = (m.array(p, 1.0) if m.setting.optional & bit else None for p, bit in (("D_L", 4), ("D_LQ", 8)))
    past = (m.array("... P D_L"), m.array("... P D_R")) if has_past else (None, None)
    W_DQ = m.weight("D_X D_LQ") if has_latent else None
    args = (m.array("... N_Q D_X"), *(m.weight(p) for p in patterns), gamma, W_DQ, gamma_Q, *past)
    options = {"n_heads": m.sizes["H"], "mask": m.mask("... H N_Q N_X"), "frequencies": draw_frequencies(m, 4)}
    options |= {"positions": draw_positions(m, "... N_Q"), "eps": 1e-6 * max(m.setting.scale, 1e-3) ** 2}
    choices = {"scale": (None, 0.3), "pairing": ("neighbours", "halves"), "absorbed": (False, True)}
    return args, options | drawn_from(m, **choices)


def make_v14(m: Maker) -> Any:
    """All ways to share heads; keys that are not normalised have a length near 1."""
    H_Q, H_K, H_V = ((1, 3, 3), (4, 1, 2), (2, 1, 2), (2, 2, 4))[m.setting.optional % 4]
    m.sizes |= {"H_Q": H_Q, "H_K": H_K, "H_V": H_V}
    options = drawn_from(m, scale=(None, 0.3), normalise=(True, False), chunk=(None, 1, 2, 64))
    size = m.setting.scale if options["normalise"] else 1 / math.sqrt(m.sizes["D_Q"])
    Q, K, V = m.array("... H_Q N D_Q"), m.array("... H_K N D_Q", size), m.array("... H_V N D_V")
    g, beta = -np.abs(m.array("... H_V N", 1.0)), m.rng.uniform(0.1, 1, m.shape("... H_V N")).astype(Q.dtype)
    return (Q, K, V, g, beta, m.array("... H_V D_V D_Q") if m.setting.optional & 4 else None), options


def make_causal_convolution(m: Maker) -> Any:
    """Four taps, and so three rows of the past."""
    m.sizes |= {"3": 3, "4": 4}
    past = m.array("... 3 D") if m.setting.optional & 1 else None
    return (m.array("... N D"), m.array("4 D", 1.0), past), {}


def make_gated_rms_norm(m: Maker) -> Any:
    X = m.array("... N D") + m.array("", 1.0)
    return (X, m.array("... N D"), m.array("D", 1.0)), {}


def make_route(m: Maker) -> Any:
    """Scores, and with a correction the sums of two in a group, are drawn apart, so that no small step changes them."""
    apart = m.rng.permuted(np.broadcast_to(np.arange(m.sizes["E"]), m.shape("... N E")), axis=-1)
    logits = (m.setting.scale * (apart / 2 + m.rng.uniform(0, 0.2, apart.shape))).astype(m.setting.dtype)
    options = {"n_chosen": 2} | drawn_from(m, score=("softmax", "sigmoid"), renormalise=(False, True), scale=(1.0, 2.5))
    if m.setting.optional & 1:
        options["correction"] = (2.0 ** m.rng.permutation(m.sizes["E"]) * 2).astype(logits.dtype)
        options |= {} if m.sizes["E"] % 2 else {"n_groups": 2, "n_chosen_groups": 1}
    return (logits,), options


def make_mixture_of_experts(m: Maker) -> Any:
    """Some experts are chosen by several rows, or twice by one."""
    X, weights = m.array("... N D"), m.array("... N k", 1.0)
    W_1, W_2 = m.array("E D 2·F", 0.5), m.array("E F D_Y", 0.5)
    ids = m.rng.integers(m.sizes["E"], size=weights.shape)
    return (X, weights, W_1, W_2, m.maybe("E 2·F"), m.maybe("E D_Y")), {"ids": ids}


V_AXES = ("D_Q N_X D_X D_E", "D_Q N_X", "D_Q N_X", "N_Q N_X D_Q", "N_Q N_X D_Q D_X D_V", "N_X D_X D_Q D_V")
V_MAKES = (make_v1, make_v2, make_v2, make_v4, make_v5, make_v6)

PAIRS: dict[str, Pair] = {
    "npattn.layers.linear.linear": Pair(layers.linear, layers.linear_backward, "N D_in D_out", make_linear),
    "npattn.layers.softmax.softmax": Pair(
        softmax, layers.softmax_backward, "N_Q N_X", make_softmax, attends=True, plain=False
    ),
    # A row of two different entries always normalises to ±1, and its gradient is almost zero. So D is 3 or more.
    "npattn.layers.layer_norm.layer_norm": Pair(
        layers.layer_norm, layers.layer_norm_backward, "N D", make_layer_norm, least=3
    ),
    "npattn.layers.relu.relu": Pair(layers.relu, layers.relu_backward, "N D", make_relu),
    "npattn.layers.rms_norm.rms_norm": Pair(
        layers.rms_norm, layers.rms_norm_backward, "N D", make_rms_norm, least=3
    ),
    "npattn.layers.gated_rms_norm.gated_rms_norm": Pair(
        layers.gated_rms_norm, layers.gated_rms_norm_backward, "N D", make_gated_rms_norm, least=3
    ),
    "npattn.layers.l2_norm.l2_norm": Pair(layers.l2_norm, layers.l2_norm_backward, "N D", make_silu, least=3),
    "npattn.layers.causal_convolution.causal_convolution": Pair(
        layers.causal_convolution, layers.causal_convolution_backward, "N D", make_causal_convolution, least=5
    ),
    "npattn.layers.mixture_of_experts.route": Pair(layers.route, layers.route_backward, "N E", make_route, least=3),
    "npattn.layers.mixture_of_experts.mixture_of_experts": Pair(
        layers.mixture_of_experts, layers.mixture_of_experts_backward, "N D k E F D_Y", make_mixture_of_experts
    ),
    "npattn.layers.rotary.rotary": Pair(layers.rotary, layers.rotary_backward, "N D", make_rotary, least=4),
    "npattn.layers.silu.silu": Pair(layers.silu, layers.silu_backward, "N D", make_silu),
    "npattn.layers.soft_cap.soft_cap": Pair(layers.soft_cap, layers.soft_cap_backward, "N D", make_soft_cap),
    "npattn.layers.gated_feed_forward.swiglu": Pair(layers.swiglu, layers.swiglu_backward, "N D", make_swiglu),
    "npattn.layers.gated_feed_forward.geglu": Pair(layers.geglu, layers.geglu_backward, "N D", make_geglu),
    "npattn.layers.gelu.gelu": Pair(layers.gelu, layers.gelu_backward, "N D", make_gelu),
    "npattn.layers.dropout.dropout": Pair(layers.dropout, layers.dropout_backward, "N D", make_dropout),
    "npattn.layers.embedding.embedding": Pair(
        layers.embedding, layers.embedding_backward, "N V D", make_embedding
    ),
    "npattn.layers.cross_entropy.cross_entropy": Pair(
        layers.cross_entropy, layers.cross_entropy_backward, "N V", make_cross_entropy
    ),
    "npattn.attention.dot_product.scaled_dot_product_attention": Pair(
        attend, dot_product.scaled_dot_product_attention_backward, "N_Q N_X D_Q D_V", make_attention,
        batch={"B": 8, "C": 6}, attends=True, plain=False,
    ),
    "npattn.attention.tiled.attention.tiled_attention": Pair(
        attend_in_tiles, tiled.tiled_attention_backward, "N_Q N_X D_Q D_V", make_tiled,
        batch={"B": 8, "C": 6}, attends=True, plain=False,
    ),
} | {
    f"{v.module.__name__}.forward": Pair(v.module.forward, v.module.backward, axes, make, attends=True)
    for v, axes, make in zip(VERSIONS[:-1], V_AXES, V_MAKES, strict=True)
} | {
    "npattn.attention.v7_multi_head.forward": Pair(
        v7_multi_head.forward, v7_multi_head.backward, "H N_Q N_X D_Q D_V D_XQ D_X D_Z", make_v7,
        least=4, batch={"B": 2, "C": 3}, attends=True,
    )
} | {
    f"{v.module.__name__}.forward": Pair(
        v.module.forward, v.module.backward, "P N_Q D_Q D_V D_X D_Z", make,
        least=3, batch={"B": 2, "C": 1}, attends=True,
    )
    for v, make in zip(MODERN_VERSIONS[:4], (make_v8, make_v9, make_v10, make_v11), strict=True)
} | {
    # Layer norm needs D_Q of 3 or more, as above.
    "npattn.attention.v12_normalised.forward": Pair(
        v12_normalised.forward, v12_normalised.backward, "H P N_Q D_Q D_V D_X D_Z", make_v12, least=3,
        batch={"B": 2, "C": 1}, attends=True,
    ),
    "npattn.attention.v13_latent.forward": Pair(
        v13_latent.forward, v13_latent.backward, "H P N_Q D_X D_LQ D_L D_C D_V D_Z", make_v13, least=3,
        batch={"B": 2, "C": 1}, attends=True,
    ),
    "npattn.attention.v14_gated_delta.forward": Pair(
        v14_gated_delta.forward, v14_gated_delta.backward, "N D_Q D_V", make_v14, least=3, batch={"B": 2, "C": 1}
    ),
}  # fmt: skip


def discover(folder: Path = Path(npattn.__file__).parent) -> set[str]:
    """Find the qualified names of the public forwards below a folder of the package, by reading its source."""
    found = set()
    for path in sorted(folder.rglob("*.py")):
        module = ".".join(path.relative_to(Path(npattn.__file__).parents[1]).with_suffix("").parts)
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = {node.name for node in body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"}
        forwards = {name for name in names if f"{name}_backward" in names}
        forwards |= {"forward"} if {"forward", "backward"} <= names else set()
        found |= {f"{module}.{name}" for name in forwards}
    return found


def gradients(pair: Pair, call: Call, seed: int = 1) -> tuple[Array | None, ...]:
    """Run forward and backward with a random cotangent; always a tuple."""
    Y, cache = call.run()
    returned = pair.backward(cotangent(Y, seed), cache)
    return returned if isinstance(returned, tuple) else (returned,)
