"""Convert the weights of nn.MultiheadAttention to and from arguments of `npattn.attention.v7_multi_head.forward`.

The table of both layouts is in the docstring of `npattn.torch_weights`.
"""

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
    """Return W_Q, W_K, W_V, W_O and, if there are biases, b_Q, b_K, b_V, b_O.

    - state: `nn.MultiheadAttention.state_dict()`; a value may be anything that `np.asarray` accepts.

    W_Q and W_O are (E, E), W_K (kdim, E), W_V (vdim, E), biases (E,). They are arguments of
    `npattn.attention.v7_multi_head.forward`. It projects keys and values from one X, so it needs kdim = vdim.

    Raises ValueError that lists every name that does not fit, TypeError for what is no floating array.
    """
    arrays = as_arrays("state", state)
    if extra := [name for name in ("bias_k", "bias_v") if name in arrays]:
        raise ValueError(
            f"state: expected add_bias_kv=False, got {' and '.join(extra)}: we have no learned key and value beside X"
        )
    names = SEPARATE if (set(SEPARATE.values()) - set(PACKED.values())) & arrays.keys() else PACKED
    E, dtype = _most_frequent(arrays)
    D_K, D_V = _width(arrays, "k_proj_weight", -1, E), _width(arrays, "v_proj_weight", -1, E)
    shapes = _multi_head_shapes(E, D_K, D_V, biased="in_proj_bias" in arrays or "out_proj.bias" in arrays)
    stacks = by_torch_name((names[name], name) for name in shapes)
    check_layout("state", layout_of("state", arrays), stacked_shapes(shapes, stacks), dtype)
    parts = dict(unstack(arrays, stacks))
    return {name: np.array(parts[name], order="C") for name in shapes}


def dump_multi_head(params: Mapping[str, Any], packed: bool = True) -> dict[str, Array]:
    """Return a state for `nn.MultiheadAttention.load_state_dict`.

    - params: W_Q, W_K, W_V, W_O, and all or none of b_Q, b_K, b_V, b_O. W_Q and W_O must be (E, E): PyTorch's heads
      together always have the width E.
    - packed: True for one in_proj_weight; False for q_, k_ and v_proj_weight. PyTorch has these if kdim or vdim is not
      E.

    Raises ValueError that lists every name that does not fit, TypeError for what is no floating array.
    """
    arrays, packed = as_arrays("params", params), check_flag("packed", packed)
    E, dtype = _most_frequent(arrays)
    D_K, D_V = (E, E) if packed else (_width(arrays, "W_K", 0, E), _width(arrays, "W_V", 0, E))
    shapes = _multi_head_shapes(E, D_K, D_V, biased=any(name.startswith("b_") for name in arrays))
    hint = " (keys and values of another width need packed=False)" if packed else ""
    check_layout("params", layout_of("params", arrays), shapes, dtype, hint)
    return stack(arrays, by_torch_name(((PACKED if packed else SEPARATE)[name], name) for name in shapes))


def _multi_head_shapes(E: int, D_K: int, D_V: int, biased: bool) -> Shapes:
    """Return the shapes of our arrays."""
    weights: Shapes = {"W_Q": (E, E), "W_K": (D_K, E), "W_V": (D_V, E), "W_O": (E, E)}
    return {**weights, **{f"b_{which}": (E,) for which in "QKVO" if biased}}


def _most_frequent(arrays: Params) -> tuple[int, np.dtype[Any]]:
    """Return the most frequent size, which is E, and dtype. So an error names the array that differs."""
    sizes, dtypes = [size for a in arrays.values() for size in a.shape], [a.dtype for a in arrays.values()]
    return statistics.mode(sizes or [0]), statistics.mode(dtypes or [np.dtype(np.float32)])


def _width(arrays: Params, name: str, axis: int, default: int) -> int:
    """Return the size of this axis of a matrix; the default if there is no such matrix."""
    return arrays[name].shape[axis] if name in arrays and arrays[name].ndim == 2 else default
