"""Each number of a trace as the formula that gives it, written by running the functions once more with symbols.

After each statement the entries of what it made become symbols of their own, with a name and an index. So a formula
reaches back to the matrices before it and no further. No formula is written by hand, so none can differ from the code.

A name is that of a matrix that the page shows. What has none, such as half a sum or a number inside a called function,
is written out.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.pair import argument_names
from npattn.gradcheck.trees import convert, leaves
from npattn.learn.explore.copies import copied, copy_of, symbolic
from npattn.learn.explore.symbols import MOST, TOP, Number, Symbols, numbers_of, product
from npattn.learn.trace.recorder import ADDED, ARGUMENT, CHANGED, FILLED, RETURNED, Call, Recorder, Step, dotted
from npattn.learn.trace.run import free_path, values_of, with_cache
from npattn.learn.trace.value import Trace

COPYING = threading.Lock()


class Run(NamedTuple):
    """A trace, and the call that it is the trace of.

    - trace: the trace.
    - pair: forward and backward.
    - inside: the functions that were traced inside.
    - args, kwargs: the arguments of forward.
    - dY: the gradient of the loss with respect to the output.
    """

    trace: Trace
    pair: tuple[Any, Any]
    inside: Sequence[FunctionType]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    dY: Array


class Named(NamedTuple):
    """An entry of a matrix: the name, the index, and whether it is of the gradient."""

    name: str
    at: tuple[int, ...]
    is_gradient: bool


class Writer(Recorder):
    """Runs functions with symbols in one part of a model, and with numbers outside it.

    - inside: as for a recorder.
    - part: the path of the part; empty for everything.
    - numbers: what the names held, by place.
    """

    def __init__(self, inside: Sequence[FunctionType], part: str, numbers: Mapping[int, Array]) -> None:
        super().__init__(inside)
        self.part, self.numbers = part, numbers
        self.made: dict[int, Array] = {}                      # the entries by place, before they became symbols
        self.places: dict[int, int] = {}                      # by the id of the array of a step
        self.results: list[Any] = []
        self.returned = set[int]()                            # the places of what is returned
        self.shapes: dict[Any, tuple[int, ...]] = {}
        self._is_inside, self._kept = False, list[Any]()      # ids are those of arrays that are kept

    def traced(self, function: FunctionType) -> Any:
        run = super().traced(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            parent = self._active[-1] if self._active else None
            is_back = any(arg is result[-1] for result in self.results if isinstance(result, tuple) for arg in args)
            if self._is_inside or not (is_back or self._path(function, args, parent) == self.part):
                return run(*args, **kwargs)
            self._is_inside = True
            try:
                result = run(*args, **kwargs)
            finally:
                self._is_inside = False
            self.results.append(result)
            return plain(result) if self.part else result

        return call

    def _path(self, function: FunctionType, args: Sequence[Any], parent: Call | None) -> str:
        """Return what the names of the parameters share, as a recorder does; symbols have names too."""
        for suffix, array in (leaf for argument in args for leaf in leaves(argument)):
            name = self.names.get(id(array), "")
            own = dotted(suffix) or f".{name.rpartition('.')[2]}"
            if isinstance(array, np.ndarray) and name.endswith(own):
                return name.removesuffix(own)
        return "" if parent is None else f"{parent.path}.{function.__name__}".lstrip(".")

    def _after(self, line: int, how: str, name: str, value: Any) -> Any:
        """Note what the entries of a value are made of, and return symbols that stand for them."""
        self._place += 1
        if not self._is_inside:
            return value
        if how == ARGUMENT and isinstance(value, Mapping):
            return convert(value, self._parameter)
        array = value[0] if how == RETURNED and isinstance(value, tuple) and value else value
        if isinstance(array, Number):
            array = symbolic(np.array(array, object))
        is_array = isinstance(array, np.ndarray)
        if is_array and array.size > MOST and (array.dtype == object or how != ARGUMENT):
            return value
        if not is_array or array.dtype != object:
            self._note(line, how, name, array)
            is_float = is_array and array.dtype.kind == "f" and how != RETURNED
            return self._symbols(value, array) if is_float else value
        if how == FILLED and not self._active[-1].has_changed(name, self._numbers(array)):
            return value
        self._note(line, how, name, array)
        if how == RETURNED or any(each is None for each in array.ravel()):
            return value
        self.made[self._place] = np.array(array, object)
        symbols = self._symbols(value, self._numbers(array))
        if how in (ADDED, CHANGED, FILLED) and isinstance(value, np.ndarray) and value.dtype == object:
            value[...] = symbols                              # in place, since other names may hold the same array
            return value
        return symbols if symbols.ndim or isinstance(value, np.ndarray) else symbols[()]

    def _note(self, line: int, how: str, name: str, array: Any) -> None:
        """Record a step, with numbers in place of symbols."""
        if isinstance(array, np.ndarray | np.generic):
            call, made_by = self._active[-1], None if how == ARGUMENT else self._lines[line]
            if how == RETURNED:
                self.made[self._place] = np.array(array, object)
                self.returned.add(self._place)
            if array.dtype == object:
                array = self._numbers(array)
            if how != FILLED or call.has_changed(name, array):
                step = Step(call.path, name, np.array(array), made_by, how, self._place)
                self.places[id(step.array)] = self._place
                call.steps.append(step)

    def _numbers(self, array: Any) -> Array:
        known = self.numbers.get(self._place)
        return known if known is not None and known.shape == array.shape else numbers_of(array)

    def _parameter(self, array: Any) -> Any:
        """Return symbols for a parameter in a mapping. Its name is that of the whole model."""
        name = self.names.get(id(array), "")
        if not name:                                          # of no floating array
            return array
        symbols = self._leaves(name, array)
        self.names[id(symbols)] = name
        return symbols

    def _symbols(self, value: Any, numbers: Array) -> Any:
        """Return symbols for what a name holds at this place. They have the name of a parameter that the value has."""
        symbols = self._leaves(self._place, numbers)
        self.names[id(symbols)] = self.names.get(id(value), "")
        return symbols

    def _leaves(self, place: Any, numbers: Array) -> Any:
        symbols = np.empty(numbers.size, object)
        symbols[:] = [Number("leaf", (place, i), x) for i, x in enumerate(numbers.ravel().tolist())]
        self.shapes[place] = numbers.shape
        self._kept.append(symbols.reshape(numbers.shape).view(Symbols))
        return self._kept[-1]


def plain(result: Any) -> Any:
    """Return what a part returns, with numbers in place of symbols; caches, which are tuples, stay as they are."""
    if isinstance(result, tuple) and not hasattr(result, "_fields"):
        return tuple(each if isinstance(each, tuple) else plain(each) for each in result)
    if isinstance(result, Mapping):
        return {name: plain(each) for name, each in result.items()}
    return numbers_of(result) if isinstance(result, np.ndarray) and result.dtype == object else result


class Formulas:
    """The formulas of what a page shows.

    - run: the trace and its call.
    - part: the path of the part that is shown; empty for the whole.
    """

    def __init__(self, run: Run, part: str) -> None:
        self.trace, self.part = run.trace, part
        with COPYING:                                         # a page may be asked for by several threads
            pair, inside = [*map(copy_of, run.pair)], [copied(function) for function in run.inside]
        self.writer = writer = Writer(inside, part, {step.place: step.array for step in run.trace.steps})
        forward, backward = map(writer.traced, pair)
        names = argument_names(run.pair[0], len(run.args))
        mappings = [f"{name}." for name, tree in zip(names, run.args, strict=True) if isinstance(tree, Mapping)]
        for name, tree in zip(names, run.args, strict=True):
            for suffix, leaf in leaves(tree, name):
                if isinstance(leaf, np.ndarray):
                    writer.names[id(leaf)] = dotted(suffix).removeprefix(mappings[0] if len(mappings) == 1 else "")
        with np.errstate(all="ignore"):
            _, cache = with_cache(forward(*run.args, **run.kwargs))
            n = len(writer.calls)
            backward(run.dY, cache)
        self._name_places(n)
        self._returned = self._by_argument(names)

    def _name_places(self, n: int) -> None:
        """Find which matrix of the page each place is. The first n calls are those of forward."""
        self.names: dict[int, tuple[str, bool]] = {}
        self.aliases: dict[int, int] = {}
        self.found: dict[tuple[str, str, bool], int] = {}
        owners: dict[str, Call] = {}
        for i, call in enumerate(self.writer.calls[:n]):
            path = free_path(call, owners) if i else ""
            owners[path] = call
            later = self.writer.calls[n:]
            back = later[0] if not i else next((other for other in later if other.is_backward_of(call)), None)
            shown = self.trace.parts.get(path, self.trace)
            for value in values_of(call, back):
                for array, is_gradient in ((value.array, False), (value.gradient, True)):
                    if id(array) in self.writer.places and value.name in shown:
                        place = self.writer.places[id(array)]
                        self.found[path, value.name, is_gradient] = place
                        self.names[place] = self._shown(path, value.name), is_gradient

        for place in self.writer.returned & self.names.keys():
            self._find_alias(place)

    def _find_alias(self, place: int) -> None:
        """Let what is returned be one with the earlier statement that made it."""
        entries = self.writer.made.get(place, np.empty(0))
        leaves = [each.parts for each in entries.ravel() if isinstance(each, Number) and each.sign == "leaf"]
        same = leaves[0][0] if leaves else None
        is_whole = leaves == [(same, i) for i in range(entries.size)] and self.writer.shapes.get(same) == entries.shape
        if is_whole and isinstance(same, int) and self.names.get(same, self.names[place]) == self.names[place]:
            self.aliases[place], self.names[same] = same, self.names[place]

    def _shown(self, path: str, name: str) -> str:
        return name if path == self.part else f"{path}.{name}".lstrip(".")

    def _by_argument(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the gradients of the arguments as backward returned them."""
        result = self.writer.results[-1] if len(self.writer.results) > 1 else ()
        slots = result if isinstance(result, tuple) else (result,)
        found = {}
        if not self.part:
            values = {name: self.trace[name].array for name in names if name in self.trace}
            arrays = [name for name, array in values.items() if array is not None and array.dtype.kind == "f"]
            kept = [slot for slot in slots if isinstance(slot, np.ndarray)]
            found = dict(zip(arrays, kept, strict=False))
        for slot in slots:
            if isinstance(slot, Mapping):
                found |= {dotted(name).lstrip("."): leaf for name, leaf in leaves(slot) if isinstance(leaf, np.ndarray)}
        return found

    def number(self, name: str, index: tuple[int, ...], is_gradient: bool) -> Number | None:
        """Return an entry as it was made, or None for one that was given, or made by whole numbers and choices alone.

        Its leaves are entries that the page shows.
        """
        place = self.found.get((self.part, name, is_gradient))
        array = None
        if place is None and is_gradient:
            array = self._returned.get(name)
        elif place is not None:
            array = self.writer.made.get(self.aliases.get(place, place))
        if array is None or array.size > MOST:
            return None
        return self._resolved(array[index], {})

    def _resolved(self, number: Any, done: dict[int, Any]) -> Any:
        """Return a number of which all leaves have names. Other leaves are written out."""
        if not isinstance(number, Number):
            return number
        if id(number) not in done:
            done[id(number)] = number, self._one_resolved(number, done)   # kept, so that no id is used again
        return done[id(number)][1]

    def _one_resolved(self, number: Number, done: dict[int, Any]) -> Any:
        if number.sign != "leaf":
            parts = [self._resolved(part, done) for part in number.terms]
            if number.sign == "·":
                return product(*parts)                        # a factor may be 1/√D now
            return Number(number.sign, parts, number.value)
        place, i = number.parts
        index = tuple(map(int, np.unravel_index(i, self.writer.shapes[place])))
        if isinstance(place, str):
            return Number("leaf", Named(place.removeprefix(f"{self.part}."), index, False), number.value)
        if place in self.names:
            name, is_gradient = self.names[place]
            return Number("leaf", Named(name, index, is_gradient), number.value)
        made_of = self.writer.made.get(place)
        return number.value if made_of is None else self._resolved(made_of[index], done)


def sources(number: Any) -> list[Named]:
    """Return the entries that a number is made of, each once."""
    found, left, seen = dict[Named, None](), [number], set[int]()
    while left:
        each = left.pop()
        if isinstance(each, Number) and id(each) not in seen:
            seen.add(id(each))
            if each.sign == "leaf":
                found[each.parts] = None                      # type: ignore[index]
            else:
                left += reversed(each.terms)
    return list(found)


#: How strongly the parts of a formula hold together; what begins with a minus, the least.
NEGATIVE, SUM, PRODUCT, POWER, ATOM = range(5)

#: The terms of a long sum that are written: so many at its beginning, and the last.
MOST_TERMS, FIRST_TERMS = 4, 2

#: The most pieces of a formula, and how deep it goes, from the first that fits.
MOST_PIECES, DEPTHS = 80, (12, 6, 4, 3, 2)

#: The digits of a number.
DIGITS = 4


class Writing:
    """Writes a number as pieces: texts, of which some stand for an entry.

    - has_numbers: True writes entries as their numbers, False as their names.
    - labels: gives an entry as a text.
    - depth: how deep a formula is written out; None for all of it, with all terms of sums and all digits.
    """

    def __init__(self, has_numbers: bool, labels: Any, depth: int | None) -> None:
        self.has_numbers, self.labels, self.depth = has_numbers, labels, depth

    def pieces(self, number: Any) -> list[dict[str, Any]]:
        return self._pieces(number, NEGATIVE, 0)

    def _pieces(self, number: Any, least: int, level: int) -> list[dict[str, Any]]:
        """Return the pieces, in parentheses if they hold together less than wanted."""
        found, strength = self._written(number, level)
        return [text("("), *found, text(")")] if strength < least else found

    def _written(self, number: Any, level: int) -> tuple[list[dict[str, Any]], int]:
        if not isinstance(number, Number):
            return [text(self._digits(number))], NEGATIVE if number < 0 else ATOM
        if number.sign == "leaf":
            shown = self._digits(number.value) if self.has_numbers else self.labels(number.parts)
            strength = NEGATIVE if self.has_numbers and number.value < 0 else ATOM
            return [text(shown) | {"of": [number.parts[0], list(number.parts[1]), number.parts[2]]}], strength
        if number.sign == "√" and not isinstance(number.parts[0], Number):
            return [text(f"√{self._digits(number.parts[0])}")], ATOM
        if self.depth is not None and level >= self.depth:
            shown = self._digits(number.value) if self.has_numbers else "…"
            return [text(shown)], NEGATIVE if self.has_numbers and number.value < 0 else ATOM
        return self._made(number, number.terms, level + 1)

    def _made(self, number: Number, parts: list[Any], level: int) -> tuple[list[dict[str, Any]], int]:
        """Return what is written for an operator or a function."""
        sign = number.sign
        if sign == "sum" and len(parts) < 2:
            return self._written(parts[0] if parts else 0, level - 1)
        if sign in ("sum", "+"):
            return self._sum(parts, level - (sign == "+")), SUM
        if sign == "−":
            left, right = self._pieces(parts[0], NEGATIVE, level - 1), self._pieces(parts[1], PRODUCT, level)
            return [*left, text(" − "), *right], SUM
        if sign == "·":
            return [*self._pieces(parts[0], PRODUCT, level), text("·"), *self._pieces(parts[1], POWER, level)], PRODUCT
        if sign == "/":
            return [*self._pieces(parts[0], PRODUCT, level), text("/"), *self._pieces(parts[1], POWER, level)], PRODUCT
        if sign == "neg":
            return [text("−"), *self._pieces(parts[0], POWER, level)], NEGATIVE
        if sign == "power":
            is_square = not isinstance(parts[1], Number) and parts[1] == 2
            exponent = [text("²")] if is_square else [text("^("), *self._pieces(parts[1], NEGATIVE, level), text(")")]
            return [*self._pieces(parts[0], ATOM, level), *exponent], POWER
        if sign == "[> 0]":
            return [text("["), *self._pieces(parts[0], NEGATIVE, level), text(" > 0]")], ATOM
        sign = "max" if sign == TOP else sign
        inner = [each for part in parts for each in (text(", "), *self._pieces(part, NEGATIVE, level))][1:]
        return [text(f"{sign}("), *inner, text(")")], ATOM

    def _sum(self, terms: list[Any], level: int) -> list[dict[str, Any]]:
        """Return a sum; of a long one the first terms and the last."""
        is_long = self.depth is not None and len(terms) > MOST_TERMS
        shown = [*terms[:FIRST_TERMS], terms[-1]] if is_long else terms
        found = self._pieces(shown[0], NEGATIVE, level)
        for i, term in enumerate(shown[1:], 1):
            pieces = self._pieces(term, SUM, level)
            is_negative = pieces[0]["text"].startswith("−")
            found += [text(" + … + " if is_long and i == FIRST_TERMS else " + ")]
            found += [text("("), *pieces, text(")")] if is_negative else pieces
        return found

    def _digits(self, x: Any) -> str:
        return digits(float(x), None if self.depth is None else DIGITS)


def text(shown: str) -> dict[str, Any]:
    return {"text": shown}


def digits(x: float, n: int | None) -> str:
    """Return a number with so many digits that count; None for all.

    >>> digits(-0.123456, 4), digits(12.0, 4), digits(123456.7, 4), digits(-0.5, None)
    ('−0.1235', '12', '123457', '−0.5')
    """
    shown = repr(x) if n is None else f"{x:.0f}" if 10**n <= abs(x) < LARGE else f"{x:.{n}g}"
    return shown.replace("-", "−")


#: From here on a number is written with a power of ten.
LARGE = 1e9


def written(number: Any, has_numbers: bool, labels: Any) -> list[dict[str, Any]]:
    """Return the pieces of a formula, as deep as a line can hold."""
    for depth in DEPTHS:
        pieces = Writing(has_numbers, labels, depth).pieces(number)
        if len(pieces) <= MOST_PIECES:
            break
    return pieces
