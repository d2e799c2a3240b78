"""The topics of the package: each has a derivation and the code that computes it, as they stand in the source.

Nothing is written a second time here. The derivation is the module's docstring and `inspect` reads the code, so the
code that is explained is the code that runs.

>>> topic = find_topic("layer-norm")
>>> topic.module.__name__, [member.__name__ for member in topic.members]
('npattn.layers.layer_norm', ['layer_norm', 'layer_norm_backward'])
>>> print(code_of(topic.members[1]).splitlines()[0])
def layer_norm_backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array | None]:
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable
from operator import attrgetter
from types import ModuleType
from typing import Any, NamedTuple

from npattn import layers
from npattn._internal.checks import Shapes
from npattn.attention import MODERN_VERSIONS, VERSIONS

LADDER = VERSIONS + MODERN_VERSIONS

#: Sections that hold a doctest. They come last in a docstring.
EXAMPLES = ("By hand", "Example")


class Topic(NamedTuple):
    """A module and the functions in it that the topic covers, a forward before its backward."""

    name: str
    module: ModuleType
    members: tuple[Callable[..., Any], ...]


#: Modules and members of the topics that are neither versions nor layers.
OTHERS: dict[str, tuple[str, ...]] = {
    "attention": ("npattn.attention.dot_product", "scaled_dot_product_attention",
                  "scaled_dot_product_attention_backward"),
    "tiled_attention": ("npattn.attention.tiled.attention", "tiled_attention", "tiled_attention_backward"),
    "causal_mask": ("npattn.attention.masks", "causal_mask"),
    "padding_mask": ("npattn.attention.masks", "padding_mask"),
    "positions": ("npattn.layers.positions", "sinusoidal_positions"),
    "alibi": ("npattn.layers.alibi", "alibi_bias"),
    "rotary_frequencies": ("npattn.layers.rotary_frequencies", "RotaryFrequencies", "rotary_frequencies", "yarn_ramp",
                           "llama_ramp"),
    "transformer": ("npattn.transformer.reference", "forward", "backward", "embed", "embed_backward", "run_layers",
                    "run_layers_backward", "encoder_layer", "encoder_layer_backward", "decoder_layer",
                    "decoder_layer_backward", "sub_layer", "sub_layer_backward", "attention", "attention_backward",
                    "self_attention_backward", "feed_forward", "feed_forward_backward", "normalise",
                    "normalise_backward"),
    "language_model": ("npattn.language_model.reference", "forward", "backward", "embed", "embed_backward", "unembed",
                       "unembed_backward", "layer", "layer_backward", "sub_layer", "sub_layer_backward", "attention",
                       "attention_backward", "heads", "heads_backward", "feed_forward", "feed_forward_backward",
                       "normalise", "normalise_backward"),
    "generate": ("npattn.language_model.generation", "generate"),
    "greedy_search": ("npattn.decoding.greedy", "greedy_search", "_greedy"),
    "beam_search": ("npattn.decoding.beam", "beam_search", "_beam"),
    "adam": ("npattn.optim.adam", "Adam", "Adam.step", "_update"),
    "clip_gradients": ("npattn.optim.clipping", "clip_gradients"),
    "rates": ("npattn.optim.rates", "noam_rate", "linear_rate", "cosine_rate"),
    "check_gradients": ("npattn.gradcheck", "check_gradients", "check_layer"),
}  # fmt: skip

#: Other names of topics.
ALIASES = {
    "scaled_dot_product_attention": "attention", "core": "attention", "additive_attention": "v1",
    "tiled": "tiled_attention", "flash_attention": "tiled_attention", "sinusoidal_positions": "positions",
    "masks": "padding_mask", "loss": "cross_entropy", "encoder_layer": "transformer", "decoder_layer": "transformer",
    "feed_forward": "transformer", "residual": "transformer", "reference": "transformer", "blocks": "transformer",
    "noam_rate": "rates", "linear_rate": "rates", "cosine_rate": "rates", "clipping": "clip_gradients",
    "gradcheck": "check_gradients", "alibi_bias": "alibi", "rope": "rotary", "yarn": "rotary_frequencies",
    "grouped_query_attention": "v10", "multi_query": "v10", "window": "v11", "sinks": "v11",
    "qk_norm": "v12", "softcap": "soft_cap", "gated_feed_forward": "swiglu", "swish": "silu",
    "delta_rule": "v14", "mla": "v13", "linear_attention": "v14", "moe": "mixture_of_experts", "router": "route",
    "llama": "language_model", "gpt": "language_model", "gemma": "language_model", "sampling": "generate",
}  # fmt: skip


def topics() -> dict[str, Topic]:
    """Return all topics by name, in the reading order of the package."""
    versions = {f"v{v.number}": (v.module.__name__, "forward", "backward") for v in LADDER}
    layer_names = [name for name in layers.__all__ if f"{name}_backward" in layers.__all__]
    pairs = {name: (getattr(layers, name).__module__, name, f"{name}_backward") for name in layer_names}
    found = {}
    for name, (path, *members) in (versions | pairs | OTHERS).items():
        module = importlib.import_module(path)
        found[name] = Topic(name, module, tuple(attrgetter(member)(module) for member in members))
    return found


def names() -> dict[str, str]:
    """Return every known name, with the name of its topic."""
    known: dict[str, str] = {}
    for version in LADDER:
        module = version.module.__name__.rpartition(".")[2]
        known |= dict.fromkeys((module, module.partition("_")[2]), f"v{version.number}")
    return known | ALIASES | {name: name for name in topics()}   # rotary is the layer, though version 9 ends so too


def find_topic(name: str) -> Topic:
    """Return the topic of that name, in any case, with dashes or underscores. Raises KeyError for an unknown name."""
    return topics()[names()[_key(name)]]


def is_topic(name: str) -> bool:
    """Return whether `find_topic` finds that name."""
    return _key(name) in names()


def _key(name: str) -> str:
    return re.sub(r"[-\s]", "_", name.strip().lower())


def sections(topic: Topic) -> list[tuple[str, str]]:
    """Return the module's docstring in sections, (name, text); the first is the title, its name empty.

    A section begins with its name in bold. The doctest at the end is the section "By hand" or "Example".
    """
    parts = [("", "")]
    for block in re.split(r"\n\s*\n", docstring_of(topic.module)):
        bold = re.match(r"\*\*([^*]+?)\.?\*\*[.,]?\s*", block)
        if bold:
            parts.append((bold[1], block[bold.end() :]))
        elif block.startswith("By hand: "):
            parts.append(("By hand", block.removeprefix("By hand: ")))
        elif block.startswith(">>>") and parts[-1][0] not in EXAMPLES:
            parts.append(("Example", block))
        else:
            parts[-1] = parts[-1][0], f"{parts[-1][1]}\n\n{block}"
    return [(name, text.strip("\n")) for name, text in parts]


def code_of(member: Callable[..., Any]) -> str:
    """Return the source of a function without its docstring, an empty text for a class."""
    return "" if inspect.isclass(member) else without_docstrings(textwrap.dedent(inspect.getsource(member)))


def called(topic: Topic) -> list[tuple[str, str]]:
    """Return what the code of a topic calls and does not show: each name with the first paragraph of its docstring.

    >>> [name for name, text in called(find_topic("v4"))]
    ['SHAPES.check', '.mT', 'sqrt_width', 'softmax', 'SHAPES.check_backward', 'softmax_backward']
    """
    known = {f"SHAPES.{function.__name__}": function for function in (Shapes.check, Shapes.check_backward)}
    for name, value in vars(topic.module).items():
        if inspect.isfunction(value) and value.__module__.startswith("npattn.") and value not in topic.members:
            known[name] = value
    texts = {name: " ".join(docstring_of(value).partition("\n\n")[0].split()) for name, value in known.items()}
    texts[".mT"] = "NumPy: the last two axes change places."
    code = re.sub("#.*", "", "\n".join(map(code_of, topic.members)))
    names = dict.fromkeys(re.findall(r"(?<![\w.])(?:SHAPES\.)?\w+(?=\()|\.mT\b", code))
    return [(name, texts[name]) for name in names if texts.get(name)]


def without_docstrings(source: str) -> str:
    r"""Return source code without its docstrings.

    >>> without_docstrings("def f(x):\n    'Return x.'\n    return x")
    'def f(x):\n    return x'
    """
    lines = source.splitlines()
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented) and ast.get_docstring(node)]
    for node in sorted(found, key=lambda node: -node.body[0].lineno):
        del lines[node.body[0].lineno - 1 : node.body[0].end_lineno]
    return "\n".join(lines).strip("\n")


def difference(one: Topic, other: Topic) -> list[str]:
    """Return the lines in which the code of two modules differs, docstrings left out, as `diff -u` writes them."""
    a, b = (without_docstrings(inspect.getsource(topic.module)).splitlines() for topic in (one, other))
    return list(difflib.unified_diff(a, b, one.module.__name__, other.module.__name__, lineterm=""))


def docstring_of(member: ModuleType | Callable[..., Any]) -> str:
    """Return the docstring of a module, function or class from its source; empty for none.

    `python -OO` keeps no docstrings in memory, and `npattn._internal.checks.document` adds to some.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(member)))
    node = tree if isinstance(member, ModuleType) else tree.body[0]
    assert isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
    return ast.get_docstring(node) or ""
