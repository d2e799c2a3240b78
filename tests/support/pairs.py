"""Every public forward/backward pair of attention and layers, with a function that makes its arguments.

`PAIRS` maps the qualified name of a forward function to a `Pair`. `PAIRS[name].call(setting)` makes a `Call` of it.
`discover()` finds the pairs in the source of the package, and a test compares the two.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import npattn
from npattn import layers
from npattn._internal.checks import Array
from npattn.attention import VERSIONS, dot_product, v7_multi_head
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
    Q: Array, K: Array, V: Array, mask: Array | None = None, bias: Array | None = None, **options: Any
) -> Any:
    """Dot-product attention with its bias among the arguments that are differentiated."""
    return dot_product.scaled_dot_product_attention(Q, K, V, mask, bias=bias, **options)


def attend_in_tiles(
    Q: Array, K: Array, V: Array, mask: Array | None = None, bias: Array | None = None, **options: Any
) -> Any:
    return tiled.tiled_attention(Q, K, V, mask, bias=bias, **options)


def make_linear(m: Maker) -> Any:
    return (m.array("... N D_in"), m.weight("D_in D_out"), m.maybe("D_out")), {}


def make_softmax(m: Maker) -> Any:
    return (m.array("... N_Q N_X"),), {"mask": m.mask("... N_Q N_X")}


def make_layer_norm(m: Maker) -> Any:
    return (m.array("... N D") + m.array("", 1.0), m.array("D", 1.0), m.maybe("D")), {}


def make_relu(m: Maker) -> Any:
    X = m.array("... N D")
    return (X + np.copysign(X.dtype.type(0.1 * m.setting.scale), X),), {}  # clear of the kink


def make_gelu(m: Maker) -> Any:
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


def make_tiled(m: Maker) -> Any:
    args, options = make_core(m)
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
    "npattn.layers.gelu.gelu": Pair(layers.gelu, layers.gelu_backward, "N D", make_gelu),
    "npattn.layers.dropout.dropout": Pair(layers.dropout, layers.dropout_backward, "N D", make_dropout),
    "npattn.layers.embedding.embedding": Pair(
        layers.embedding, layers.embedding_backward, "N V D", make_embedding
    ),
    "npattn.layers.cross_entropy.cross_entropy": Pair(
        layers.cross_entropy, layers.cross_entropy_backward, "N V", make_cross_entropy
    ),
    "npattn.attention.dot_product.scaled_dot_product_attention": Pair(
        attend, dot_product.scaled_dot_product_attention_backward, "N_Q N_X D_Q D_V", make_core, attends=True,
        plain=False,
    ),
    "npattn.attention.tiled.attention.tiled_attention": Pair(
        attend_in_tiles, tiled.tiled_attention_backward, "N_Q N_X D_Q D_V", make_tiled, attends=True, plain=False
    ),
} | {
    f"{v.module.__name__}.forward": Pair(v.module.forward, v.module.backward, axes, make, attends=True)
    for v, axes, make in zip(VERSIONS[:-1], V_AXES, V_MAKES, strict=True)
} | {
    "npattn.attention.v7_multi_head.forward": Pair(
        v7_multi_head.forward, v7_multi_head.backward, "H N_Q N_X D_Q D_V D_XQ D_X D_Z", make_v7,
        least=4, batch={"B": 2, "C": 3}, attends=True,
    )
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
