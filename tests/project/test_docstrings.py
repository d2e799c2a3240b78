"""Every public name names its parameters, says what shapes it takes and what it raises, and shows a call that is run.

Where a module teaches one subject (a version of attention, a layer), its own docstring may say it for the functions in
it: that is where **Raises** and the worked example stand. Shapes come from the declaration, see `Shapes`.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from types import FunctionType
from typing import Any

import pytest

import npattn
from npattn._internal.checks import Shapes

VERSIONS = [
    version.module.__name__ for version in (*npattn.attention.VERSIONS, *npattn.attention.MODERN_VERSIONS)
]

MODULES = (
    "npattn", *VERSIONS, "npattn.attention", "npattn.transformer.reference", "npattn.language_model.reference",
    "npattn.language_model", "npattn.hf_weights", "npattn._internal.files.checkpoint",
    "npattn.gradcheck", "npattn.layers", "npattn.optim", "npattn.runs",
    "npattn.plot", "npattn.tasks", "npattn.torch_weights", "npattn.transformer", "npattn.decoding",
)  # fmt: skip

#: Modules with a derivation, and so with all the sections.
LESSONS = sorted(
    {*VERSIONS, "npattn.attention.dot_product", "npattn.attention.tiled.attention",
     "npattn.attention.masks", "npattn.layers.positions",
     "npattn.optim.adam", "npattn.optim.clipping", "npattn.transformer.reference",
     "npattn.language_model.reference"}
    | {getattr(npattn.layers, name).__module__ for name in npattn.layers.__all__}
)  # fmt: skip

#: Names without an example, and why.
NO_EXAMPLE = {
    "keep_memory": "it changes a setting of the whole process, and what it returns depends on the system",
    "return_memory": "the same",
    "Task": "load_task makes it, from a dozen fields",
    "load_g2p": "it reads a dictionary of 135,000 entries, which takes a second; build_task, beside it, has one",
}

GREEK = {"gamma": "γ", "beta": "β"}
ERROR = re.compile(r"\b[A-Z]\w*Error\b")
#: A shape as the docstrings write it: (N, D), (…, D_X), (D,), or in words.
SHAPE = r"(?:\([^()]*(?:…|,|[A-Z]|\bn\b)[^()]*\)|any shape|broadcast|as [A-Z]|like|scalar|nested|names? to)"


def public() -> Iterator[tuple[str, Any]]:
    """Yield every public function and class once, by its dotted name."""
    seen: set[int] = set()
    for path in MODULES:
        module = importlib.import_module(path)
        for name in getattr(module, "__all__", ("forward", "backward")):
            value = getattr(module, name)
            if callable(value) and getattr(value, "__module__", "").startswith("npattn") and id(value) not in seen:
                seen.add(id(value))
                yield f"{path}.{name}".removeprefix("npattn."), value


PUBLIC = dict(public())
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
METHODS = {
    f"{name}.{key}": inspect.unwrap(getattr(value, key))
    for name, value in CLASSES.items()
    for key, member in vars(value).items()
    if not key.startswith("_") and isinstance(member, FunctionType | classmethod)
}
OWNERS = {f"{name}.{key}": value for name, value in CLASSES.items() for key in vars(value)}


def text_of(name: str, value: Any) -> str:
    """Return the docstring that has to say it: the name's own, its class's, and that of a module that is a lesson."""
    module = inspect.getmodule(value)
    assert module is not None
    parts = [value, OWNERS.get(name), module if module.__name__ in LESSONS else None]
    return "\n\n".join(inspect.getdoc(part) or "" for part in parts if part is not None)


def raised(function: Callable[..., Any], seen: set[Any]) -> set[str]:
    """Return the errors that a function raises, itself or through functions of npattn that it calls."""
    function = inspect.unwrap(function)
    if function in seen or not isinstance(function, FunctionType):
        return set()
    seen.add(function)
    errors = own_errors(function)
    for name in function.__code__.co_names:
        called = function.__globals__.get(name)
        if isinstance(called, Shapes):                        # a declaration: its checks raise
            errors |= {"TypeError", "ValueError"}
        if getattr(called, "__module__", "").startswith("npattn") and callable(called):
            errors |= raised(called.__init__ if inspect.isclass(called) else called, seen)  # type: ignore[misc]
    return errors


def own_errors(function: FunctionType) -> set[str]:
    """Return the names of the errors that the code of a function raises; none for one that a decorator wrote."""
    if function.__code__.co_filename.startswith("<"):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raises = (node for node in ast.walk(tree) if isinstance(node, ast.Raise))
    called = (node.exc.func if isinstance(node.exc, ast.Call) else node.exc for node in raises)
    return {node.id for node in called if isinstance(node, ast.Name) and node.id.endswith("Error")}


def array_parameters(function: Callable[..., Any]) -> list[str]:
    """Return the parameters that are arrays, by their annotation."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if re.search(r"(?<![\w\[, ])Array\b", str(p.annotation))]


def says_shape(text: str, name: str) -> bool:
    """Whether the text says the shape of an array: its name, at most a line further on a shape."""
    symbols = {name, GREEK.get(name, name), name.removeprefix("d")} - {""}                  # dZ has the shape of Z
    return any(re.search(rf"(?<!\w){re.escape(s)}(?!\w)[^.]{{0,100}}?{SHAPE}", text) for s in symbols)


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_who_raises_says_so(name: str) -> None:
    function = FUNCTIONS.get(name) or METHODS[name]
    text = text_of(name, function)
    errors = raised(function, set())
    assert not errors or ERROR.search(text), f"{name} may raise {', '.join(sorted(errors))}"
    missing = own_errors(inspect.unwrap(function)) - set(ERROR.findall(text))
    assert not missing, f"{name} raises {', '.join(sorted(missing))}"


@pytest.mark.parametrize("name", CLASSES)
def test_what_construction_raises_is_said_by_the_class(name: str) -> None:
    value = CLASSES[name]
    makers = [vars(value)[key] for key in ("__init__", "__post_init__") if key in vars(value)]
    errors = {error for maker in makers if maker.__module__ == value.__module__ for error in raised(maker, set())}
    assert not errors or ERROR.search(inspect.getdoc(value) or ""), f"{name} may raise {', '.join(sorted(errors))}"


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_arrays_have_shapes(name: str) -> None:
    function = FUNCTIONS.get(name) or METHODS[name]
    text = text_of(name, function)
    silent = [parameter for parameter in array_parameters(function) if not says_shape(text, parameter)]
    assert not silent, f"{name}: no shape of {', '.join(silent)}"
    if "Array" in str(inspect.signature(function).return_annotation):
        assert re.search(SHAPE, text), f"{name}: no shape of what it returns"


@cache
def examples(path: str) -> str:
    """Return the code of all examples in the docstrings of a module."""
    module = importlib.import_module(path)
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == path and callable(value)]
    texts = [inspect.getdoc(documented) or "" for documented in (module, *own)]
    return "".join(example.source for text in texts for example in doctest.DocTestParser().get_examples(text))


def is_made_by_us(value: Any) -> bool:
    """Whether users get the class from a function, whose example shows it: a record, or an error that is raised."""
    return inspect.isclass(value) and (issubclass(value, tuple | Exception) or "Report" in value.__name__)


@pytest.mark.parametrize("name", [n for n, v in PUBLIC.items() if not (is_made_by_us(v) or v.__name__ in NO_EXAMPLE)])
def test_an_example_shows_a_call(name: str) -> None:
    value = PUBLIC[name]
    shown = examples(value.__module__) + examples(f"npattn.{name}".rpartition(".")[0])     # its own module, its folder
    assert re.search(rf"\b{value.__name__}\b", shown), f"{name}: no example"


def unnamed(function: Callable[..., Any], text: str) -> list[str]:
    """Return the parameters that no line ``- name: …`` of the text names; several may share a line."""
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    return [name for name in names if not re.search(rf"^- [^:]*\b{name}\b[^:]*:", text, re.MULTILINE)]


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS, *(n for n, v in CLASSES.items() if not is_made_by_us(v))])
def test_help_names_every_parameter_in_a_line(name: str) -> None:
    value = FUNCTIONS.get(name) or METHODS.get(name) or CLASSES[name]
    missing = unnamed(value, inspect.getdoc(value) or "")
    assert not missing, f"{name}: no line for {', '.join(missing)}"


@pytest.mark.parametrize("path", LESSONS)
def test_a_lesson_has_all_its_sections(path: str) -> None:
    text = inspect.getdoc(importlib.import_module(path)) or ""
    for section in ("Raises", "Source"):
        assert re.search(rf"\*\*{section}\.?\*\*", text), f"{path}: no {section}"
    assert re.search(r"= |←", text), f"{path}: no formula"
    assert examples(path), f"{path}: no example"


def refuse() -> None:
    raise KeyError


def test_the_walk_finds_what_it_looks_for() -> None:
    """The checks can fail: on a function that raises through another, takes an array and says nothing of either."""
    assert len(FUNCTIONS) > 70 and len(CLASSES) > 15 and len(METHODS) > 20
    assert raised(npattn.layers.linear, set()) >= {"TypeError", "ValueError"}
    assert own_errors(raised) == set() and own_errors(refuse) == {"KeyError"}
    assert array_parameters(npattn.layers.layer_norm) == ["X", "gamma", "beta"]
    assert unnamed(npattn.layers.layer_norm, "- X, beta: rows\n- eps: ε") == ["gamma"]
    assert says_shape("X, Y (…, D), γ (D,), β (D,) or None", "gamma")
    assert not says_shape("Return the norm of X.", "X")
    assert not says_shape("Return X. It makes a tuple (once).", "X")


def test_every_exception_names_something_public() -> None:
    assert set(NO_EXAMPLE) <= {value.__name__ for value in PUBLIC.values()}
