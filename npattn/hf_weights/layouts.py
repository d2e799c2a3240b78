"""Hugging Face's names of weights for ours, and their layouts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array, Params
from npattn.language_model import LanguageModelConfig
from npattn.torch_weights.layouts import as_arrays
from npattn.transformer import TransformerConfig

#: Tables of masks and frequencies that older files hold. They are no weights.
BUFFERS = re.compile(r"(.*\.)?(h\.\d+\.attn\.(masked_)?bias|rotary_emb\.inv_freq)")

#: How many bytes are copied at a time, at least one row.
CHUNK = 1 << 18


class Entry(NamedTuple):
    """Our arrays side by side are Hugging Face's arrays side by side, each of these transposed if so marked."""

    ours: list[str]
    theirs: list[str]
    transposed: bool = False


def entries_of(config: LanguageModelConfig) -> list[Entry]:
    """Return what corresponds to what, for every parameter."""
    entries = gpt2_entries(config) if config.positions == "learned" else rotary_entries(config)
    if not config.tie:
        entries.append(Entry(["output.W"], ["lm_head.weight"], True))
    return entries


def gpt2_entries(config: LanguageModelConfig) -> list[Entry]:
    """GPT-2 stores (in, out), as we do, with queries, keys and values in one array."""
    names = {"embedding.W_E": "wte.weight", "embedding.W_P": "wpe.weight", "norm": "ln_f"}
    for i in range(config.n_layers):
        ours, theirs = f"layers.{i}.", f"h.{i}."
        names |= {ours + "attention_norm": theirs + "ln_1", ours + "feed_forward_norm": theirs + "ln_2"}
        names |= {f"{ours}attention.{kind}_O": f"{theirs}attn.c_proj.{word}" for kind, word in KINDS}
        names |= {f"{ours}feed_forward.{kind}_1": f"{theirs}mlp.c_fc.{word}" for kind, word in KINDS}
        names |= {f"{ours}feed_forward.{kind}_2": f"{theirs}mlp.c_proj.{word}" for kind, word in KINDS}
    entries = [Entry([a], [f"transformer.{b}"]) for a, b in with_norms(names)]
    for i, (kind, word) in itertools.product(range(config.n_layers), KINDS):
        stacked = [f"layers.{i}.attention.{kind}_{which}" for which in "QKV"]
        entries.append(Entry(stacked, [f"transformer.h.{i}.attn.c_attn.{word}"]))
    return entries


def rotary_entries(config: LanguageModelConfig) -> list[Entry]:
    """All but GPT-2 store (out, in), with the two halves of a gated layer in two arrays."""
    pre = config.norm_position == "pre"
    norms = {
        "attention_norm": "input_layernorm", "attention_post_norm": "post_attention_layernorm",
        "feed_forward_norm": "post_attention_layernorm" if pre else "pre_feedforward_layernorm",
        "feed_forward_post_norm": "post_feedforward_layernorm",
    }  # fmt: skip
    shapes = config.shapes()
    names = {"embedding.W_E": "embed_tokens.weight", "norm": "norm"}
    entries = []
    for i in range(config.n_layers):
        ours, theirs = f"layers.{i}.", f"layers.{i}."
        names |= {ours + a: theirs + b for a, b in norms.items() if f"{ours}{a}.gamma" in shapes}
        names |= {
            ours + "attention.gamma_Q": theirs + "self_attn.q_norm.weight",
            ours + "attention.gamma_K": theirs + "self_attn.k_norm.weight",
        }
        words = {which: [f"model.{theirs}self_attn.{which.lower()}_proj"] for which in ("Q", "K", "V", "O")}
        entries += projections(f"{ours}attention.", words)
        halves = [f"model.{theirs}mlp.gate_proj", f"model.{theirs}mlp.up_proj"]
        entries += projections(f"{ours}feed_forward.", {"1": halves, "2": [f"model.{theirs}mlp.down_proj"]})
    entries += [Entry([a], [f"model.{b}"]) for a, b in with_norms(names)]
    return [entry for entry in entries if entry.ours[0] in shapes]


def projections(ours: str, theirs: Mapping[str, list[str]]) -> list[Entry]:
    """Return the entries of W and b of some products, which Hugging Face stores as (out, in)."""
    return [
        Entry([f"{ours}{kind}_{which}"], [f"{name}.{word}" for name in names], kind == "W")
        for which, names in theirs.items()
        for kind, word in KINDS
    ]


#: Our word for the kind of a parameter, and Hugging Face's.
KINDS = (("W", "weight"), ("b", "bias"))


def with_norms(names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each pair of names; γ and β of what is called a norm."""
    for ours, theirs in names.items():
        if "norm" in ours:
            yield f"{ours}.gamma", f"{theirs}.weight"
            yield f"{ours}.beta", f"{theirs}.bias"
        else:
            yield ours, theirs


def arrays_of(state: Mapping[str, Any], buffers: re.Pattern[str]) -> tuple[dict[str, Array], Any]:
    """Return the arrays of a state without its buffers, and the dtype of their model: the widest, at least float32."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a mapping of names to arrays, got {type(state).__name__}")
    weights = {name: array for name, array in state.items() if not buffers.fullmatch(str(name))}
    arrays = as_arrays("state", {name: array for name, array in weights.items() if not is_bfloat16(array)})
    dtype = np.result_type(np.float32, *(array.dtype for array in arrays.values()))
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"state: expected no wider dtype than float64, got {dtype}")
    return arrays | {name: array for name, array in weights.items() if is_bfloat16(array)}, dtype


def shapes_of(config: LanguageModelConfig | TransformerConfig, entries: list[Entry]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of Hugging Face's arrays."""
    shapes, found = config.shapes(), dict[str, tuple[int, ...]]()
    for ours, theirs, transposed in entries:
        *rows, _ = shapes[ours[0]]
        width = sum(shapes[name][-1] for name in ours) // len(theirs)
        found |= dict.fromkeys(theirs, (width, *rows) if transposed else (*rows, width))
    return found


def to_theirs(params: Params, entries: list[Entry]) -> dict[str, Array]:
    """Return Hugging Face's arrays, as C-contiguous copies."""
    state = {}
    for ours, theirs, transposed in entries:
        joined = np.concatenate([params[name] for name in ours], -1)
        for name, part in zip(theirs, np.split(joined, len(theirs), -1), strict=True):
            state[name] = np.ascontiguousarray(part.T if transposed else part)
    return state


def nothing() -> None:
    """Do nothing: arrays that are not in a file have no pages to drop."""


def fill(params: Params, state: Params, entries: list[Entry], forget: Callable[[], object] = nothing) -> None:
    """Copy Hugging Face's arrays into ours. Nothing is joined, so that no second copy of a large array is made.

    `forget` is called after each chunk, for a file whose pages would stay in memory.
    """
    for ours, theirs, transposed in entries:
        targets = [params[name] for name in ours]
        sources = [state[name].T if transposed else state[name] for name in theirs]
        if len(sources) > 1:                                  # the two halves of a gated layer
            targets = np.split(targets[0], len(sources), -1)
        if len(targets) > len(sources):                       # GPT-2's queries, keys and values
            ends = np.cumsum([target.shape[-1] for target in targets])
            sources = np.split(sources[0], ends[:-1], -1)
        for target, source in zip(targets, sources, strict=True):
            copy(target, source, forget)


def copy(target: Array, source: Array, forget: Callable[[], object]) -> None:
    """Copy an array into one of the same shape, a few rows of the source at a time. bfloat16 becomes float32."""
    if source.flags.f_contiguous:
        target, source = target.T, source.T                   # rows of the file
    rows = max(CHUNK // source[:1].nbytes, 1)
    for start in range(0, len(source), rows):
        part = source[start : start + rows]
        target[start : start + rows] = widened(part) if is_bfloat16(part) else part
        forget()


def widened(X: Array) -> Array:
    """Return bfloat16 as float32: its bits are the upper half."""
    bits = X.view("<u2").astype("<u4")
    bits <<= 16
    return bits.view("<f4")


def is_bfloat16(value: Any) -> bool:
    """Whether it is an array of bfloat16. NumPy knows none: to it, those of other packages are two bytes each."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "V" and value.dtype.itemsize == 2
