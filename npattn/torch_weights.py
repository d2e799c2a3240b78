"""PyTorch's names and layouts, in and out, on plain mappings of NumPy arrays; PyTorch itself is never imported.

PyTorch stores a weight as (out, in), the transpose of ours, and stacks the projections of queries, keys and values in
one array. With E for its embed_dim and d_model, F for its dim_feedforward:

==================================  ====================  ====================================================
nn.MultiheadAttention                                     ours, as in `npattn.attention.v7_multi_head`
==================================  ====================  ====================================================
in_proj_weight                      (3E, E)               W_Qᵀ above W_Kᵀ above W_Vᵀ ("packed")
q_, k_, v_proj_weight               (E, E, kdim or vdim)  W_Qᵀ, W_Kᵀ, W_Vᵀ: instead, when kdim or vdim is not E
in_proj_bias                        (3E,)                 b_Q, b_K, b_V in a row
out_proj.weight, .bias              (E, E), (E,)          W_Oᵀ, b_O
==================================  ====================  ====================================================
nn.Transformer                                            ours, as in `npattn.Transformer`
==================================  ====================  ====================================================
encoder.layers.0.self_attn.…        as above              encoder.0.self_attention.…, and decoder likewise
decoder.layers.0.multihead_attn.…   as above              decoder.0.cross_attention.…
….linear1.weight, .bias             (F, E), (F,)          ….feed_forward.W_1ᵀ, b_1; linear2 is W_2ᵀ, b_2
….norm1.weight, .bias               (E,)                  ….norm_1.gamma, beta; norm2, norm3 likewise
encoder.norm.weight, .bias          (E,)                  encoder.norm.gamma, beta, and decoder likewise
==================================  ====================  ====================================================

**Embeddings and output projection** are no part of nn.Transformer: loading leaves ours as they are, dumping leaves them
out. nn.Embedding.weight is laid out like our W_E (V, D_X); nn.Linear.weight is the transpose of our output.W.

**Final norms** nn.Transformer has by default, whatever its norm_first; so the model needs `norm="pre"`, or
`final_norm=True` beside `norm="post"`. A model without them exchanges weights with an nn.Transformer whose
custom_encoder and custom_decoder were built without `norm`.

**Not in the weights**, and so to be made equal by hand: n_heads = nhead; norm = "pre" for norm_first=True;
activation; PyTorch's layer_norm_eps = 1e-5; add_zero_attn=False. A boolean mask says True = may *not* attend in
nn.Transformer and nn.MultiheadAttention, the opposite of ours: pass them `~mask`.

**Strict and lossless**  Numbers are moved, never rounded, and every array returned is a C-contiguous copy, ready for
`save_state`, `np.savez` or `safetensors.numpy.save_file`. A value may be anything `np.asarray` takes, such as a CPU
tensor. Names that are missing, not expected, or of another shape or dtype are all listed in one ValueError, and nothing
has changed.

**Files**  `save_state` and `load_state` keep a state in a `.npz` file or, with the extra `safetensors`, in a
`.safetensors` file; so do `np.savez("core.npz", **{name: t.numpy() for name, t in module.state_dict().items()})` and
`safetensors.torch.save_file(module.state_dict(), "core.safetensors")` beside PyTorch.

>>> state = {"in_proj_weight": np.arange(12.0).reshape(6, 2), "out_proj.weight": np.array([[1.0, 2.0], [3.0, 4.0]])}
>>> params = load_multi_head(state)
>>> params["W_K"], params["W_O"]                     # rows 2 and 3 of the stack, transposed
(array([[4., 6.],
       [5., 7.]]), array([[1., 3.],
       [2., 4.]]))
>>> dump_multi_head(params)["out_proj.weight"]
array([[1., 2.],
       [3., 4.]])
>>> from npattn import TransformerConfig
>>> model = Transformer(TransformerConfig(9, 7, d_model=8, n_heads=2, d_ff=16, final_norm=True))
>>> twin = Transformer(model.config, rng=1)
>>> load_transformer(twin, dump_transformer(model))
>>> bool((twin.params["encoder.norm.gamma"] == model.params["encoder.norm.gamma"]).all())
True
>>> load_multi_head({"in_proj_weight": np.zeros((6, 2)), "out_proj": np.zeros((2, 2))})
Traceback (most recent call last):
ValueError: state: missing 'out_proj.weight'; unexpected 'out_proj'
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from npattn._layout import Layout, differences, layout_of
from npattn._scalars import check_flag
from npattn._shapes import is_array, kind_of
from npattn._state_files import load_state, save_state
from npattn._types import Array, Params
from npattn.transformer import Transformer

__all__ = ["dump_multi_head", "dump_transformer", "load_multi_head", "load_state", "load_transformer", "save_state"]

#: PyTorch's name → our names, in the order in which it stacks their transposes.
Stacks: TypeAlias = Mapping[str, list[str]]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

PLACES = {
    "self_attention": ["self_attn"], "cross_attention": ["multihead_attn"], "feed_forward": [],
    "norm_1": ["norm1"], "norm_2": ["norm2"], "norm_3": ["norm3"], "norm": ["norm"],
}  # fmt: skip
PACKED = {
    "W_Q": "in_proj_weight", "W_K": "in_proj_weight", "W_V": "in_proj_weight", "W_O": "out_proj.weight",
    "b_Q": "in_proj_bias", "b_K": "in_proj_bias", "b_V": "in_proj_bias", "b_O": "out_proj.bias",
}  # fmt: skip
SEPARATE = PACKED | {"W_Q": "q_proj_weight", "W_K": "k_proj_weight", "W_V": "v_proj_weight"}
LEAVES = PACKED | {
    "W_1": "linear1.weight", "b_1": "linear1.bias", "W_2": "linear2.weight", "b_2": "linear2.bias",
    "gamma": "weight", "beta": "bias",
}  # fmt: skip


def load_transformer(model: Transformer, state: Mapping[str, Any]) -> None:
    """Copy the weights of `nn.Transformer.state_dict()` into `model`, which keeps its dtype, embeddings and output.

    A narrower dtype is widened, which is exact; a wider one is refused. From the state of a module that holds the
    nn.Transformer as `core`, take `{n.removeprefix("core."): a for n, a in state.items() if n.startswith("core.")}`.

    Raises ValueError that lists every name that does not fit, TypeError for what is no floating array.
    """
    arrays, stacks = _arrays("state", state), _transformer_stacks(model)
    dtype = model.params.flat.dtype
    got = {n: (a.shape, dtype if np.can_cast(a.dtype, dtype) else a.dtype) for n, a in arrays.items()}
    final = model.config.has_final_norm
    hint = "" if final else " (this model has no final norms; nn.Transformer's ask for final_norm=True)"
    _check("state", got, _stacked_shapes(model.params.shapes, stacks), dtype, hint)
    for name, part in _unstack(arrays, stacks):
        model.params[name] = part


def dump_transformer(model: Transformer) -> dict[str, Array]:
    """Return the weights of `model` but for embeddings and output, as `nn.Transformer.load_state_dict` wants them.

    Names and shapes are those of the module's table; each array is a C-contiguous copy, (out, in). Every model can be
    dumped; ValueError comes from loading alone.
    """
    stacks = _transformer_stacks(model)
    return _stack(model.params, stacks)


def load_multi_head(state: Mapping[str, Any]) -> dict[str, Array]:
    """Return W_Q, W_K, W_V, W_O and, if there are biases, b_Q, b_K, b_V, b_O of `nn.MultiheadAttention.state_dict()`.

    W_Q and W_O (E, E), W_K (kdim, E), W_V (vdim, E), biases (E,). They are arguments of
    `npattn.attention.v7_multi_head.forward`, which projects keys and values from one X and so wants kdim = vdim.

    Raises ValueError that lists every name that does not fit, TypeError for what is no floating array.
    """
    arrays = _arrays("state", state)
    if extra := [name for name in ("bias_k", "bias_v") if name in arrays]:
        raise ValueError(
            f"state: expected add_bias_kv=False, got {' and '.join(extra)}: we have no learned key and value beside X"
        )
    names = SEPARATE if (set(SEPARATE.values()) - set(PACKED.values())) & arrays.keys() else PACKED
    E, dtype = _usual(arrays)
    D_K, D_V = _size(arrays, "k_proj_weight", -1, E), _size(arrays, "v_proj_weight", -1, E)
    shapes = _multi_head_shapes(E, D_K, D_V, biased="in_proj_bias" in arrays or "out_proj.bias" in arrays)
    stacks = _stacks((names[name], name) for name in shapes)
    _check("state", layout_of("state", arrays), _stacked_shapes(shapes, stacks), dtype)
    parts = dict(_unstack(arrays, stacks))
    return {name: np.array(parts[name], order="C") for name in shapes}


def dump_multi_head(params: Mapping[str, Any], packed: bool = True) -> dict[str, Array]:
    """Return the `nn.MultiheadAttention.state_dict()` of W_Q, W_K, W_V, W_O, and of b_Q, b_K, b_V, b_O or none of them.

    `packed=False` gives q_, k_ and v_proj_weight, which PyTorch has exactly when kdim or vdim is not E. W_Q and W_O
    must be (E, E): PyTorch's heads are always E wide together.

    Raises ValueError that lists every name that does not fit, TypeError for what is no floating array.
    """
    arrays, packed = _arrays("params", params), check_flag("packed", packed)
    E, dtype = _usual(arrays)
    D_K, D_V = (E, E) if packed else (_size(arrays, "W_K", 0, E), _size(arrays, "W_V", 0, E))
    shapes = _multi_head_shapes(E, D_K, D_V, biased=any(name.startswith("b_") for name in arrays))
    hint = " (keys and values of another width need packed=False)" if packed else ""
    _check("params", layout_of("params", arrays), shapes, dtype, hint)
    return _stack(arrays, _stacks(((PACKED if packed else SEPARATE)[name], name) for name in shapes))


def _transformer_stacks(model: Transformer) -> Stacks:
    if not isinstance(model, Transformer):
        raise TypeError(f"model: expected a Transformer, got {type(model).__name__}")
    inside = [name for name in model.params if name.startswith(("encoder.", "decoder."))]
    return _stacks((_torch_name(name), name) for name in inside)


def _torch_name(name: str) -> str:
    """Translate word by word: decoder.1.cross_attention.W_Q → decoder.layers.1.multihead_attn.in_proj_weight."""
    side, *number, place, leaf = name.split(".")
    return ".".join([side, *(f"layers.{i}" for i in number), *PLACES[place], LEAVES[leaf]])


def _stacks(names: Iterable[tuple[str, str]]) -> Stacks:
    """Gather our names by PyTorch's; those of one stack must come in the order Q, K, V."""
    stacks: dict[str, list[str]] = {}
    for theirs, ours in names:
        stacks.setdefault(theirs, []).append(ours)
    return stacks


def _multi_head_shapes(E: int, D_K: int, D_V: int, biased: bool) -> Shapes:
    weights: Shapes = {"W_Q": (E, E), "W_K": (D_K, E), "W_V": (D_V, E), "W_O": (E, E)}
    return {**weights, **{f"b_{which}": (E,) for which in "QKVO" if biased}}


def _stacked_shapes(shapes: Shapes, stacks: Stacks) -> Shapes:
    """The shapes that PyTorch's arrays have when ours have `shapes`."""
    transposed = {theirs: shapes[ours[0]][::-1] for theirs, ours in stacks.items()}
    return {theirs: (len(stacks[theirs]) * out, *rest) for theirs, (out, *rest) in transposed.items()}


def _stack(params: Params, stacks: Stacks) -> dict[str, Array]:
    # The transposes are in Fortran order, which np.concatenate would keep.
    return {t: np.ascontiguousarray(np.concatenate([params[n].T for n in names])) for t, names in stacks.items()}


def _unstack(state: Params, stacks: Stacks) -> Iterator[tuple[str, Array]]:
    """Yield our names, each with a view of its part of PyTorch's array."""
    for theirs, ours in stacks.items():
        for name, part in zip(ours, np.split(state[theirs], len(ours)), strict=True):
            yield name, part.T


def _arrays(what: str, values: Mapping[str, Any]) -> dict[str, Array]:
    """Return every value as an array, without a copy where there is one already."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{what}: expected a mapping of names to arrays, got {type(values).__name__}")
    arrays = {}
    for name, value in values.items():
        if isinstance(value, np.ndarray) and not is_array(value):
            raise TypeError(f"{what}: {name!r}: expected a NumPy array, got {kind_of(value)}")
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:   # a tensor on a GPU, in bfloat16, wanting gradients …
            raise TypeError(f"{what}: {name!r}: expected an array, got {type(value).__name__}: {error}") from error
        if array.dtype.kind != "f":
            raise TypeError(f"{what}: {name!r}: expected a floating array, got {array.dtype}")
        arrays[name] = array
    return arrays


def _usual(arrays: Params) -> tuple[int, np.dtype[Any]]:
    """E and the dtype, taken as the most frequent in nn.MultiheadAttention, so that the blame falls on the odd one."""
    sizes, dtypes = [size for a in arrays.values() for size in a.shape], [a.dtype for a in arrays.values()]
    return statistics.mode(sizes or [0]), statistics.mode(dtypes or [np.dtype(np.float32)])


def _size(arrays: Params, name: str, axis: int, default: int) -> int:
    return arrays[name].shape[axis] if name in arrays and arrays[name].ndim == 2 else default


def _check(what: str, got: Layout, shapes: Shapes, dtype: np.dtype[Any], hint: str = "") -> None:
    """Raise a ValueError that lists every difference between what is there and what should be."""
    if wrong := differences(got, {name: (shape, dtype) for name, shape in shapes.items()}):
        raise ValueError(f"{what}: {wrong}{hint}")
