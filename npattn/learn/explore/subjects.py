"""What the explorer can show: versions of attention, layers, layers of the Transformer and a trained model.

The numbers are those of the worked example in the docstring. Changes put other numbers in their place, and switches
change an argument, or what the functions find under the name `sqrt_width`. No function is written a second time.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from npattn import layers
from npattn._internal.checks import Array, shown
from npattn.attention import MODERN_VERSIONS, VERSIONS, dot_product
from npattn.layers.kernels import sqrt_width
from npattn.layers.linear import linear_backward
from npattn.layers.softmax import softmax
from npattn.learn.explore.copies import finding
from npattn.learn.explore.formula import Run
from npattn.learn.trace.run import run, source_function, trace
from npattn.learn.trace.transformer import INSIDE, SMALL, Reading, trace_layer, trace_model, with_sub_layers
from npattn.learn.trace.value import Trace
from npattn.learn.trace.worked_example import worked_example
from npattn.runs.load import load_model
from npattn.runs.prediction import quoted, unknown_symbols
from npattn.runs.trained import TrainedModel
from npattn.transformer import reference
from npattn.transformer.parameters import nested

#: Trained models, and layers of the Transformer.
MODELS, SIDES = ("g2p",), ("encoder_layer", "decoder_layer")

#: Versions that take the scale of the scores as an argument, and those that call `sqrt_width`.
SCALED, ROOTED = ("v8", "v9", "v10", "v11", "v12", "v13", "v14", "attention"), ("v3", "v4", "v5", "v6", "v7")

#: Without a scale, another argument is multiplied: E is linear in it.
FACTORS = {"v1": "w", "v2": "q", "softmax": "E"}

#: The largest number that an argument can be given.
LARGEST = 1e6


class Subject(NamedTuple):
    """Something that the explorer shows.

    - name: v1 … v14, the name of a layer, or that of a trained model.
    - group: version, layer, transformer or model.
    """

    name: str
    group: str


class Case(NamedTuple):
    """A pair, the arguments of forward by name, and the gradient of the loss with respect to the output.

    - forward, backward: functions.
    - named: all arguments, in the order of the signature.
    - dY: None takes the one of `npattn.trace`.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    named: dict[str, Any]
    dY: Any


class Switch(NamedTuple):
    """A switch: its name, its kind, which is flag, number or choice, its value, and what can be chosen."""

    name: str
    kind: str
    value: Any
    choices: tuple[Any, ...] = ()


@functools.cache
def subjects() -> dict[str, Subject]:
    """Return everything that can be shown, by name, in the reading order of the package.

    >>> list(subjects())[:3], subjects()["layer_norm"]
    (['v1', 'v2', 'v3'], Subject(name='layer_norm', group='layer'))
    """
    versions = [Subject(f"v{version.number}", "version") for version in VERSIONS + MODERN_VERSIONS]
    names = [name for name in layers.__all__ if f"{name}_backward" in layers.__all__]
    found = [*versions, *(Subject(name, "layer") for name in [*names, "attention"])]
    found += [Subject(name, "transformer") for name in SIDES] + [Subject(name, "model") for name in MODELS]
    return {subject.name: subject for subject in found}


def find(name: Any) -> Subject:
    """Return a subject by name. Raises ValueError for an unknown one."""
    if not isinstance(name, str) or name not in subjects():
        raise ValueError(f"subject: expected one of {', '.join(subjects())}, got {shown(name)}")
    return subjects()[name]


def pair_of(name: str) -> tuple[FunctionType, FunctionType]:
    """Return the forward and the backward of a version or a layer, without decorators."""
    modules = {f"v{version.number}": version.module for version in VERSIONS + MODERN_VERSIONS}
    if name in modules:
        pair = modules[name].forward, modules[name].backward
    elif name == "attention":
        pair = dot_product.scaled_dot_product_attention, dot_product.scaled_dot_product_attention_backward
    else:
        pair = getattr(layers, name), getattr(layers, f"{name}_backward")
    return source_function(pair[0]), source_function(pair[1])


@functools.cache
def example(name: str) -> Case:
    """Return the worked example of a version or a layer. A mask that it lacks lets everything be read."""
    forward, backward = pair_of(name)
    bound, dY = worked_example(forward, backward)
    bound.apply_defaults()
    named = {each: value.item() if isinstance(value, np.generic) else value for each, value in bound.arguments.items()}
    named |= named.pop("options", {})                         # of mixture_of_experts, which passes them on
    case = Case(forward, backward, named, dY)
    if "mask" in named and named["mask"] is None:
        found = traced(case).trace
        scores = found["E" if "E" in found else "e"].array
        assert scores is not None
        named["mask"] = np.ones(scores.shape[-2:] if "E" in found else scores.shape, bool)
    return case


def traced(case: Case) -> Run:
    """Return the trace of a case. What has fields, such as frequencies, is no array that has a gradient."""
    bound = inspect.signature(case.forward).bind(**copy.deepcopy(case.named))   # a generator draws in the call
    names = list(bound.arguments)[: len(bound.args)]
    n = next((i for i, value in enumerate(bound.args) if hasattr(value, "_fields")), len(names))
    args, kwargs = bound.args[:n], dict(zip(names[n:], bound.args[n:], strict=True)) | bound.kwargs
    call = copy.deepcopy((args, kwargs))
    pair = case.forward, case.backward
    return Run(trace(pair, args, case.dY, kwargs), pair, (), *call, np.asarray(case.dY, np.float64))


@functools.cache
def switches(name: str) -> tuple[Switch, ...]:
    """Return the switches of a version or a layer, as they stand in its example."""
    case, found = example(name), list[Switch]()
    if name in SCALED or name in ROOTED or name in FACTORS:
        found.append(Switch("scale_scores", "number", 1))
    if name in SCALED or name in ROOTED:
        found.append(Switch("no_sqrt_D", "flag", bool(case.named.get("scale") == 1)))
    if case.named.get("mask") is not None:
        found.append(Switch("no_mask", "flag", False))
    heads = tuple(head_counts(case)) if "n_heads" in case.named else ()
    return (*found, *([Switch("heads", "choice", case.named["n_heads"], heads)] if len(heads) > 1 else []))


def head_counts(case: Case) -> list[int]:
    """Return the numbers of heads that forward takes."""
    found = []
    for n in range(1, max(W.shape[1] for W in case.named.values() if getattr(W, "ndim", 0) == 2) + 1):
        with contextlib.suppress(ValueError):
            case.forward(**case.named | {"n_heads": n})
            found.append(n)
    return found


def changed(name: str, numbers: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Any]) -> Case:
    """Return the example of a version or a layer with other numbers and switches.

    - name: which one.
    - numbers: for each argument, and for dY, the new number at each index, such as {"X": {"0,1": 2.5}}.
    - chosen: the switches by name.

    Raises ValueError for what is not there and for what is no number.
    """
    case = example(name)
    known = {switch.name: switch for switch in switches(name)}
    chosen = {each: checked(known, each, value) for each, value in chosen.items()}
    named, dY = dict(case.named), np.asarray(case.dY, np.float64)
    arrays = {each: value for each, value in named.items() if isinstance(value, np.ndarray)} | {"dY": dY}
    arrays |= {each: with_numbers(arrays, each, entries) for each, entries in numbers.items()}
    dY = arrays.pop("dY")
    named, found = with_scale(name, case, named | arrays, chosen)
    if chosen.get("no_mask"):
        named["mask"] = None
        found |= dict.fromkeys({"in_order", "in_window"} & case.forward.__globals__.keys(), everything_seen)
    if "heads" in chosen:
        named["n_heads"] = chosen["heads"]
    forward, backward = (finding(f, f.__globals__ | found) if found else f for f in (case.forward, case.backward))
    return Case(forward, backward, named, dY if "dY" in numbers else case.dY)


def everything_seen(mask: Any, scores: tuple[int, ...], *_: Any) -> Array:
    """Return a mask that hides nothing."""
    return np.ones(scores[-2:], bool)


def checked(known: Mapping[str, Switch], name: str, value: Any) -> Any:
    """Return the value of a switch. Raises ValueError for an unknown switch, or one that can't have this value."""
    if name not in known:
        raise ValueError(f"switches: expected {' or '.join(known) or 'none for this subject'}, got {shown(name)}")
    kind = known[name].kind
    if kind == "number":
        return number_from(f"switches.{name}", value)
    choices = (False, True) if kind == "flag" else known[name].choices
    if isinstance(value, bool) is not (kind == "flag") or value not in choices:
        raise ValueError(f"switches.{name}: expected one of {', '.join(map(str, choices))}, got {shown(value)}")
    return value


def number_from(symbol: str, value: Any) -> float:
    """Return a number. Raises ValueError for anything else, NaN, and what is beyond a million."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value != value or abs(value) == math.inf:
        raise ValueError(f"{symbol}: expected a number, got {shown(value)}")
    if abs(value) > LARGEST:
        raise ValueError(f"{symbol}: expected a number from -1e6 to 1e6, got {shown(value)}")
    return float(value)


def with_numbers(arrays: Mapping[str, Array], name: Any, entries: Any) -> Array:
    """Return a copy of an array with new numbers. Raises ValueError for an unknown array or index, and for no number.

    >>> with_numbers({"X": np.zeros((2, 2))}, "X", {"0,1": 2.5})
    array([[0. , 2.5],
           [0. , 0. ]])
    """
    if name not in arrays or not isinstance(entries, Mapping):
        raise ValueError(f"numbers: expected arrays of {', '.join(arrays)} with their indices, got {shown(name)}")
    array = arrays[name].copy()
    for key, value in entries.items():
        index = index_from(f"numbers.{name}", key.split(",") if isinstance(key, str) else key, array.shape)
        if array.dtype == bool and not isinstance(value, bool):
            raise ValueError(f"numbers.{name}: expected true or false, got {shown(value)}")
        number = value if array.dtype == bool else number_from(f"numbers.{name}", value)
        if array.dtype.kind == "i" and number != int(number):
            raise ValueError(f"numbers.{name}: expected a whole number, got {shown(value)}")
        array[index] = number
    return array


def index_from(symbol: str, parts: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return an index into an array of this shape. Raises ValueError for what is none.

    >>> index_from("X", ["1", "0"], (2, 3))
    (1, 0)
    """
    parts = parts if isinstance(parts, list | tuple) else [parts]
    parts = [] if not shape and [*parts] == [""] else parts
    is_index = len(parts) == len(shape) and all(
        not isinstance(i, bool) and str(i).isdecimal() and str(i).isascii() and int(i) < n
        for i, n in zip(parts, shape, strict=True)
    )
    if not is_index:
        raise ValueError(f"{symbol}: expected an index into {shape}, got {shown(','.join(map(str, parts)))}")
    return tuple(map(int, parts))


def with_scale(
    name: str, case: Case, named: dict[str, Any], chosen: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments for other scores, and what the functions are to find under the name `sqrt_width`."""
    factor, without = chosen.get("scale_scores", 1.0), chosen.get("no_sqrt_D")
    if name in SCALED and (factor != 1 or without is not None):
        scale = named["scale"] if without is None else 1.0 if without else None
        if scale is None:
            _, cache = case.forward(**named | {"scale": None})
            scale = cache.scale if name == "attention" else cache.s
        named = named | {"scale": scale * factor}
    if name in FACTORS:
        named = named | {FACTORS[name]: named[FACTORS[name]] * factor}
    is_other = name in ROOTED and (factor != 1 or without)
    return dict(named), {"sqrt_width": width_over(factor, bool(without))} if is_other else {}


def width_over(factor: float, without: bool) -> Callable[[Array], float]:
    """Return what stands for `sqrt_width`: √D, or 1 in its place, over a factor."""
    return lambda Q: (1.0 if without else sqrt_width(Q)) / factor if factor else math.inf


def changed_layer(name: str, numbers: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Any]) -> Run:
    """Return the trace of a layer of the Transformer with other numbers and switches.

    - name: encoder_layer or decoder_layer.
    - numbers, chosen: as in `changed`. The parameters have dotted names, such as self_attention.W_Q.

    Raises ValueError for what is not there and for what is no number.
    """
    known = {switch.name: switch for switch in layer_switches()}
    chosen = {each: checked(known, each, value) for each, value in chosen.items()}
    side: Any = name.removesuffix("_layer")
    norm, n_heads = chosen.get("norm", "post"), chosen.get("heads", SMALL.n_heads)
    config = replace(SMALL, norm=norm, n_heads=n_heads)
    first, drawn = f"{side}.0.", layer_example(side)
    own = [path.removeprefix(first) for path in config.shapes() if path.startswith(first)]
    given = [each for each in ("X", "M", "seen", "pads") if each in drawn]
    named: dict[str, Any] = {each: drawn[each].array for each in [*given, *own]}
    output = next(reversed([each for each in drawn if each[:1] == "X"]))
    named["dY"] = drawn[output].gradient
    named |= {each: with_numbers(named, each, entries) for each, entries in numbers.items()}
    if chosen.get("no_mask"):
        named |= {each: np.ones_like(named[each]) for each in given if named[each].dtype == bool}
    masks = [each for each in given if named[each].dtype == bool]
    inputs = [each for each in given if each not in masks]
    p = nested({path: named[path] for path in own})
    args = (*(named[each] for each in inputs), p, *(named[each] for each in masks), config, None)
    pair = source_function(getattr(reference, name)), source_function(getattr(reference, f"{name}_backward"))
    kept = (0, 1, 2) if "M" in inputs else (0, 2)             # the encoder has no M
    inside = [source_function(function) for function in INSIDE]
    found = run(*pair, inside, args, None, named["dY"], select=lambda returned: [returned[i] for i in kept])
    return Run(with_sub_layers(found), pair, inside, args, {}, named["dY"])


@functools.cache
def model_named(name: str) -> TrainedModel:
    return load_model(name)


def read(name: str, word: Any, target: Any) -> tuple[Run, Reading]:
    """Return how a trained model reads a word, and the call of its trace.

    - name: of the model.
    - word: what it reads.
    - target: what it is to write; None takes what it would write.

    Raises ValueError for what is no text, and for letters and symbols that it does not know.
    """
    model = model_named(name)
    codec = model.codec
    for symbol, text in (("word", word), ("target", target)):
        if not isinstance(text, str) and not (symbol == "target" and text is None):
            raise ValueError(f"{symbol}: expected a text, got {shown(text)}")
    unknown = unknown_symbols(codec, [word])
    if unknown:
        raise ValueError(f"word: expected letters that the model knows, got {quoted(unknown)}")
    unknown = [each for each in codec.tokenize_target(target or "") if each not in codec.target_vocabulary]
    if unknown:
        raise ValueError(f"target: expected symbols that the model knows, got {quoted(unknown)}")
    reading = trace_model(model, word, target)
    found, params = reading.trace, {n: array.astype(np.float64) for n, array in model.transformer.params.items()}
    args = (params, found["src"].array, found["tgt"].array, model.transformer.config)
    pair = source_function(reference.forward), source_function(reference.backward)
    inside = [source_function(function) for function in INSIDE]
    return Run(found, pair, inside, args, {}, found.dlogits), reading


def likeliest(name: str, reading: Reading, n: int) -> list[dict[str, Any]]:
    """Return for each symbol of the target the n likeliest symbols there."""
    P, vocabulary = softmax(reading.trace.logits[0]), model_named(name).codec.target_vocabulary
    names = vocabulary.decode(range(len(vocabulary)))
    return [
        {"symbol": symbol, "next": [{"symbol": names[i], "p": float(p[i])} for i in np.argsort(-p, stable=True)[:n]]}
        for symbol, p in zip(reading.target, P, strict=True)
    ]


def leans(run: Run) -> list[list[float]]:
    """Return for each symbol of the target the size of the gradient of its log-probability at each source symbol."""
    params, src, tgt, config = run.args
    n = tgt.shape[1]
    _, cache = reference.forward(params, src.repeat(n, 0), tgt.repeat(n, 0), config)   # a row for each symbol
    _, c_M, _, c_Y, c_logits = cache.parts
    dlogits = np.zeros((n, *run.dY.shape[1:]))
    each = np.arange(n)
    dlogits[each, each] = -run.dY[0]                          # the loss is −log P
    dY, _, _ = linear_backward(dlogits, c_logits)
    _, dM, _ = reference.run_layers_backward(dY, c_Y, reference.decoder_layer_backward)
    dS, _, _ = reference.run_layers_backward(dM, c_M, reference.encoder_layer_backward)
    return np.linalg.norm(dS, axis=-1).tolist()


@functools.cache
def layer_example(side: Any) -> Trace:
    return trace_layer(side)


def layer_switches() -> tuple[Switch, ...]:
    """Return the switches of the layers of the Transformer."""
    return (
        Switch("no_mask", "flag", False),
        Switch("heads", "choice", SMALL.n_heads, (1, 2, 4)),
        Switch("norm", "choice", "post", ("post", "pre")),
    )
