"""Right calls with arguments by name, so that a test can spoil one of them; and the right calls of all `pairs`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from support.calls import Setting, cotangent
from support.pairs import PAIRS, Pair

#: The axes of the arguments of each forward, with "~" before a shape that broadcasts. Axes of one name have one size.
SHAPES = {
    "npattn.layers.linear": "X: ... D_in; W: D_in D_out; b: D_out",
    "npattn.layers.softmax": "E: ... N_X; mask: ~ ... N_X",
    "npattn.layers.layer_norm": "X: ... D; gamma: D; beta: D",
    "npattn.layers.relu": "X: ...",
    "npattn.layers.rms_norm": "X: ... D; gamma: D",
    "npattn.layers.gated_rms_norm": "X: ... D; Z: ... D; gamma: D",
    "npattn.layers.l2_norm": "X: ... D",
    "npattn.layers.silu": "X: ...",
    "npattn.layers.soft_cap": "X: ...",
    "npattn.layers.gelu": "X: ...",
    "npattn.layers.dropout": "X: ...",
    "npattn.layers.embedding": "W_E: V D",
    "npattn.layers.cross_entropy": "logits: ... V; targets: ...",
    "npattn.scaled_dot_product_attention":
        "Q: ... N_Q D_Q; K: ... N_X D_Q; V: ... N_X D_V; mask: ~ ... N_Q N_X; bias: ~ ... N_Q N_X; sinks: ~ ...",
    "npattn.scaled_dot_product_attention, grouped":
        "Q: ... H N_Q D_Q; K: ... H_K N_X D_Q; V: ... H_K N_X D_V; mask: ~ ... H N_Q N_X; bias: ~ ... H N_Q N_X; "
        "sinks: ~ ... H",
    "npattn.attention.v1_feed_forward.forward":
        "q: ... D_Q; X: ... N_X D_X; W_Q: D_Q D_E; W_X: D_X D_E; w: D_E; mask: ~ ... N_X",
    "npattn.attention.v2_dot_product.forward": "q: ... D_Q; X: ... N_X D_Q; mask: ~ ... N_X",
    "npattn.attention.v3_scaled_dot_product.forward": "q: ... D_Q; X: ... N_X D_Q; mask: ~ ... N_X",
    "npattn.attention.v4_multiple_queries.forward": "Q: ... N_Q D_Q; X: ... N_X D_Q; mask: ~ ... N_Q N_X",
    "npattn.attention.v5_cross_attention.forward":
        "Q: ... N_Q D_Q; X: ... N_X D_X; W_K: D_X D_Q; W_V: D_X D_V; mask: ~ ... N_Q N_X",
    "npattn.attention.v6_self_attention.forward":
        "X: ... N_X D_X; W_Q: D_X D_Q; W_K: D_X D_Q; W_V: D_X D_V; mask: ~ ... N_X N_X",
    "npattn.attention.v7_multi_head.forward":
        "X_Q: ... N_Q D_XQ; X: ... N_X D_X; W_Q: D_XQ H·D_Q; W_K: D_X H·D_Q; W_V: D_X H·D_V; W_O: H·D_V D_Z; "
        "b_Q: H·D_Q; b_K: H·D_Q; b_V: H·D_V; b_O: D_Z; mask: ~ ... H N_Q N_X",
}  # fmt: skip
SHAPES |= {
    f"npattn.attention.{name}.forward":
        f"X: ... N_Q D_X; W_Q: D_X H·D_Q; W_K: D_X {H}·D_Q; W_V: D_X {H}·D_V; W_O: H·D_V D_Z; K_past: ... {H} P D_Q; "
        f"V_past: ... {H} P D_V; mask: ~ ... H N_Q P+N_Q{more}"
    for name, H, more in (
        ("v8_causal", "H", ""), ("v9_rotary", "H", ""), ("v10_grouped_query", "H_K", ""),
        ("v11_sliding_window", "H_K", "; sinks: H"), ("v12_normalised", "H_K", "; sinks: H"),
    )
}  # fmt: skip
for kind in ("", ", grouped"):
    SHAPES[f"npattn.tiled_attention{kind}"] = SHAPES[f"npattn.scaled_dot_product_attention{kind}"]


@dataclass(frozen=True)
class Right:
    """A call that is right.

    `also` has further words that messages use for an argument, beside its symbol. `writes` names the mappings whose
    arrays the function writes to. `takes` names arguments, or ways to spoil them, that this function accepts and others
    do not.
    """

    function: Callable[..., Any]
    arguments: dict[str, Any]
    shapes: str = ""
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    errors: tuple[type[Exception], ...] = (TypeError, ValueError, IndexError)
    writes: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    pair: bool = False  # a pure function of floating arrays

    def run(self, **changes: Any) -> Any:
        """Call it with some arguments changed. Generators start anew, and arrays that it writes to are copies."""
        return self.function(**{name: self.afresh(name, value) for name, value in (self.arguments | changes).items()})

    def afresh(self, name: str, value: Any) -> Any:
        if name in self.writes and isinstance(value, dict):
            ours = list(self.arguments[name].values())
            return {key: array.copy() if part_of(array, ours) else array for key, array in value.items()}
        return copy.deepcopy(value) if isinstance(value, np.random.Generator) else value


def part_of(array: Any, others: list[Array]) -> bool:
    return isinstance(array, np.ndarray) and any(np.shares_memory(array, other) for other in others)


Maker = Callable[[int], Right]


def forward_of(pair: Pair, name: str) -> Maker:
    def make(seed: int) -> Right:
        kinds = ("float64", "float32"), ("none", "live", "broadcast", "dead"), (15, 0, 5)
        dtype, mask, optional = (kind[seed % len(kind)] for kind in kinds)
        call = pair.call(Setting(seed, 1 + seed % 2, dtype, mask=mask, optional=optional))
        parameters = inspect.signature(pair.forward).parameters
        given = dict(zip(parameters, call.args, strict=False)) | call.kwargs
        shapes = SHAPES.get(f"{name}, grouped" if given.get("grouped") else name, "")
        return Right(pair.forward, given, shapes, pair=True)

    return make


def backward_of(pair: Pair) -> Maker:
    def make(seed: int) -> Right:
        Y, cache = pair.call(Setting(seed, seed % 2, ("float64", "float32")[seed % 2], optional=seed % 16)).run()
        symbols = list(inspect.signature(pair.backward).parameters)
        grown = (cotangent(getattr(cache, symbol[1:]), i) for i, symbol in enumerate(symbols[2:], 2))
        takes = ("dloss 2.5", "dloss scalar", "dloss as")     # dloss is a number
        given = dict(zip(symbols, (cotangent(Y), cache, *grown), strict=True))
        return Right(pair.backward, given, takes=takes, pair=True)

    return make


def pairs() -> dict[str, Maker]:
    """Return every pair under its public name: npattn.layers.linear, npattn.attention.v1_feed_forward.backward …"""
    makers = {}
    for path, pair in PAIRS.items():
        *_, module, function = path.split(".")
        home = "npattn.layers" if ".layers." in path else "npattn"
        names = (f"{home}.{function}", f"{home}.{function}_backward")
        if function == "forward":
            names = (path, f"npattn.attention.{module}.backward")
        makers |= {names[0]: forward_of(pair, names[0]), names[1]: backward_of(pair)}
    return makers
