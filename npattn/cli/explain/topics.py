"""The topics of the package, each with its derivation and the code that carries it out, as they stand in the source.

Nothing is written here a second time: the derivation is the module's docstring, the code is read by `inspect`, so that
what is explained is what runs.

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
from types import ModuleType
from typing import Any, NamedTuple

from npattn import layers
from npattn.attention import VERSIONS

#: The sections that a doctest may stand in.
EXAMPLES = ("By hand", "Example")


class Topic(NamedTuple):
    """What can be explained: a module, and those of its functions that are the topic, a forward before its backward."""

    name: str
    module: ModuleType
    members: tuple[Callable[..., Any], ...]


#: Modules and members of the topics that are neither versions nor layers.
OTHERS = {
    "attention": ("attention.dot_product", "scaled_dot_product_attention", "scaled_dot_product_attention_backward"),
    "tiled_attention": ("attention.tiled.attention", "tiled_attention", "tiled_attention_backward"),
    "causal_mask": ("attention.masks", "causal_mask"),
    "padding_mask": ("attention.masks", "padding_mask"),
    "positions": ("layers.positions", "sinusoidal_positions"),
    "transformer": ("transformer.reference", "forward", "backward", "embed", "embed_backward", "run_layers",
                    "run_layers_backward", "encoder_layer", "encoder_layer_backward", "decoder_layer",
                    "decoder_layer_backward", "sub_layer", "sub_layer_backward", "attention", "attention_backward",
                    "self_attention_backward", "feed_forward", "feed_forward_backward"),
    "greedy_search": ("decoding.greedy", "greedy_search", "_greedy"),
    "beam_search": ("decoding.beam", "beam_search", "_beam"),
    "adam": ("optim.adam", "Adam", "Adam.step", "_update"),
    "clip_gradients": ("optim.clipping", "clip_gradients"),
    "rates": ("optim.rates", "noam_rate", "linear_rate", "cosine_rate"),
    "check_gradients": ("gradcheck", "check_gradients"),
}  # fmt: skip

#: Other names that people may look for.
ALIASES = {
    "scaled_dot_product_attention": "attention", "core": "attention", "tiled": "tiled_attention",
    "flash_attention": "tiled_attention", "sinusoidal_positions": "positions", "noam_rate": "rates",
    "linear_rate": "rates", "cosine_rate": "rates", "clipping": "clip_gradients", "gradcheck": "check_gradients",
    "masks": "padding_mask", "encoder_layer": "transformer", "decoder_layer": "transformer",
    "feed_forward": "transformer", "residual": "transformer", "reference": "transformer", "blocks": "transformer",
}  # fmt: skip


def topics() -> dict[str, Topic]:
    """Return all topics by name, in the order in which the package is read."""
    found = [
        Topic(f"v{number}", version.module, (version.module.forward, version.module.backward))
        for number, version in enumerate(VERSIONS, 1)
    ]
    for name in layers.__all__:
        if not name.endswith("_backward"):
            pair = getattr(layers, name), getattr(layers, f"{name}_backward")
            found.append(Topic(name, importlib.import_module(pair[0].__module__), pair))
    for name, (path, *members) in OTHERS.items():
        module = importlib.import_module(f"npattn.{path}")
        found.append(Topic(name, module, tuple(_member(module, member) for member in members)))
    return {topic.name: topic for topic in found}


def names() -> dict[str, str]:
    """Return every name that is understood, with the topic it stands for."""
    known = {name: name for name in topics()} | ALIASES
    for number, version in enumerate(VERSIONS, 1):
        module = version.module.__name__.rpartition(".")[2]
        known |= {module: f"v{number}", module.partition("_")[2]: f"v{number}"}
    return known


def find_topic(name: str) -> Topic:
    """Return the topic of that name, in any case, with dashes or underscores. Raises KeyError when there is none."""
    return topics()[names()[re.sub(r"[-\s]", "_", name.strip().lower())]]


def sections(topic: Topic) -> list[tuple[str, str]]:
    """Return the module's docstring in sections, (name, text); the first is the title, its name empty.

    A section begins with its name in bold; the doctest that ends the docstring is the section "By hand" or "Example".
    """
    parts = [("", "")]
    for block in re.split(r"\n\s*\n", inspect.getdoc(topic.module) or ""):
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


def shapes(topic: Topic) -> str:
    """Return the shapes that the module declares; nothing where it declares none."""
    return str(getattr(topic.module, "SHAPES", ""))


def code_of(member: Callable[..., Any]) -> str:
    """Return the source of a function without its docstring, which `summary_of` returns; nothing for a class."""
    return "" if inspect.isclass(member) else without_docstrings(textwrap.dedent(inspect.getsource(member)))


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


def summary_of(member: Callable[..., Any]) -> str:
    """Return the docstring of a function or class, empty when there is none."""
    return inspect.getdoc(member) or ""


def _member(module: ModuleType, path: str) -> Callable[..., Any]:
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name)
    return value
