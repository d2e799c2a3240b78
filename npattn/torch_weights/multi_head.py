"""The weights of nn.MultiheadAttention, as arguments of `npattn.attention.v7_multi_head.forward`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from npattn._internal.checks import Array, Params, check_flag, layout_of
from npattn.torch_weights.layouts import (
    PACKED,
    SEPARATE,
    Shapes,
    as_arrays,
    by_torch_name,
    check_layout,
    stack,
    stacked_shapes,
    unstack,
)


def load_multi_head(state: Mapping[str, Any]) -> dict[str, Array]:
    """Return W_Q, W_K, W_V, W_O and, if there are biases, b_Q, b_K, b_V, b_O of `nn.MultiheadAttention.state_dict()`.

    W_Q and W_O (E, E), W_K (kdim, E), W_V (vdim, E), biases (E,). They are arguments of
    `npattn.attention.v7_multi_head.forward`, which projects keys and values from one X and so wants kdim = vdim.

    Raises ValueError that lists every name that does not fit, TypeError for what is no floating array.
    """
    arrays = as_arrays("state", state)
    if extra := [name for name in ("bias_k", "bias_v") if name in arrays]:
        raise ValueError(
            f"state: expected add_bias_kv=False, got {' and '.join(extra)}: we have no learned key and value beside X"
        )
    names = SEPARATE if (set(SEPARATE.values()) - set(PACKED.values())) & arrays.keys() else PACKED
    E, dtype = _usual(arrays)
    D_K, D_V = _size(arrays, "k_proj_weight", -1, E), _size(arrays, "v_proj_weight", -1, E)
    shapes = _multi_head_shapes(E, D_K, D_V, biased="in_proj_bias" in arrays or "out_proj.bias" in arrays)
    stacks = by_torch_name((names[name], name) for name in shapes)
    check_layout("state", layout_of("state", arrays), stacked_shapes(shapes, stacks), dtype)
    parts = dict(unstack(arrays, stacks))
    return {name: np.array(parts[name], order="C") for name in shapes}


def dump_multi_head(params: Mapping[str, Any], packed: bool = True) -> dict[str, Array]:
    """Return the `nn.MultiheadAttention.state_dict()` of W_Q, W_K, W_V, W_O, and of b_Q, b_K, b_V, b_O or none of them.

    `packed=False` gives q_, k_ and v_proj_weight, which PyTorch has exactly when kdim or vdim is not E. W_Q and W_O
    must be (E, E): PyTorch's heads are always E wide together.

    Raises ValueError that lists every name that does not fit, TypeError for what is no floating array.
    """
    arrays, packed = as_arrays("params", params), check_flag("packed", packed)
    E, dtype = _usual(arrays)
    D_K, D_V = (E, E) if packed else (_size(arrays, "W_K", 0, E), _size(arrays, "W_V", 0, E))
    shapes = _multi_head_shapes(E, D_K, D_V, biased=any(name.startswith("b_") for name in arrays))
    hint = " (keys and values of another width need packed=False)" if packed else ""
    check_layout("params", layout_of("params", arrays), shapes, dtype, hint)
    return stack(arrays, by_torch_name(((PACKED if packed else SEPARATE)[name], name) for name in shapes))


def _multi_head_shapes(E: int, D_K: int, D_V: int, biased: bool) -> Shapes:
    weights: Shapes = {"W_Q": (E, E), "W_K": (D_K, E), "W_V": (D_V, E), "W_O": (E, E)}
    return {**weights, **{f"b_{which}": (E,) for which in "QKVO" if biased}}


def _usual(arrays: Params) -> tuple[int, np.dtype[Any]]:
    """E and the dtype, taken as the most frequent in nn.MultiheadAttention, so that the blame falls on the odd one."""
    sizes, dtypes = [size for a in arrays.values() for size in a.shape], [a.dtype for a in arrays.values()]
    return statistics.mode(sizes or [0]), statistics.mode(dtypes or [np.dtype(np.float32)])


def _size(arrays: Params, name: str, axis: int, default: int) -> int:
    return arrays[name].shape[axis] if name in arrays and arrays[name].ndim == 2 else default
