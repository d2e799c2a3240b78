"""The data of one page of the explorer: every matrix with its gradient, its formula and its code, as JSON has them.

`build` returns a `Page`; `Page.as_dict()` has these keys.

- subject, title and title_zh; before: the version that it grows from, or None.
- subjects: name and group of everything that can be shown.
- switches: name, kind (flag, number, choice), value, choices, each as it stands now.
- parts: the paths that can be chosen, of a layer of the Transformer or a model; part: the one that is shown.
- loss: L = Σ dY ⊙ Y, or −log P of a model's target.
- word, source, target, probabilities, leans: of a model alone, else None. For each symbol of the target, <eos> at its
  end, probabilities has the ten likeliest symbols there, and leans the size of the gradient of its log-probability at
  each symbol of the source.
- output: the name of the output. Its gradient is dY, which changes["numbers"]["dY"] changes.
- values: name; role (argument, mask, computed, output); axes, shape; numbers, in nested lists: None for infinity and
  NaN, "-inf" for −∞, and None for all of them where they are too many, then is_large; gradient with gradient_name and
  gradient_shape, which can differ (merged heads); gradient_by: backward, or complex step where backward has no name for
  it; formula and gradient_formula of the docstring, and as MathML; lines and gradient_lines of code; is_new and
  gradient_is_new: not in the version before; can_change.
  A value with numbers None and a gradient is one that only backward has, such as dE/√D_Q: its shape is the gradient's.
- steps: what the code makes, line by line: name; value, the name among the values that has it, or ""; is_gradient;
  line; numbers; sums: two gradients meet.
- code: the lines of each file; shown: for each file, the first and last line of each function that is run.

A line is a mapping of function, number, code, comment and file. Numbers of a model have six digits.

`entry` returns one number: name (dE for the gradient of E), value, index, is_gradient, number; formula, in pieces
{"text"} and {"text", "of": [value, index, is_gradient]}, first with names, then with numbers; from, everything that
makes it; line; complex_step and difference, of a gradient that has the shape of its value. For an argument the formula
is empty; where no formula can be written, it is the line of code. Indices count from 0, but from 1 in formulas. What a
mask hides is written as "A[1,2] = 0 ⇐ mask[1,2] = 0".

`everything` returns the page with "entries": {"value": {name: {"0,1": entry without line}}, "gradient": …}, and
"left_out", the names whose numbers are too many: their entries need the server.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from npattn._internal.checks import Array, shown
from npattn.learn.explore.formula import Formulas, Named, Run, digits, sources, written
from npattn.learn.explore.mathml import mathml
from npattn.learn.explore.subjects import (
    MODELS,
    SIDES,
    Switch,
    changed,
    changed_layer,
    example,
    find,
    index_from,
    layer_switches,
    leans,
    likeliest,
    pair_of,
    read,
    subjects,
    switches,
    traced,
)
from npattn.learn.explore.symbols import MOST, Number
from npattn.learn.explore.titles import CHINESE, ENGLISH
from npattn.learn.trace.recorder import ADDED, Line, Step
from npattn.learn.trace.run import docstring_of, source_function
from npattn.learn.trace.transformer import INSIDE, Reading
from npattn.learn.trace.value import Trace, Value
from npattn.transformer import reference

#: Statements that make nothing new: those that return a name, and those that unpack a cache.
REPEATS = re.compile(r"return \w+(,|$)|.* = (SHAPES\.check_backward|check_cache)\(|[\w., *()]+ = cache$")

#: A letter of a formula, such as W_Q, without ᵀ.
LETTERS = re.compile("[A-Za-z_]+")

#: The names of weights, of which a mask hides some.
WEIGHTS = ("A", "a")

#: What can be changed.
KEYS, MODEL_KEYS = ("numbers", "switches", "part"), ("word", "target", "part")

#: The most numbers of an array whose gradient is taken from the complex step.
FEW = 64

#: The most numbers of a matrix whose entries are written into a page, the most letters of all of them, and the digits
#: of numbers in formulas and of a model.
MOST_ENTRIES, MOST_LETTERS, FOUR, DIGITS = 200, 500_000, 4, 6

#: How many of the likeliest symbols are listed.
LIKELIEST = 10

#: The word that a model reads unless another is given.
WORD = "knight"


class Page:
    """One page: a trace, and the part of it that is shown.

    - subject: the name of the subject.
    - run: the trace of the whole, and its call.
    - part: the path of the part that is shown; empty for the whole.
    - switches: as they stand.
    - reading: how the model reads the word; None for other subjects.
    """

    def __init__(
        self, subject: str, run: Run, part: str, switches: Sequence[Switch], reading: Reading | None, word: str | None
    ) -> None:
        self.subject, self.run, self.part, self.switches = subject, run, part, switches
        self.trace, self.reading, self.word = run.trace, reading, word
        self.shown = self.trace.parts[part] if part else self.trace
        self.functions = functions_of(subject, self.shown.title, part)

    @functools.cached_property
    def formulas(self) -> Formulas | None:
        """The formulas of what is shown; None for a part of a model that has parts, which would take too long."""
        has_parts = any(path.startswith(f"{self.part}.") or not self.part for path in self.trace.parts)
        return None if self.is_large and has_parts else Formulas(self.run, self.part)

    @property
    def title(self) -> str:
        """What is shown: the first line of the docstring of a version or a layer, else the name of the function."""
        return self._titled(ENGLISH)

    @property
    def title_zh(self) -> str:
        """The title in Chinese."""
        return self._titled(CHINESE)

    def _titled(self, sentences: Mapping[str, str]) -> str:
        """Return the title, with its sentence from a mapping if it is there."""
        forward = self.functions[0]
        version = re.fullmatch(r"npattn\.attention\.(v\d+)_\w+", forward.__module__)
        sentence = sentences.get(version[1] if version else forward.__name__)
        if sentence is None and forward.__module__ == reference.__name__:
            return self.shown.title
        path = f"{self.part}: " if self.part else ""
        return path + (sentence or docstring_of(forward).partition("\n")[0].rstrip("."))

    @property
    def is_large(self) -> bool:
        return self.subject in MODELS

    @functools.cached_property
    def output(self) -> str:
        """The name of the output of what is shown."""
        return output_of(self.shown, self.functions[1])

    @property
    def loss(self) -> float:
        """L = Σ dY ⊙ Y of the whole, or −log P of the target."""
        if self.reading:
            return self.reading.loss
        whole = self.trace[output_of(self.trace, functions_of(self.subject, self.trace.title, "")[1])]
        return float((self.run.dY * whole.array).sum())

    @functools.cached_property
    def steps(self) -> list[Step]:
        """The steps of what is shown, forward and backward."""
        own = [step for step in self.trace.steps if step.path == self.part]
        own += [] if any(is_backward(step) for step in own) else self._steps_back()
        return [step for step in own if step.line and not REPEATS.match(step.line.code)]

    def _steps_back(self) -> list[Step]:
        """Return the steps of the backward of a part that has no path. Its gradients tell which call it is."""
        name, calls = self.functions[1].__name__, list[list[Step]]()
        steps = [step for step in self.trace.steps if step.line and step.line.function == name]
        first = min((step.line.number for step in steps if step.line), default=0)
        for step in steps:
            is_first = not calls or (step.line and step.line.number == first != calls[-1][-1].line.number)   # type: ignore[union-attr]
            calls += [[]] if is_first else []
            calls[-1].append(step)
        gradients = {id(value.gradient) for value in self.shown.values()}
        return next((call for call in calls if any(id(step.array) in gradients for step in call)), [])

    @functools.cached_property
    def owners(self) -> dict[int, str]:
        """The name among the values of what a step made, by the id of its array."""
        last = {step.name: step for step in self.steps if is_backward(step)}
        found = {id(last[f"d{name}"].array): name for name in self.shown if f"d{name}" in last}
        made = [step for step in self.steps if step.name == base(self.output) and not is_backward(step)]
        found |= {id(step.array): self.output for step in made[-1:]}
        for value in self.shown.values():
            found |= {id(array): value.name for array in (value.array, value.gradient) if array is not None}
        return found

    @functools.cached_property
    def written(self) -> dict[tuple[str, bool], str]:
        """The formulas of the docstring, by the name of the value and whether it is its gradient's.

        Where the code gives a name several values, the formula is that of the last. That of a gradient stands at the
        gradient whose code has the most of its letters.
        """
        found = {}
        for value in self.shown.values():
            same = [each for each in self.shown.values() if base(each.name) == value.name]
            if value.formula:
                found[[each for each in same if each.lines][-1].name, False] = value.formula
            if value.gradient_formula:
                nearest = max(same, key=functools.partial(letters_shared, value.gradient_formula))
                found[nearest.name, True] = value.gradient_formula
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return the page as mappings, lists, texts and numbers, as the module says."""
        return {
            "subject": self.subject,
            "title": self.title,
            "title_zh": self.title_zh,
            "before": before(self.subject),
            "subjects": [subject._asdict() for subject in subjects().values()],
            "switches": [switch._asdict() | {"choices": list(switch.choices)} for switch in self.switches],
            "parts": list(self.trace.parts),
            "part": self.part,
            "loss": plain_number(self.loss),
            **self._reading(),
            "output": self.output,
            "values": [self._value(value) for value in self.shown.values()],
            "steps": [self._step(step) for step in self.steps],
            **self._code(),
        }

    def _reading(self) -> dict[str, Any]:
        """Return what the page has of a model alone."""
        if self.reading is None:
            return dict.fromkeys(("word", "source", "target", "probabilities", "leans"))
        return {
            "word": self.word,
            "source": self.reading.source,
            "target": self.reading.target,
            "probabilities": likeliest(self.subject, self.reading, LIKELIEST),
            "leans": leans(self.run),
        }

    def _value(self, value: Value) -> dict[str, Any]:
        array, gradient, by = value.array, value.gradient, "backward"
        is_few = array is not None and array.dtype.kind == "f" and 0 < array.size <= FEW and not self.is_large
        if gradient is None and is_few:
            with contextlib.suppress(ValueError):             # not every number can be complex
                slopes = self.shown.derivative(value.name)
                gradient, by = (slopes, "complex step") if slopes.any() else (None, by)
        shown = gradient if array is None else array
        assert shown is not None
        return {
            "name": value.name,
            "role": self._role(value),
            "axes": list(value.axes),
            "shape": list(shown.shape),
            "numbers": self._listed(array),
            "is_large": shown.size > MOST,
            "gradient": self._listed(gradient),
            "gradient_shape": None if gradient is None else list(gradient.shape),
            "gradient_name": label(value),
            "gradient_by": by,
            "formula": self.written.get((value.name, False), ""),
            "gradient_formula": self.written.get((value.name, True), ""),
            "formula_mathml": mathml(self.written.get((value.name, False), "")),
            "gradient_mathml": mathml(self.written.get((value.name, True), "")),
            "lines": [self._line(line) for line in value.lines],
            "gradient_lines": [self._line(line) for line in value.gradient_lines],
            "is_new": is_new(self.subject, value, False),
            "gradient_is_new": is_new(self.subject, value, True),
            "can_change": not self.is_large and self._role(value) in ("argument", "mask") and not value.lines,
        }

    def _listed(self, array: Array | None) -> Any:
        return listed(array, DIGITS if self.is_large else None)

    def _role(self, value: Value) -> str:
        if value.array is not None and value.array.dtype == bool:
            return "mask"
        if value.name == self.output:
            return "output"
        return "computed" if value.lines or value.array is None else "argument"

    def _step(self, step: Step) -> dict[str, Any]:
        assert step.line is not None
        return {
            "name": step.name,
            "value": self.owners.get(id(step.array), ""),
            "is_gradient": is_backward(step),
            "line": self._line(step.line),
            "numbers": self._listed(step.array),
            "sums": is_backward(step) and (step.how == ADDED or bool(re.search(r"\badd\b", step.line.comment))),
        }

    def _line(self, line: Line) -> dict[str, Any]:
        return line._asdict() | {"file": self._files.get(line.function, "")}

    @functools.cached_property
    def _files(self) -> dict[str, str]:
        return {function.__name__: file_of(function) for function in self.functions}

    def _code(self) -> dict[str, Any]:
        code, shown = dict[str, list[str]](), dict[str, list[list[int]]]()
        for function in self.functions:
            file, lines, place = source_of(function)
            code[file] = lines
            shown.setdefault(file, []).append(place)
        return {"code": code, "shown": shown}


def build(subject: str, changes: Mapping[str, Any] | None = None) -> Page:
    """Return the page of a subject.

    - subject: a name of `subjects()`.
    - changes: None, or a mapping with numbers, switches, word, target and part, each optional. Numbers are given by
      array and index, as {"X": {"0,1": 2.5}, "dY": …, "mask": {"0,1": False}}.

    Raises ValueError for what is not there, what is no number, and what the functions can't take.

    >>> page = build("v4", {"numbers": {"X": {"0,0": 2.0}}})
    >>> page.shown["X"].array[0, 0], page.as_dict()["before"]
    (np.float64(2.0), 'v3')
    """
    found = find(subject)
    given = changes_from(found.group, {} if changes is None else changes)
    numbers, chosen, part = given["numbers"] or {}, given["switches"] or {}, given["part"]
    reading, word = None, None
    if found.group == "model":
        word = WORD if given["word"] is None else given["word"]
        (run, reading), own = read(subject, word, given["target"]), tuple[Switch, ...]()
        part = f"decoder.{last_layer(run.trace)}.cross_attention" if part is None else part
    elif found.group == "transformer":
        run, own = changed_layer(subject, numbers, chosen), layer_switches()
    else:
        try:
            run, own = traced(changed(subject, numbers, chosen)), switches(subject)
        except IndexError as error:                           # ids that a table does not have
            raise ValueError(str(error)) from None
    if part and (not isinstance(part, str) or part not in run.trace.parts):
        raise ValueError(f"part: expected one of {', '.join(run.trace.parts) or 'none'}, got {shown(part)}")
    now = [switch._replace(value=chosen.get(switch.name, switch.value)) for switch in own]
    return Page(subject, run, part or "", now, reading, word)


def changes_from(group: str, changes: Any) -> dict[str, Any]:
    """Return the changes, None for those that are not there. Raises ValueError for what this subject can't have."""
    known = MODEL_KEYS if group == "model" else KEYS
    if not isinstance(changes, Mapping) or not changes.keys() <= {*KEYS, *MODEL_KEYS}:
        raise ValueError(f"changes: expected a mapping with {', '.join(known)}, got {shown(changes)}")
    given = dict.fromkeys((*KEYS, *MODEL_KEYS)) | dict(changes)
    for key, value in given.items():
        if key not in known and value:
            raise ValueError(f"{key}: expected none for this subject, got {shown(value)}")
        if key in ("numbers", "switches") and value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{key}: expected a mapping, got {shown(value)}")
    return given


def last_layer(trace: Trace) -> int:
    return max(int(found[1]) for path in trace.parts if (found := re.match(r"decoder\.(\d+)$", path)))


def functions_of(subject: str, title: str, part: str) -> list[FunctionType]:
    """Return the functions that are run for what is shown, its forward and its backward first."""
    inside = [source_function(function) for function in INSIDE]
    if part:
        name = title.rpartition(": ")[2]
        pair = [f for f in inside if f"{f.__module__}.{f.__name__}" in (name, backward_of(name))]
        more = ("attention", "attention_backward", "self_attention_backward") if pair[0].__name__ == "forward" else ()
        return pair + [function for function in inside if function.__name__ in more]
    if subject in SIDES:
        return [source_function(getattr(reference, each)) for each in (subject, f"{subject}_backward")]
    if subject in MODELS:
        return [source_function(reference.forward), source_function(reference.backward)]
    return list(pair_of(subject))


def output_of(trace: Trace, backward: FunctionType) -> str:
    """Return the name of the output: Y if backward takes dY."""
    first = next(iter(inspect.signature(backward).parameters))
    name = first[1:] if first[0] == "d" else "y"
    return [each for each, value in trace.items() if base(each) == name and value.array is not None][-1]


def backward_of(title: str) -> str:
    module, _, name = title.rpartition(".")
    return f"{module}.backward" if name == "forward" else f"{title}_backward"


@functools.cache
def source_of(function: FunctionType) -> tuple[str, list[str], list[int]]:
    """Return the file of a function, the lines of the file, and the first and the last line of the function."""
    lines, first = inspect.getsourcelines(function)
    module = importlib.import_module(function.__module__)
    return file_of(function), inspect.getsource(module).splitlines(), [first, first + len(lines) - 1]


def file_of(function: FunctionType) -> str:
    return f"{function.__module__.replace('.', '/')}.py"


def is_backward(step: Step) -> bool:
    return step.line is not None and step.line.function.endswith("backward")


def letters_shared(formula: str, value: Value) -> int:
    """Return how many letters on the right of a gradient's formula, such as W_Q, the code of a value's gradient has."""
    letters = {letter for line in value.gradient_lines for letter in LETTERS.findall(line.code)}
    return len(letters.intersection(LETTERS.findall(formula.partition("=")[2])))


def base(name: str) -> str:
    """Return the name in the code, E for E (2)."""
    return name.partition(" (")[0]


def label(value: Value) -> str:
    """Return what the gradient is called: d and the name, or what the comment of the line says, such as dE/√D_Q."""
    comments = [line.comment.partition("from here on ")[2] for line in value.gradient_lines if value.array is None]
    return next(filter(None, [value.label, *comments]), f"d{value.name}")


@functools.cache
def before(subject: str) -> str | None:
    """Return the version that a version grows from; None for the first and for other subjects."""
    if not re.fullmatch(r"v\d+", subject) or subject == "v1":
        return None
    text = changed_section(subject)
    named = re.match(r"Against version (\d+)", text)
    return f"v{named[1]}" if named else f"v{int(subject[1:]) - 1}"


def changed_section(subject: str) -> str:
    """Return the section Changed of a version's docstring."""
    return docstring_of(pair_of(subject)[0]).partition("**Changed**")[2].partition("\n**")[0].strip()


@functools.cache
def codes(subject: str) -> dict[tuple[str, bool], list[str]]:
    """Return the code that makes each value and gradient of a version's example."""
    values = traced(example(subject)).trace.values()
    both = [(v.name, False, v.lines) for v in values] + [(v.name, True, v.gradient_lines) for v in values]
    return {(name, is_gradient): [line.code for line in lines] for name, is_gradient, lines in both}


#: Behind the shape in a comment: the number of a change, or "new".
MARK = re.compile(r"\)\s+(?:\d|new)")


@functools.cache
def marks_changes(subject: str) -> bool:
    """Whether the comments of forward say what has changed."""
    return bool(MARK.search(inspect.getsource(pair_of(subject)[0])))


def is_new(subject: str, value: Value, is_gradient: bool) -> bool:
    """Whether a value or its gradient is not that of the version before: by its comment, or by its code."""
    earlier = before(subject)
    if earlier is None or (value.gradient if is_gradient else value.array) is None:
        return False
    lines, known = value.gradient_lines if is_gradient else value.lines, codes(earlier)
    if (value.name, is_gradient) not in known:
        return True
    if lines and not is_gradient and marks_changes(subject):
        return any(MARK.search(line.comment) for line in lines)
    return [line.code for line in lines] != known[value.name, is_gradient]


def listed(array: Array | None, n: int | None = None) -> Any:
    """Return an array as nested lists: None for infinity and NaN, and "-inf" for −∞; None for too many numbers.

    - n: the digits that count; None for all.

    >>> listed(np.array([1.0, np.nan, -np.inf])), listed(np.array([1 / 3]), 3)
    ([1.0, None, '-inf'], [0.333])
    """
    if array is None or array.size > MOST:
        return None
    if array.dtype.kind != "f":
        return array.tolist()
    numbers = array.astype(object)
    if n is not None:
        numbers = np.reshape([float(f"{x:.{n}g}") for x in array.ravel()], array.shape).astype(object)
    numbers[~np.isfinite(array)] = None
    numbers[array == -np.inf] = "-inf"
    return numbers.tolist()


def entry(
    page: Page, name: Any, index: Any, is_gradient: bool = False, *, has_slope: bool = True
) -> dict[str, Any]:
    """Return one number of a page: its formula, what it is made of, and the complex step's value of it.

    - page: as `build` returns it.
    - name: of a value.
    - index: integers, counted from 0.
    - is_gradient: True for a number of its gradient.
    - has_slope: False leaves the complex step out, for which forward runs once more.

    Raises ValueError for what is not there.

    >>> found = entry(build("v4"), "E", [0, 1], is_gradient=True)
    >>> "".join(piece["text"] for piece in found["formula"])
    'dE[1,2] = A[1,2]·(dA[1,2] − (A[1,1]·dA[1,1] + A[1,2]·dA[1,2])) = 0.75·(0 − (0.25·4 + 0.75·0)) = −0.75'
    >>> round(found["complex_step"], 12), found["line"]["code"]
    (-0.75, 'dE = softmax_backward(dA, A)')
    """
    if not isinstance(name, str) or name not in page.shown:
        raise ValueError(f"name: expected one of {', '.join(page.shown)}, got {shown(name)}")
    value = page.shown[name]
    array = value.gradient if is_gradient else value.array
    if array is None:
        raise ValueError(f"name: {name} has no {'gradient' if is_gradient else 'numbers of its own'}")
    place = index_from("index", index, array.shape)
    lines = value.gradient_lines if is_gradient else value.lines
    here = Named(name, place, is_gradient)
    number = page.formulas.number(*here) if page.formulas else None
    if isinstance(number, Number) and number.sign == "leaf" and number.parts == here:
        number = None                                         # a part is given it
    hidden = hiding(page, array, place) if base(name) in WEIGHTS and not is_gradient else []
    slope = slope_of(page, value, place) if is_gradient and has_slope else None
    x = array[place]
    return {
        "name": label(value) if is_gradient else name,
        "value": name,
        "index": list(place),
        "is_gradient": is_gradient,
        "number": plain_number(x),
        "formula": pieces_of(page, here, number, x, lines, hidden),
        "from": [[each.name, list(each.at), each.is_gradient] for each in sources(number) or hidden],
        "line": page._line(lines[-1]) if lines else None,
        "complex_step": None if slope is None else plain_number(slope),
        "difference": None if slope is None else plain_number(x - slope),
    }


def slope_of(page: Page, value: Value, index: tuple[int, ...]) -> float | None:
    """Return the complex step's value of a gradient's number; None where it has none."""
    with contextlib.suppress(ValueError):
        if value.array is not None and value.gradient is not None and value.array.shape == value.gradient.shape:
            return page.shown.derivative(value.name, index)
    return None


def hiding(page: Page, array: Array, index: tuple[int, ...]) -> list[Named]:
    """Return the entries of masks that hide an entry."""
    found = []
    for name, value in page.shown.items():
        mask = value.array
        if mask is not None and mask.dtype == bool and mask.ndim <= array.ndim:
            at = tuple(i if n > 1 else 0 for i, n in zip(index[array.ndim - mask.ndim :], mask.shape, strict=True))
            if all(i < n for i, n in zip(at, mask.shape, strict=True)) and not mask[at]:
                found.append(Named(name, at, False))
    return found


def pieces_of(
    page: Page, here: Named, number: Any, x: Any, lines: Sequence[Line], hidden: Sequence[Named]
) -> list[dict[str, Any]]:
    """Return the formula of an entry: with names, with numbers, and its value. Without one, the line of code.

    What a mask hides is 0 because an entry of the mask is.
    """

    def labels(each: Named) -> str:
        value = page.shown[each.name] if each.name in page.shown else page.trace[each.name]
        name = label(value) if each.is_gradient else each.name
        name = name if re.fullmatch(r"[\w.]+( \(\d+\))?", name) else f"({name})"   # (dE/√D_Q)
        return f"{name}[{','.join(str(i + 1) for i in each.at)}]" if each.at else name

    if number is None:
        return [{"text": line.code} for line in lines[-1:]]
    own, *masks = (
        {"text": labels(each), "of": [each.name, list(each.at), each.is_gradient]} for each in (here, *hidden)
    )
    end = {"text": f" = {digits(float(x), FOUR)}"}
    if not isinstance(number, Number):
        return [own, end, *(piece for mask in masks for piece in ({"text": " ⇐ "}, mask, {"text": " = 0"}))]
    with_names, with_numbers = written(number, False, labels), written(number, True, labels)
    middle = [] if len(with_names) == 1 else [{"text": " = "}, *with_numbers]
    return [own, {"text": " = "}, *with_names, *middle, end]


def plain_number(x: Any) -> Any:
    """Return a number as JSON has it."""
    return listed(np.asarray(x))


def everything(page: Page) -> dict[str, Any]:
    """Return a page with its entries, for a file that works without a server. Small matrices come first.

    - page: as `build` returns it. Entries of a model have no complex step.
    """
    entries, left_out, room = {"value": dict[str, Any](), "gradient": dict[str, Any]()}, list[str](), MOST_LETTERS
    for value in sorted([*page.shown.values()][::-1], key=size_of):
        is_small = size_of(value) <= MOST_ENTRIES
        found = {kind: entries_of(page, value, kind == "gradient") for kind in entries} if is_small else {}
        size = len(json.dumps(found, ensure_ascii=False, separators=(",", ":")))
        if not is_small or size > room:
            left_out.append(value.name)
            continue
        room -= size
        for kind, each in found.items():
            entries[kind] |= {value.name: each} if each else {}
    return page.as_dict() | {"entries": entries, "left_out": left_out}


def entries_of(page: Page, value: Value, is_gradient: bool) -> dict[str, Any]:
    """Return all entries of a value or its gradient by their index, without what their place and the page say."""
    array = value.gradient if is_gradient else value.array
    if array is None or array.dtype.kind != "f":
        return {}
    keys = ("name", "number", "formula", "from", "complex_step", "difference")
    found = {}
    for index in np.ndindex(*array.shape):
        each = entry(page, value.name, index, is_gradient, has_slope=not page.is_large)
        found[",".join(map(str, index))] = {key: each[key] for key in keys}
    return found


def size_of(value: Value) -> int:
    """Return how many numbers a value and its gradient have."""
    return sum(array.size for array in (value.array, value.gradient) if array is not None)
