"""The names of PyTorch for ours, and its stacks of transposed arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from npattn._internal.checks import Array, Layout, Params, differences, is_array, kind_of

#: PyTorch's name → our names, in the order in which PyTorch stacks their transposes.
Stacks: TypeAlias = Mapping[str, list[str]]

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

#: PyTorch's word for each part of a layer. The feed-forward part has none.
PLACES = {
    "self_attention": ["self_attn"], "cross_attention": ["multihead_attn"], "feed_forward": [],
    "norm_1": ["norm1"], "norm_2": ["norm2"], "norm_3": ["norm3"], "norm": ["norm"],
}  # fmt: skip

#: The names in nn.MultiheadAttention, where W_Q, W_K and W_V are one stack or separate arrays.
PACKED = {
    "W_Q": "in_proj_weight", "W_K": "in_proj_weight", "W_V": "in_proj_weight", "W_O": "out_proj.weight",
    "b_Q": "in_proj_bias", "b_K": "in_proj_bias", "b_V": "in_proj_bias", "b_O": "out_proj.bias",
}  # fmt: skip
SEPARATE = PACKED | {"W_Q": "q_proj_weight", "W_K": "k_proj_weight", "W_V": "v_proj_weight"}

#: The last word of each name in nn.Transformer.
LEAVES = PACKED | {
    "W_1": "linear1.weight", "b_1": "linear1.bias", "W_2": "linear2.weight", "b_2": "linear2.bias",
    "gamma": "weight", "beta": "bias",
}  # fmt: skip


def torch_name(name: str) -> str:
    """Return PyTorch's name: decoder.1.cross_attention.W_Q → decoder.layers.1.multihead_attn.in_proj_weight."""
    side, *number, place, leaf = name.split(".")
    return ".".join([side, *(f"layers.{i}" for i in number), *PLACES[place], LEAVES[leaf]])


def by_torch_name(names: Iterable[tuple[str, str]]) -> Stacks:
    """Return the stacks from pairs of PyTorch's name and ours. Those of one stack must come in the order Q, K, V."""
    stacks: dict[str, list[str]] = {}
    for theirs, ours in names:
        stacks.setdefault(theirs, []).append(ours)
    return stacks


def stacked_shapes(shapes: Shapes, stacks: Stacks) -> Shapes:
    """Return the shapes of PyTorch's arrays from the shapes of ours."""
    transposed = {theirs: shapes[ours[0]][::-1] for theirs, ours in stacks.items()}
    return {theirs: (len(stacks[theirs]) * out, *rest) for theirs, (out, *rest) in transposed.items()}


def stack(params: Params, stacks: Stacks) -> dict[str, Array]:
    """Return PyTorch's arrays, as C-contiguous copies."""
    # np.concatenate would keep the Fortran order of the transposes.
    return {t: np.ascontiguousarray(np.concatenate([params[n].T for n in names])) for t, names in stacks.items()}


def unstack(state: Params, stacks: Stacks) -> Iterator[tuple[str, Array]]:
    """Yield each of our names with a view of its part of PyTorch's array."""
    for theirs, ours in stacks.items():
        for name, part in zip(ours, np.split(state[theirs], len(ours)), strict=True):
            yield name, part.T


def as_arrays(what: str, values: Mapping[str, Any]) -> dict[str, Array]:
    """Return every value as a floating array; an array is not copied."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{what}: expected a mapping of names to arrays, got {type(values).__name__}")
    arrays = {}
    for name, value in values.items():
        if isinstance(value, np.ndarray) and not is_array(value):
            raise TypeError(f"{what}: {name!r}: expected a NumPy array, got {kind_of(value)}")
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:   # a tensor on a GPU, in bfloat16, with gradients …
            raise TypeError(f"{what}: {name!r}: expected an array, got {type(value).__name__}: {error}") from error
        if array.dtype.kind != "f":
            raise TypeError(f"{what}: {name!r}: expected a floating array, got {array.dtype}")
        arrays[name] = array
    return arrays


def check_layout(what: str, got: Layout, shapes: Shapes, dtype: np.dtype[Any], hint: str = "") -> None:
    """Raise a ValueError that lists all names, shapes and dtypes that are not as expected."""
    if wrong := differences(got, {name: (shape, dtype) for name, shape in shapes.items()}):
        raise ValueError(f"{what}: {wrong}{hint}")
