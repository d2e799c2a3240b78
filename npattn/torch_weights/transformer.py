"""Copy the weights of nn.Transformer into an `npattn.Transformer`, and back."""

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
    """Copy the weights of an nn.Transformer into `model`.

    - model: keeps its dtype, embeddings and output projection.
    - state: `nn.Transformer.state_dict()`; a value may be anything that `np.asarray` accepts.

    A narrower dtype is widened, which is exact; a wider one is refused. If a module has the nn.Transformer as `core`,
    pass `{n.removeprefix("core."): a for n, a in state.items() if n.startswith("core.")}`.

    Raises ValueError that lists every name that does not fit, and for a model with choices that nn.Transformer does not
    have, such as gates; TypeError for what is no floating array or no model.
    """
    arrays, stacks = as_arrays("state", state), _transformer_stacks(model)
    dtype = model.params.flat.dtype
    got = {n: (a.shape, dtype if np.can_cast(a.dtype, dtype) else a.dtype) for n, a in arrays.items()}
    hint = " (this model has no final norms; those of nn.Transformer need final_norm=True)"
    shapes = stacked_shapes(model.params.shapes, stacks)
    check_layout("state", got, shapes, dtype, "" if model.config.has_final_norm else hint)
    for name, part in unstack(arrays, stacks):
        model.params[name] = part


def dump_transformer(model: Transformer) -> dict[str, Array]:
    """Return a state for `nn.Transformer.load_state_dict`.

    - model: any model. Its embeddings and output projection are left out.

    Names and shapes are in the table of `npattn.torch_weights`; each array is a C-contiguous copy, (out, in). Raises
    TypeError for what is no model, ValueError for one with choices that nn.Transformer does not have, such as gates.
    """
    stacks = _transformer_stacks(model)                       # first: it checks the model
    return stack(model.params, stacks)


def _transformer_stacks(model: Transformer) -> Stacks:
    """Return the stacks of nn.Transformer for the parameters of encoder and decoder."""
    if not isinstance(model, Transformer):
        raise TypeError(f"model: expected a Transformer, got {type(model).__name__}")
    if not model.config.is_plain:
        raise ValueError(f"model: expected one that nn.Transformer can be, got {model.config}")
    inside = [name for name in model.params if name.startswith(("encoder.", "decoder."))]
    return by_torch_name((torch_name(name), name) for name in inside)
