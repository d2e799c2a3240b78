"""The operator tests of the `onnx` package, and the calls of npattn that compute them.

Each case is one node with its inputs and the outputs that are expected. The functions named after an operator translate
a node into a call; their comments say where the conventions differ. What onnx computes in float16 or bfloat16, npattn
computes in float32 from the same numbers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from npattn import layers, scaled_dot_product_attention
from npattn._internal.checks import Array
from npattn.attention import v14_gated_delta
from npattn.layers.rotary import Rotation, rotate

#: Where the package keeps the cases of each operator.
MODULES = {
    "Attention": "attention",
    "FlexAttention": "flexattention",
    "LinearAttention": "linear_attention",
    "RMSNormalization": "rmsnormalization",
    "RotaryEmbedding": "rotaryembedding",
}


class Case(NamedTuple):
    """One node: its inputs and outputs by the names that the operator gives them."""

    name: str
    attributes: dict[str, Any]
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    dtype: np.dtype[Any]  # of the first output, as onnx has it


def cases(operator: str) -> Iterator[Case]:
    """Yield the cases of an operator; `_expanded` ones have the same numbers and are left out."""
    import onnx

    state = np.random.get_state()                             # onnx draws its cases from the global generator
    importlib.import_module(f"onnx.backend.test.case.node.{MODULES[operator]}")
    np.random.set_state(state)
    for case in onnx.backend.test.case.node._NodeTestCases:
        nodes = case.model.graph.node
        if [node.op_type for node in nodes] == [operator]:
            (node,), ((inputs, outputs),) = nodes, case.data_sets
            schema = onnx.defs.get_schema(operator, case.model.opset_import[-1].version, node.domain)
            attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
            yield Case(
                case.name, attributes, by_name(node.input, schema.inputs, inputs),
                by_name(node.output, schema.outputs, outputs), outputs[0].dtype,
            )  # fmt: skip


def by_name(given: Any, formal: Any, arrays: Any) -> dict[str, Array]:
    """Return the arrays that are there under the operator's own names, those of small floats as float32."""
    there = [slot.name for slot, name in zip(formal, given, strict=False) if name]
    return {
        name: array.astype(np.float32) if array.dtype.itemsize == 2 else array
        for name, array in zip(there, arrays, strict=True)
    }


def attention(case: Case, attend: Callable[..., Any] = scaled_dot_product_attention) -> dict[str, Array]:
    """Attention-23 to 25. Rows without heads hold one head beside the other. `attend` may keep no weights."""
    inputs, attributes = case.inputs, case.attributes
    Q, K, V = (inputs[name] for name in "QKV")
    flat = Q.ndim == 3
    if flat:
        heads = attributes["q_num_heads"], attributes["kv_num_heads"]
        Q, K, V = split(Q, heads[0]), split(K, heads[1]), split(V, heads[1])
    past = inputs.get("past_key", K[..., :0, :]).shape[-2]
    if past:
        K, V = (np.concatenate([inputs[f"past_{name}"], X], -2) for name, X in (("key", K), ("value", V)))
    given = given_mask(inputs.get("attn_mask"), (*Q.shape[:-1], K.shape[-2]))
    options = {"scale": attributes.get("scale"), "softcap": attributes.get("softcap"), "grouped": True}
    causal, left, right = (
        attributes.get(name, default)
        for name, default in (("is_causal", 0), ("left_window_size", -1), ("right_window_size", -1))
    )
    # Left and right count the keys beside the query's own; npattn's window has W keys and ends at key i + offset.
    ahead = 0 if causal else max(right, 0)
    assert causal or (left < 0) == (right < 0)                # npattn's window has both ends
    options |= {"causal": bool(causal), "window": None if left < 0 else left + 1 + ahead}

    def run(rows: Any, offset: int, mask: Array | None = None) -> tuple[Array, Array]:
        extra = {name: array[rows] for name, array in given.items()}
        if mask is not None:
            extra["mask"] = extra.get("mask", True) & mask
        Y, cache = attend(Q[rows], K[rows], V[rows], offset=offset + ahead, **extra, **options)
        return Y, getattr(cache, "A", np.zeros(0))

    if "nonpad_kv_seqlen" in inputs:
        # Each sequence has n keys and then pads, and its queries are the last of the n: an offset of its own.
        shape = Q.shape[-2], K.shape[-2]
        parts = [
            run(slice(b, b + 1), int(n) - Q.shape[-2], np.broadcast_to(np.arange(K.shape[-2]) < n, shape))
            for b, n in enumerate(inputs["nonpad_kv_seqlen"])
        ]
        Y, A = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    else:
        Y, A = run(slice(None), past)
    return {"Y": join(Y) if flat else Y, "present_key": K, "present_value": V, "qk_matmul_output": A}


def given_mask(mask: Array | None, shape: tuple[int, ...]) -> dict[str, Array]:
    """Return the mask as `mask` or, of floats, as `bias`. Keys beyond its end are hidden."""
    if mask is None:
        return {}
    hidden, name = (False, "mask") if mask.dtype == bool else (-np.inf, "bias")
    short = np.full((*mask.shape[:-1], shape[-1] - mask.shape[-1]), hidden, mask.dtype)
    return {name: np.broadcast_to(np.concatenate([mask, short], -1), shape).copy()}


def expected_weights(case: Case) -> Array:
    """Return what onnx hands out of the scores as the weights A: npattn's cache keeps these alone."""
    E, mode = case.outputs["qk_matmul_output"], case.attributes.get("qk_matmul_output_mode", 0)
    if mode == 3:                                             # the weights themselves
        return E
    assert mode or "softcap" not in case.attributes
    if mode < 2:                                              # the scores before mask and bias
        given = given_mask(case.inputs.get("attn_mask"), E.shape)
        assert "mask" not in given and not case.attributes.get("is_causal")
        E = E + given.get("bias", np.float32(0))
    return layers.softmax(E)


def flex_attention(case: Case, attend: Callable[..., Any] = scaled_dot_product_attention) -> dict[str, Array]:
    """FlexAttention-1. Its changes of the scores are graphs, told apart by their nodes."""
    Q, K, V = (case.inputs[name] for name in "QKV")
    options: dict[str, Any] = {"scale": case.attributes.get("scale")}
    if "score_mod" in case.attributes:
        import onnx

        graph = case.attributes["score_mod"]
        constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        match [node.op_type for node in graph.node]:
            case ["Add"]:
                options["bias"] = constants["bias"].reshape(1, 1)
            case ["Div", "Tanh", "Mul"]:
                options["softcap"] = float(constants["cap"])
            case [*_, "GreaterOrEqual", "Where"]:
                options["causal"] = True
            case [*_, "Sub", "Cast", "Add"]:
                options["bias"] = np.subtract.outer(np.arange(Q.shape[-2]), np.arange(K.shape[-2])).astype(Q.dtype)
            case other:
                raise AssertionError(f"an unknown change of the scores: {other}")
    assert "prob_mod" not in case.attributes
    return {"Y": attend(Q, K, V, grouped=True, **options)[0]}


def linear_attention(case: Case, chunk: int | None = None) -> dict[str, Array]:
    """LinearAttention-27. Its state is npattn's transposed, and it never normalises keys or queries."""
    inputs, attributes = case.inputs, case.attributes
    H, scale = attributes["kv_num_heads"], attributes.get("scale", 0)
    Q, K, V = (split(inputs[name], n) for name, n in (("query", attributes["q_num_heads"]), ("key", H), ("value", H)))
    S = inputs.get("past_state", np.zeros((*K.shape[:2], K.shape[-1], V.shape[-1]), K.dtype)).mT
    g = split(inputs.get("decay", np.zeros((len(K), K.shape[-2], H), K.dtype)), H)        # (B, H, N, 1 or D_Q)
    if "beta" in inputs:
        beta = np.broadcast_to(inputs["beta"].mT, K.shape[:-1])          # one for each head, or for all
    else:
        # Without the delta, S = S̃ + v kᵀ. That is β → 0 with the values v/β: rounding leaves e = v/β − S̃k = v/β.
        beta = np.full(K.shape[:-1], 2.0**-60, K.dtype)
        V = V / beta[..., None]
    # ONNX may have a decay for each column, npattn has one for a head. Then npattn takes one step at a time, with the
    # mean of the columns' g, and the state gets the rest of the decay before each step.
    steps = [slice(None)] if g.shape[-1] == 1 else [slice(t, t + 1) for t in range(K.shape[-2])]
    mean = g.mean(-1)
    rest, Y = np.exp(g - mean[..., None]), []
    for t in steps:
        rows = [X[:, :, t] for X in (Q, K, V, mean, beta)]
        S = rest[:, :, t][..., :1, :] * S
        y, cache = v14_gated_delta.forward(*rows, S, scale=scale or None, normalise=False, chunk=chunk)
        S = cache.S
        Y.append(y)
    return {"output": join(np.concatenate(Y, -2)), "present_state": S.mT}


def rms_normalization(case: Case) -> dict[str, Array]:
    """RMSNormalization-23. Its mean is over all axes from `axis` on, which are one row of npattn's."""
    X, scale = case.inputs["X"], case.inputs["scale"]
    assert case.attributes.get("stash_type", 1) == 1
    row = X.reshape(*X.shape[: case.attributes.get("axis", -1) % X.ndim], -1)
    Y, _ = layers.rms_norm(row, scale.ravel(), eps=case.attributes.get("epsilon", 1e-5))
    return {"Y": Y.reshape(X.shape)}


def rotary_embedding(case: Case) -> dict[str, Array]:
    """RotaryEmbedding-23. Its cosines and sines are numbers of any size, not those of one angle: no frequencies."""
    X, at = case.inputs["X"], case.inputs.get("position_ids", slice(None))
    flat = X.ndim == 3
    cos, sin = (case.inputs[f"{name}_cache"][at][:, None] for name in ("cos", "sin"))        # (B, 1, N, R/2)
    assert case.attributes.get("rotary_embedding_dim", 0) in (0, 2 * cos.shape[-1])
    pairing = "neighbours" if case.attributes.get("interleaved") else "halves"
    Y = rotate(split(X, case.attributes["num_heads"]) if flat else X, Rotation(cos, sin, pairing))
    return {"Y": join(Y) if flat else Y}


def split(X: Array, H: int) -> Array:
    """(B, N, H·D) → (B, H, N, D)."""
    return X.reshape(*X.shape[:2], H, -1).swapaxes(1, 2)


def join(Y: Array) -> Array:
    """(B, H, N, D) → (B, N, H·D)."""
    return Y.swapaxes(1, 2).reshape(len(Y), Y.shape[2], -1)


RUN: dict[str, Callable[..., dict[str, Array]]] = {
    "Attention": attention,
    "FlexAttention": flex_attention,
    "LinearAttention": linear_attention,
    "RMSNormalization": rms_normalization,
    "RotaryEmbedding": rotary_embedding,
}
