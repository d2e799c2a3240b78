"""What a trace holds: each matrix beside its gradient, with the lines of code that made them."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, overload

import numpy as np

from npattn._internal.checks import Array
from npattn.learn.trace.recorder import Line, Step
from npattn.learn.trace.text import DIGITS, LEGEND, WIDTH, text_of

#: The most numbers of a matrix whose gradient a text takes from the complex step, and what it says then.
SMALL = 64
UNNAMED = Line("", 0, "", "by the complex step: backward has no name for it")


#: The largest error of a right gradient by the complex step.
TOLERANCE = 1e-12


class Value(NamedTuple):
    """A matrix and its gradient.

    - name: the letter of the formula. A name that is assigned again is X, then X (2), X (3).
    - array: its numbers; None for something that forward gives no name, and backward a gradient.
    - gradient: the gradient of the loss with respect to it; None where there is none, or backward gives it no name.
    - axes: the symbols of its axes as the code gives them, such as N_Q and D_Q; empty if it does not.
    - lines, gradient_lines: the statements that made the one and the other.
    - formula, gradient_formula: how the docstring of the module writes them; empty if it does not.
    - place: where it is in a run of forward, see `Trace.derivative`.
    - label: what a text calls the gradient, where d and the name would mislead; else empty.
    """

    name: str
    array: Array | None
    gradient: Array | None = None
    axes: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    gradient_lines: tuple[Line, ...] = ()
    formula: str = ""
    gradient_formula: str = ""
    place: int = 0
    label: str = ""


class Trace(Mapping[str, Value]):
    """Every matrix of a forward and of its backward by name, in the order of the formula.

    `trace["E"]` is a `Value`, `trace.E` its array, `trace.dE` its gradient, and `str(trace)` a text.

    - title: the name of the function.
    - parts: the traces of the functions in it, by their path. The value E of the part encoder.0.self_attention is
      `trace["encoder.0.self_attention.E"]`.
    - steps: everything that was computed under a name, in order: first forward, then backward.
    """

    def __init__(
        self,
        title: str,
        values: Iterable[Value],
        steps: Iterable[Step],
        slope: Callable[[int, Array], float],
        size: float,
    ) -> None:
        self.title, self.steps, self.parts = title, tuple(steps), dict[str, Trace]()
        self._values = {value.name: value for value in values}
        self._slope, self._size = slope, size

    __eq__, __hash__ = object.__eq__, object.__hash__         # arrays have no single answer

    def __getitem__(self, name: str) -> Value:
        where, own = self._part(name)
        if own not in where._values:
            raise KeyError(f"{name}: expected one of {', '.join([*where, *where.parts])}")
        return where._values[own]

    def _part(self, name: str) -> tuple[Trace, str]:
        """Return the part that a dotted name leads to, and the rest of the name."""
        path = "" if name in self._values else name
        while path and path not in self.parts:
            path = path.rpartition(".")[0]
        return self.parts.get(path, self), name.removeprefix(f"{path}.")

    def add_argument(self, leaf: Value) -> None:
        """Set the complete gradient of an argument. One inside a mapping is shown in the part that reads it."""
        where, name = self._part(leaf.name)
        leaf = leaf if where is self else leaf._replace(gradient_lines=())   # its line of backward is another one
        old = where._values.get(name, leaf._replace(gradient=None, gradient_lines=()))
        if old.array is None:                                 # forward has no name of its own for it
            old = where._values.pop(name)._replace(array=leaf.array)
        named, complete, lines = old.gradient, leaf.gradient, old.gradient_lines
        if named is None or complete is None or not np.array_equal(named, complete):
            lines += leaf.gradient_lines                      # the return statement computes more
        formula = old.gradient_formula or leaf.gradient_formula
        new = old._replace(name=name, gradient=leaf.gradient, place=leaf.place)
        new = new._replace(gradient_lines=lines, gradient_formula=formula)
        where._values = where._values | {name: new} if name in where._values else {name: new, **where._values}

    def label(self, name: str, text: str) -> None:
        """Let a text call the gradient of a value so. Does nothing if there is no such value."""
        self._values |= {name: self._values[name]._replace(label=text)} if name in self._values else {}

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self, *(f"d{name}" for name in self)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        values: Mapping[str, Value] = self.__dict__.get("_values", {})
        if name in values:
            return values[name].array
        if name[:1] == "d" and name[1:] in values:
            return values[name[1:]].gradient
        raise AttributeError(f"trace: expected one of {', '.join(values)}, or d and one of them, got {name}")

    @overload
    def derivative(self, name: str) -> Array: ...
    @overload
    def derivative(self, name: str, index: tuple[int, ...]) -> float: ...
    def derivative(self, name: str, index: tuple[int, ...] | None = None) -> Array | float:
        """Return the derivative of the loss by the complex step: forward runs on with a number moved by ih.

        - name: a name of the trace, of an argument or of anything that forward computes.
        - index: one number of it; None for all of them, one run of forward each.

        Backward is not used, so its gradient can be compared. Raises KeyError for an unknown name, IndexError for an
        unknown number, and ValueError for what has no array of real numbers or where forward takes no complex ones.
        """
        value = self[name]
        if value.array is None or value.array.dtype.kind != "f":
            raise ValueError(f"name: expected an array of real numbers, got {name}")
        slopes = np.zeros(value.array.shape)
        for each in np.ndindex(slopes.shape) if index is None else [index]:
            direction = np.zeros(slopes.shape)
            direction[each] = 1
            slopes[each] = self._slope(value.place, direction)
        return slopes if index is None else float(slopes[index])

    def errors(self) -> dict[str, float]:
        """Return how far each gradient is from the complex step, as a share of its size, in one direction each.

        The direction is random, up or down for each number. A right gradient has an error below 1e-12. One that is far
        smaller than the loss is compared with a thousandth of the loss. Values that backward has in another shape are
        left out. Raises ValueError where forward takes no complex numbers.
        """
        rng, found = np.random.default_rng(15), {}
        for name, value in self.items():
            if value.array is not None and value.gradient is not None and value.array.shape == value.gradient.shape:
                direction = rng.choice([-1.0, 1.0], value.array.shape)
                terms = direction * value.gradient
                size = max(np.abs(terms).sum(), 1e-3 * self._size, 1e-300)    # real numbers: abs is safe here
                found[name] = float(abs(self._slope(value.place, direction) - terms.sum()) / size)
        return found

    def first_wrong_line(self, errors: Mapping[str, float]) -> Line | None:
        """Return the line of backward that makes the first wrong gradient; None if all are right, or no line is known.

        - errors: as `errors` returns them.
        """
        wrong = [self[name].gradient_lines for name, error in errors.items() if not error <= TOLERANCE]
        return min((lines[-1] for lines in wrong if lines), key=lambda line: line.number, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as mappings, lists, texts and numbers, as JSON has them: None for infinity and NaN."""
        own = {"title": self.title, "values": plain(list(self.values())), "steps": plain(self.steps)}
        parts = {path: part.as_dict() | {"steps": []} for path, part in self.parts.items()}   # own has their steps too
        return own | {"parts": parts}

    def text(self, width: int = WIDTH, digits: int = DIGITS) -> str:
        """Return it as a text, with a legend.

        - width: the columns of a line, at most, unless a line of code is longer.
        - digits: the decimals of a number.
        """
        parts = ["", *textwrap.wrap(f"parts: {', '.join(self.parts)}", width)] if self.parts else []
        return "\n".join([self.title, *textwrap.wrap(LEGEND, width), *self.lines(width, digits), *parts])

    def lines(self, width: int = WIDTH, digits: int = DIGITS) -> list[str]:
        """Return the lines of the text for the values alone.

        - width, digits: as in `text`.
        """
        return text_of(map(self._with_gradient, self.values()), width, digits)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Trace of {self.title}: {' '.join([*self, *self.parts])}>"

    def _with_gradient(self, value: Value) -> Value:
        """Return a small value with the gradient of the complex step if backward has no name for its own."""
        array = value.array
        if array is not None and value.gradient is None and array.dtype.kind == "f" and array.size <= SMALL:
            with contextlib.suppress(ValueError):
                slopes = self.derivative(value.name)
                return value._replace(gradient=slopes, gradient_lines=(UNNAMED,)) if slopes.any() else value
        return value


def plain(tree: Any) -> Any:
    """Return named tuples as mappings and arrays as lists."""
    if isinstance(tree, np.ndarray):
        numbers = tree.astype(object)
        numbers[~np.isfinite(tree)] = None
        return numbers.tolist()
    if isinstance(tree, tuple) and hasattr(tree, "_asdict"):
        return {name: plain(each) for name, each in tree._asdict().items()}
    return [plain(each) for each in tree] if isinstance(tree, list | tuple) else tree
