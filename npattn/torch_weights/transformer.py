"""The weights of nn.Transformer, in and out of an `npattn.Transformer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.torch_weights.layouts import (
    Stacks,
    as_arrays,
    by_torch_name,
    check_layout,
    stack,
    stacked_shapes,
    torch_name,
    unstack,
)
from npattn.transformer import Transformer


def load_transformer(model: Transformer, state: Mapping[str, Any]) -> None:
    """Copy the weights of `nn.Transformer.state_dict()` into `model`, which keeps its dtype, embeddings and output.

    A narrower dtype is widened, which is exact; a wider one is refused. From the state of a module that holds the
    nn.Transformer as `core`, take `{n.removeprefix("core."): a for n, a in state.items() if n.startswith("core.")}`.

    Raises ValueError that lists every name that does not fit, TypeError for what is no floating array.
    """
    arrays, stacks = as_arrays("state", state), _transformer_stacks(model)
    dtype = model.params.flat.dtype
    got = {n: (a.shape, dtype if np.can_cast(a.dtype, dtype) else a.dtype) for n, a in arrays.items()}
    final = model.config.has_final_norm
    hint = "" if final else " (this model has no final norms; nn.Transformer's ask for final_norm=True)"
    check_layout("state", got, stacked_shapes(model.params.shapes, stacks), dtype, hint)
    for name, part in unstack(arrays, stacks):
        model.params[name] = part


def dump_transformer(model: Transformer) -> dict[str, Array]:
    """Return the weights of `model` but for embeddings and output, as `nn.Transformer.load_state_dict` wants them.

    Names and shapes are those of the module's table; each array is a C-contiguous copy, (out, in). Every model can be
    dumped; ValueError comes from loading alone.
    """
    stacks = _transformer_stacks(model)
    return stack(model.params, stacks)


def _transformer_stacks(model: Transformer) -> Stacks:
    if not isinstance(model, Transformer):
        raise TypeError(f"model: expected a Transformer, got {type(model).__name__}")
    inside = [name for name in model.params if name.startswith(("encoder.", "decoder."))]
    return by_torch_name((torch_name(name), name) for name in inside)
