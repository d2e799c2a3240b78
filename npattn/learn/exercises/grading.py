"""Check a student's file against its exercise, and say in words what is wrong.

`npattn.check_gradients` judges a backward; every answer is also compared with the solution's. The words come from the
sheet: an answer that equals that of a known mistake gets the words of this mistake.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import itertools
import linecache
import re
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from npattn.gradcheck import GradientError, check_gradients
from npattn.learn.exercises.sheet import Exercise
from npattn.learn.trace.run import run, source_function

RIGHT, BLANK, WRONG = "right", "still blank", "wrong"
#: Two answers are the same if they differ by less than this share of the largest entry, or by rounding beside 1.
SAME, ROUNDING = 1e-9, 1e-12
ZERO = "with {0} = 0 the gradient must be 0: {0} belongs into each of its terms"
IN_PLACE = "; `a += b` writes into the array that was given, `a = a + b` makes a new one"
UNKNOWN = "no mistake that is known here; compare each of your lines with hint 2"
#: What NumPy says of shapes that lack their last axis: (5,7) (5,).
LOST = "; a sum or mean along a row has lost its axis: keepdims=True keeps it"
LOST_AXIS = re.compile(r"\(([\d,]+),\d+\) \(\1,?\)")

Functions: TypeAlias = Mapping[str, Callable[..., Any]]


class Row(NamedTuple):
    """One thing that is asked: its verdict, `right`, `still blank` or `wrong`, why, and where it is most wrong.

    The name is empty if the file cannot be used at all.
    """

    name: str
    verdict: str
    words: str = ""
    where: str = ""


class Result(NamedTuple):
    """What a check found.

    - verdict: of the whole.
    - rows: one for each thing that is asked.
    - printed: what the student's file printed.
    - line: the line that makes the first wrong gradient, where no known mistake explains it and names tell.
    """

    verdict: str
    rows: tuple[Row, ...]
    printed: str = ""
    line: str = ""

    def lines(self, width: int) -> list[str]:
        """Return what was printed and found as lines of text. Rows with the same words share them."""
        found = self.printed.splitlines()
        for reason in dict.fromkeys((row.verdict, row.words) for row in self.rows):
            rows = [row for row in self.rows if (row.verdict, row.words) == reason]
            text = ": ".join(filter(None, (", ".join(row.name for row in rows), *reason)))
            found += textwrap.wrap(text, width, subsequent_indent="  ")
            found += [f"  {row.name}: {row.where}" for row in rows if row.where]
        text = f"The first wrong gradient is made in {self.line}" if self.line else ""
        return found + textwrap.wrap(text, width, subsequent_indent="  ")


class Unusable(Exception):
    """The student's code cannot be run, or returns something else than numbers. The text says where and why."""


def grade(exercise: Exercise, path: Path) -> Result:
    """Check a student's file. Raises OSError if it cannot be read."""
    code, printed, line = path.read_bytes(), io.StringIO(), ""
    with _guest(path.resolve().parent), contextlib.redirect_stdout(printed):
        try:
            attempt = Attempt(exercise, path, code)
            rows = [row for function in attempt.arguments() for row in attempt.rows(function)]
            line = attempt.line
        except Unusable as error:
            rows = [Row("", WRONG, str(error))]
    found = {row.verdict for row in rows}
    worst = next(verdict for verdict in (WRONG, BLANK, RIGHT) if verdict in found)
    return Result(worst, tuple(rows), printed.getvalue(), line)


@contextlib.contextmanager
def _guest(folder: Path) -> Iterator[None]:
    """Let foreign code import its neighbours, and keep it from leaving files or settings behind."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.append(str(folder))
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        with contextlib.suppress(ValueError):                 # the foreign code has changed it
            sys.path.remove(str(folder))
        sys.dont_write_bytecode = before


class Attempt:
    """The functions of a student's file, beside those of the solution.

    A function is checked by its name; `forward` stands for the pair, and what is asked of it is what backward returns.
    """

    def __init__(self, exercise: Exercise, path: Path, code: bytes) -> None:
        self.exercise, self.path, self.line = exercise, path, ""
        self.ours = _functions(exercise.solution)
        self.make = _functions(exercise.arguments)["arguments"]
        with self._errors_in_words():
            self.theirs = _functions(code, path)

    def arguments(self) -> dict[str, tuple[Any, ...]]:
        """Return new arguments for each function to check."""
        return self.make(np.random.default_rng(0))

    def rows(self, function: str) -> list[Row]:
        """Return a row for each value that is asked of a function."""
        with self._errors_in_words():
            if function == "forward":
                self._check_output()
            values = self._answers(self.theirs, function)
            right = self._answers(self.ours, function)
            filled = {name: value for name, value in values.items() if not (value is None or value is ...)}
            wrong = {name: text for name, value in filled.items() if (text := difference(value, right[name]))}
        numeric = [name for name in filled if not wrong.get(name, "").startswith("its numbers")]   # no objects
        hints, problems = self._checker(numeric) if function == "forward" else ({}, ())
        known = self._known_mistakes(function, filled, right) if wrong else {}
        unknown = {name: UNKNOWN for name, where in wrong.items() if where.startswith("at")}   # no shape, no dtype
        words = known if problems else unknown | hints | known   # problems say more than hints
        rows = []
        for name in values:
            if name not in filled:
                rows.append(Row(name, BLANK))
            elif name in wrong or name in hints:
                why = words.get(name, "")
                rows.append(Row(name, WRONG, why, "" if "expected shape" in why else wrong.get(name, "")))
            else:
                rows.append(Row(name, RIGHT))
        if problems and not known:                            # else they come from the same mistake
            name, _, text = problems[0].partition(": ")
            dY = next(iter(inspect.signature(self.ours["backward"]).parameters))
            text = text.replace("not exactly zero for a zero cotangent", ZERO.format(dY))
            rows.append(Row(name, WRONG, text + IN_PLACE * text.startswith("changed")))
        if wrong.keys() - known.keys() and function == "forward":
            self.line = self._first_wrong_line(filled, right)
        return rows

    def _first_wrong_line(self, filled: Container[str], right: Mapping[str, Any]) -> str:
        """Return the line of backward that makes the first wrong gradient; empty if the names do not tell."""

        def without_blanks(returned: Any) -> list[Any]:
            pairs = zip(right.items(), _tuple(returned), strict=True)
            return [value if name in filled else np.zeros_like(zero) for (name, zero), value in pairs]

        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            forward, backward = (source_function(self.theirs[name]) for name in ("forward", "backward"))
            found = run(forward, backward, (), self.arguments()["forward"], select=without_blanks)
            line = found.first_wrong_line(found.errors())
            return f"line {line.number}, {line.code}" if line else ""
        return ""

    def _check_output(self) -> None:
        returned = self._function(self.theirs, "forward")(*self.arguments()["forward"])
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise Unusable("forward: expected to return the output and the cache")
        if difference(returned[0], self.ours["forward"](*self.arguments()["forward"])[0]):
            raise Unusable("forward computes something else than at the beginning; only the blanks may change")

    def _function(self, functions: Functions, name: str) -> Callable[..., Any]:
        if not callable(functions.get(name)):
            raise Unusable(f"there is no function {name}; the exercise began with one")
        return functions[name]

    def _answers(self, functions: Functions, function: str) -> dict[str, Any]:
        """Return what is asked of a function, by name."""
        names = self.exercise.asked(function)
        returned = self._function(functions, function)(*self.arguments()[function])
        if function == "forward":
            function, (y, cache) = "backward", returned
            dy = np.random.default_rng(1).standard_normal(np.shape(y))
            returned = self._function(functions, function)(dy, cache)
        values = _tuple(returned)
        if len(values) != len(names):
            raise Unusable(f"{function}: expected {len(names)} values ({', '.join(names)}), got {len(values)}")
        return dict(zip(names, values, strict=True))

    def _checker(self, filled: Container[str]) -> tuple[dict[str, str], Sequence[str]]:
        """Return the checker's hints by the name of the gradient, and what else it found."""
        names, ours, theirs = self.exercise.asked("forward"), self.ours, self.theirs
        is_complete = all(name in filled for name in names)

        @functools.wraps(theirs["forward"])
        def forward(*args: Any) -> Any:
            y, cache = theirs["forward"](*args)
            return y, (cache, None if is_complete else ours["forward"](*args)[1])

        def backward(dy: Any, cache: Any) -> Any:             # a blank must not stop the check of the others
            given = _tuple(theirs["backward"](dy, cache[0]))
            right = given if is_complete else _tuple(ours["backward"](dy, cache[1]))
            return tuple(g if name in filled else r for name, g, r in zip(names, given, right, strict=True))

        with contextlib.redirect_stdout(io.StringIO()), self._errors_in_words():   # one call has printed already
            try:
                report = check_gradients(forward, backward, self.arguments()["forward"])
            except GradientError as error:
                report = error.report
        rows = zip(names, report.arguments, strict=False)     # none if a problem stopped the check
        hints = {name: row.hint or UNKNOWN for name, row in rows if not row.ok}
        if len(hints) > 1:                                    # then the cause lies elsewhere
            hints = {name: hint.partition(": is a repeated index")[0] for name, hint in hints.items()}
        return hints, report.problems

    def _known_mistakes(self, function: str, values: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, str]:
        """Return words for each wrong value that one known mistake explains, or two at once.

        Several mistakes can give the same wrong value. Then the one counts that gives most of the other values too.
        """
        best: dict[str, tuple[int, str]] = {}
        for number in (1, 2):
            found: dict[str, tuple[int, str]] = {}
            for mistakes in itertools.combinations(self.exercise.mistakes, number):
                with contextlib.suppress(Exception):          # a mistake may end in an error
                    answers = self._answers(_functions(self.exercise.mistaken(*mistakes)), function)
                    agreed = [name for name in values if not difference(values[name], answers[name])]
                    for name in agreed:
                        if difference(answers[name], right[name]) and len(agreed) > found.get(name, (0,))[0]:
                            found[name] = len(agreed), "; and ".join(mistake.words for mistake in mistakes)
            best = found | best                               # one mistake explains better than two
            if all(name in best or not difference(values[name], right[name]) for name in values):
                break
        return {name: words for name, (_, words) in best.items()}

    @contextlib.contextmanager
    def _errors_in_words(self) -> Iterator[None]:
        """Turn any error of the student's code into one that names its line and the shapes in this line."""
        try:
            yield
        except Unusable:
            raise
        except SyntaxError as error:
            raise Unusable(f"{error}: {(error.text or '').strip()}".rstrip(": ")) from error
        except (Exception, SystemExit) as error:
            raise Unusable(_described(error, str(self.path))) from error


def _functions(code: str | bytes, path: Path | str = "solution") -> Functions:
    """Run code, and return what it defines."""
    defined: dict[str, Any] = {"__name__": Path(path).stem, "__file__": str(path)}
    exec(_compiled(code, str(path)), defined)
    return defined


@functools.lru_cache(256)                                     # each pair of mistakes is tried more than once
def _compiled(code: str | bytes, path: str) -> CodeType:
    return compile(code, path, "exec", dont_inherit=True)


def _described(error: BaseException, path: str) -> str:
    """Return the text of an error, with the last line of the student's file in it and the shapes in this line."""
    text = traceback.format_exception_only(error)[-1].strip()
    lines = [place for place in traceback.walk_tb(error.__traceback__) if place[0].f_code.co_filename == path]
    if not lines:
        return text
    frame, number = lines[-1]
    linecache.checkcache(path)
    line = linecache.getline(path, number).partition("  #")[0].strip()
    values = {name: frame.f_locals.get(name) for name in re.findall(r"\w+", line)}
    shapes = ", ".join(f"{name} is {value.shape}" for name, value in values.items() if isinstance(value, np.ndarray))
    if shapes and not isinstance(error, NameError):
        if re.search("mismatch|broadcast", text):             # the wrong array may have no name
            shapes += LOST * bool(LOST_AXIS.search(text))
            return f"line {number}, {line}: the shapes do not fit; {shapes}. NumPy says: {text}"
        text += f"; {shapes}"
    return f"line {number}, {line}: {text}"


def _tuple(returned: Any) -> tuple[Any, ...]:
    return tuple(returned) if isinstance(returned, tuple | list) else (returned,)


def difference(value: Any, right: Any) -> str:
    """Return how a value differs from the right one, and where most; an empty text if it does not.

    >>> difference(np.array([1.0, 2.5]), np.array([1.0, 2.0])), difference(np.ones(3), np.ones((1, 3)))
    ('at [1] it is 2.5, expected 2', 'its shape is (3,), expected (1, 3)')
    """
    value, right = np.asarray(value), np.asarray(right)
    if value.shape != right.shape:
        return f"its shape is {value.shape}, expected {right.shape}"
    if value.dtype.kind != right.dtype.kind:
        return f"its numbers are {value.dtype}, expected {right.dtype}"
    gaps = abs(value.astype(float) - right)
    if np.max(gaps, initial=0.0) <= max(SAME * np.max(abs(right), initial=0.0), ROUNDING):
        return ""
    place = tuple(map(int, np.unravel_index(np.argmax(gaps), gaps.shape)))
    numbers = value[place], right[place]
    digits = 4 if gaps[place] > 1e-3 * abs(right[place]) else 12
    texts = (str(x) if x.dtype == bool else f"{x * (abs(x) > ROUNDING) + 0.0:.{digits}g}" for x in numbers)   # no -0
    return "at {} it is {}, expected {}".format(list(place), *texts)
