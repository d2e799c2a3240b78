"""Run a forward and its backward with a `Recorder`, and set each matrix beside its gradient.

Names join them: the gradient of E is what backward calls dE. Where a name is assigned several times, backward goes
through its values in the opposite order. `+=` adds a term to a gradient. Another change in place makes another
quantity, as `dE /= √D_Q` does, unless backward returns it under this name.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np

from npattn._internal.checks import Array, Shapes, check_cotangent, shown
from npattn.gradcheck.numeric import COMPLEX_STEP
from npattn.gradcheck.pair import PairUnderTest, argument_names
from npattn.gradcheck.slots import Misaligned
from npattn.gradcheck.trees import numbers, ravel
from npattn.learn.trace.recorder import (
    ADDED,
    ARGUMENT,
    CHANGED,
    FILLED,
    RETURNED,
    Call,
    Recorder,
    Step,
    dotted,
    parsed,
    returned_names,
)
from npattn.learn.trace.text import SHAPE
from npattn.learn.trace.value import Trace, Value


def trace(
    pair: Any,
    args: Sequence[Any],
    dY: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    inside: Iterable[Callable[..., Any]] = (),
) -> Trace:
    """Run a forward and its backward, and return every matrix beside its gradient: a `npattn.learn.trace.Trace`.

    Names join the two: the gradient of E is what backward calls dE.

    - pair: a module with `forward` and `backward`, or (forward, backward), as `npattn.check_gradients` takes them. A
      forward may also return y alone; then y is the cache.
    - args: the arguments of forward. The floating arrays in them have gradients.
    - dY: the gradient of the loss with respect to the output: the loss is L = Σ dY ⊙ Y. None takes 1 for a single
      number, and otherwise whole numbers from −2 to 2 without 0, in each call the same.
    - kwargs: the keyword arguments of forward.
    - inside: functions that are traced too where forward and backward call them. Each call is a part of the trace. The
      backward of f must be f_backward.

    The functions run from their source, statement by statement, without decorators. Raises TypeError and ValueError for
    arguments that don't fit, naming them, and for functions without source; and what the functions raise.

    >>> from npattn.attention import v4_multiple_queries
    >>> Q, X = np.array([[0.0, 2 * np.log(3), 0.0, 0.0]]), np.array([[4.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    >>> found = trace(v4_multiple_queries, (Q, X), dY=np.array([[1.0, 0.0, 0.0, 0.0]]))
    >>> found
    <Trace of npattn.attention.v4_multiple_queries.forward: Q X E E (2) A Y>
    >>> found.A, found.dA, found.dE
    (array([[0.25, 0.75]]), array([[4., 0.]]), array([[ 0.75, -0.75]]))
    >>> found["E"].gradient_lines[0].code, found["E (2)"].gradient_lines[0].code
    ('dE = softmax_backward(dA, A)', 'dE /= sqrt_width(Q)')
    >>> found.derivative("E").round(12)                        # by the complex step, without backward
    array([[ 0.75, -0.75]])
    """
    forward, backward = functions_of(pair)
    found = [source_function(function) for function in (forward, backward, *inside)]
    return run(found[0], found[1], found[2:], args, kwargs, dY)


def run(
    forward: FunctionType,
    backward: FunctionType,
    inside: Sequence[FunctionType],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    dY: Any = None,
    select: Callable[..., Any] = lambda returned: returned,
) -> Trace:
    """Return the trace, see `trace`. `select` takes what backward returns and gives the gradients of the arguments."""
    recorder = Recorder(inside)
    traced_forward, traced_backward = recorder.traced(forward), recorder.traced(backward)
    pair = PairUnderTest(
        lambda *args, **kwargs: with_cache(traced_forward(*args, **kwargs)),
        lambda dY, cache: select(traced_backward(dY, cache)),
        args,
        kwargs,
        names=argument_names(forward, len(args)) if isinstance(args, tuple | list) else None,
    )
    names = leaf_names(pair)
    recorder.names.update((id(leaf), name) for leaf, name in zip(pair.leaves, names, strict=True))
    calls = recorder.calls
    with np.errstate(under="ignore"):
        y, cache = pair.run()
        if not numbers(y):
            raise TypeError(f"forward: expected floating numbers in the output, got {type(y).__name__} without any")
        n, weights = len(calls), output_weights(y, dY)        # the first n calls are those of forward
        try:
            gradients = pair.gradients(y, cache, weights)
        except Misaligned as error:
            raise ValueError(str(error)) from None

    leaves = [leaf.astype(np.complex128) for leaf in pair.leaves]   # copies: the caller may change the arrays later
    lock = threading.Lock()                                   # the recorder keeps what it adds where

    def slope(place: int, direction: Array) -> float:
        values = leaves.copy()
        step = 1j * COMPLEX_STEP * direction
        if place < 0:                                         # an argument
            values[place] = values[place] + step
        try:
            with lock, np.errstate(all="ignore"):
                recorder.prepare({place: step})
                return float(weights @ pair.output(values).imag) / COMPLEX_STEP
        except Exception as error:                            # of a forward that may be the user's own
            raise ValueError(f"pair: expected a forward that takes complex numbers: {error}") from error

    size = float(np.abs(weights * ravel(y)).sum())            # real numbers: abs is safe here
    whole = Trace(title_of(forward), values_of(calls[0], calls[n]), steps_of(calls), slope, size)
    owners: dict[str, Call] = {}
    for call in calls[1:n]:
        path = free_path(call, owners)
        owners[path] = call
        back = next((other for other in calls[n:] if other.is_backward_of(call)), None)
        whole.parts[path] = Trace(title_of(call.function), values_of(call, back), steps_of([call]), slope, size)
    end = tuple(step.line for step in calls[n].steps if step.how == RETURNED and step.line)
    written = formulas(docstring_of(forward))
    for i in reversed(range(len(names))):                     # each is put before those that are there
        formula = written.get(f"d{names[i]}", "")
        leaf = Value(names[i], pair.leaves[i].copy(), gradients[i], (), (), end, "", formula, i - len(names))
        whole.add_argument(leaf)
    return whole


def functions_of(pair: Any) -> tuple[Any, Any]:
    """Return forward and backward. Raises TypeError for what is no pair of functions."""
    found = pair if isinstance(pair, tuple) else (getattr(pair, "forward", None), getattr(pair, "backward", None))
    if len(found) != 2 or not all(map(callable, found)):
        raise TypeError(f"pair: expected a module with forward and backward, or (forward, backward), got {shown(pair)}")
    return found


def source_function(function: Any) -> FunctionType:
    """Return a function without decorators. Raises TypeError or ValueError for one that has no source in Python."""
    original = inspect.unwrap(function) if callable(function) else function
    if not isinstance(original, FunctionType):
        raise TypeError(f"pair, inside: expected functions written in Python, no methods, got {shown(function)}")
    parsed(original)
    return original


def with_cache(result: Any) -> tuple[Any, Any]:
    """Return y and a cache: y itself for a forward that returns y alone, as softmax does."""
    return result if isinstance(result, tuple) else (result, result)


def leaf_names(pair: PairUnderTest) -> list[str]:
    """Return the names of the leaves, with dots. If one argument alone is a mapping, its keys need no prefix."""
    mappings = [f"{name}." for name, tree in pair.named if isinstance(tree, Mapping)]
    return [dotted(name).removeprefix(mappings[0] if len(mappings) == 1 else "") for name in pair.names]


def output_weights(y: Any, dY: Any) -> Array:
    """Return the numbers of dY, or raise an error that names dY. None is replaced."""
    n = len(ravel(y))
    if dY is None:
        return np.random.default_rng(0).choice([-2.0, -1.0, 1.0, 2.0], n) if n != 1 else np.ones(1)
    if isinstance(y, np.ndarray):
        dY = np.asarray(dY, y.dtype) if isinstance(dY, int | float) else dY
        check_cotangent("dY", dY, y.shape, y.dtype)
    if len(ravel(dY)) != n:
        raise ValueError(f"dY: expected {n} numbers like the output, got {len(ravel(dY))}")
    return ravel(dY)


def title_of(function: FunctionType) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def steps_of(calls: Sequence[Call]) -> list[Step]:
    """Return the steps of calls in the order in which they were taken, without arguments."""
    return sorted((step for call in calls for step in call.steps if step.line), key=lambda step: step.place)


def free_path(call: Call, owners: Mapping[str, Call]) -> str:
    """Return the path of a call; with a number if it is that of an earlier call which this one is not inside."""
    path, number = call.path, 1
    while path in owners and not call.is_inside(owners[path]):
        number += 1
        path = f"{call.path} ({number})"
    return path


Versions: TypeAlias = dict[str, list[list[Step]]]

#: The sections of a docstring that have the formulas of what is traced.
SECTIONS = ("Forward", "Backward")


def versions(steps: Iterable[Step], merged: Callable[[str], bool]) -> Versions:
    """Return the values that each name had, each as the steps that made it."""
    found: Versions = {}
    for step in steps:
        groups = found.setdefault(step.name, [])
        if groups and (step.how in (ADDED, FILLED) or (step.how == CHANGED and merged(step.name))):
            groups[-1].append(step)
        else:
            groups.append([step])
    return found


def values_of(call: Call, back: Call | None) -> Iterator[Value]:
    """Yield the values of a call of forward, each with the gradient that the call of its backward has for it."""
    returned = returned_names(back.function) if back else set()
    first = next(iter(inspect.signature(back.function).parameters)) if back else "d"
    output = first[1:] if first[0] == "d" else "y"            # the output is Y if backward takes dY
    steps = [step._replace(name=f"d{output}") if step.name == first else step for step in back.steps] if back else []
    gradients = versions(steps, lambda name: name in returned)
    written = formulas(docstring_of(call.function))
    sizes = dict[str, int]()                                  # of the axes of arguments, by their symbols
    for step in [step for step in call.steps if step.how == ARGUMENT]:
        axes = axes_of(step.name, call.function, [])
        found_sizes = zip(axes[::-1], step.array.shape[::-1], strict=False)
        sizes |= {axis: n for axis, n in found_sizes if n != 1}   # one of 1 may be broadcast, as in a mask
    for name, groups in versions(with_output(call, output), lambda name: True).items():
        found = gradients.pop(f"d{name}", [])
        is_argument = groups[0][0].how == ARGUMENT            # its gradient is complete where backward returns it
        beside = [found.pop() if f"d{name}" in returned and found else []] if is_argument else []
        later = groups[len(beside) :]
        is_clear = len(found) >= len(later)                   # else only equal shapes tell which value it belongs to
        for k in reversed(range(len(later))):
            fits = k < len(found) and (is_clear or found[k][-1].array.shape == later[~k][-1].array.shape)
            beside.append(found[k] if fits else [])
        rest = [group for group in found if not any(group is other for other in beside)]
        pairs = [*zip(groups, beside, strict=True), *(([], group) for group in rest)]
        axes = axes_of(name, call.function, groups[0])
        yield from (value_of(name, number, axes, sizes, written, *pair) for number, pair in enumerate(pairs, 1))
    for name, groups in gradients.items():
        if name[:1] == "d" and name[1:] and groups[0][0].array.dtype.kind == "f":
            axes = axes_of(name, call.function, groups[0]) or axes_of(name[1:], call.function, [])
            pairs = [([], group) for group in groups]
            yield from (value_of(name[1:], number, axes, sizes, written, *pair) for number, pair in enumerate(pairs, 1))


def value_of(
    name: str,
    number: int,
    axes: tuple[str, ...],
    sizes: Mapping[str, int],
    written: Mapping[str, str],
    forward: list[Step],
    backward: list[Step],
) -> Value:
    """Return a value and its gradient, made by these steps of forward and backward.

    It has no symbols of axes if it has too few axes for them, or one of another size than in the arguments: a name can
    hold an array in another layout before it holds the one that is declared.
    """
    shape = (forward or backward)[-1].array.shape
    fits = len(axes) <= len(shape) and all(sizes.get(a, n) == n for a, n in zip(axes[::-1], shape[::-1], strict=False))
    return Value(
        name if number == 1 else f"{name} ({number})",
        forward[-1].array if forward else None,
        backward[-1].array if backward else None,
        axes if fits else (),
        tuple(step.line for step in forward if step.line),
        tuple(step.line for step in backward if step.line),
        written.get(name, "") if number == 1 and forward and forward[0].line else "",
        written.get(f"d{name}", "") if number == 1 and backward and backward[0].line else "",
        forward[-1].place if forward else 0,
    )


def with_output(call: Call, name: str) -> list[Step]:
    """Return the steps of forward, with its output under this name."""
    steps = [step for step in call.steps if step.how != RETURNED]
    for output in [step for step in call.steps if step.how == RETURNED][-1:] if name else []:
        last = next((step.array for step in reversed(steps) if step.name == name), None)
        is_named = last is not None and np.array_equal(last, output.array, equal_nan=True)
        steps.append(output._replace(name=name, how=FILLED, line=None if is_named else output.line))
    return steps


def axes_of(name: str, function: FunctionType, steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the symbols of the axes, from the declaration of the shapes or from the comment behind the code."""
    declared = function.__globals__.get("SHAPES")
    axes: Sequence[str] = declared.axes.get(name, ()) if isinstance(declared, Shapes) else ()
    for line in [step.line for step in steps if step.line]:
        names = line.code.partition(" = ")[0].split(", ")
        shapes = re.match(rf"{SHAPE}(?:, {SHAPE})*", line.comment)
        written = re.findall(SHAPE, shapes[0]) if shapes else []
        if not axes and name in names and len(names) == len(written):
            axes = written[names.index(name)].strip("()").replace(",", " ").split()
    return tuple(axis for axis in axes if axis != "…")


def docstring_of(function: FunctionType) -> str:
    """Return the docstring of a function's module; from the source under `python -OO`, which keeps none."""
    found = function.__globals__.get("__doc__")
    with contextlib.suppress(OSError, TypeError, SyntaxError, KeyError):   # no source, or run without a module
        found = found or ast.get_docstring(ast.parse(inspect.getsource(sys.modules[function.__module__])))
    return found or ""


def formulas(docstring: str) -> dict[str, str]:
    """Return the formulas of a docstring by the letter on their left, if it is used once, in npattn.attention's layout.

    Of a docstring with sections, those of Forward and Backward count: others have another way to compute the same. A
    formula with "or" in it says two things, so it counts as two.

    >>> formulas("    V = X W_V      values\\n    A = softmax(E)    dE = A ⊙ dA,  dX = dV: …\\n    K = X    dX += dK")
    {'V': 'V = X W_V', 'A': 'A = softmax(E)', 'dE': 'dE = A ⊙ dA', 'dX': 'dX = dV,  dX += dK', 'K': 'K = X'}
    """
    found: dict[str, dict[str, None]] = {}
    text, *sections = re.split(r"^\*\*([^*]+)\*\*", docstring, flags=re.MULTILINE)
    text += "".join(body for name, body in zip(sections[::2], sections[1::2], strict=True) if name in SECTIONS)
    for line in re.findall(r"^    (.*)", text, re.MULTILINE):
        line = re.sub(r"  +or  +", " or ", line)
        for name, sign, rest in re.findall(r"(?:^|  |: )(\w+) (\+?=) (\S.*?)(?=,?  |: |$)", line):
            found.setdefault(name, {})[f"{name} {sign} {rest}"] = None
    once = {name: [*each] for name, each in found.items() if sum((" = " in f) + (" or " in f) for f in each) == 1}
    return {name: ",  ".join(each) for name, each in once.items()}
