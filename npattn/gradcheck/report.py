"""The result of a check: a value that prints as a table of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Method: TypeAlias = Literal["complex-step", "central-difference"]
Verdict: TypeAlias = Literal["ok", "zero", "kink", "wrong", "shape", "dtype", "noisy"]

PASSING = ("ok", "zero", "kink")
WIDTH, INDEX_WIDTH = 80, 11


@dataclass(frozen=True)
class ArgumentReport:
    """The result for the gradient of one array.

    - name: the Python expression for the array: ``X``, ``params['W']``, ``layers[0].gamma``.
    - shape, dtype: of the array.
    - method: ``complex-step`` or ``central-difference``.
    - coverage: what was compared: "12 entries", "3 directions, 2 entries", "3 directions of 9 arguments".
    - error: |analytic − numeric| / largest |gradient| of the array; for "zero", relative to the reference slope (see
      `npattn.gradcheck.noise`). inf if the gradient could not be compared.
    - index: of the entry with the largest error; None if the largest error is along a direction.
    - analytic, numeric: the two slopes with the largest error. None if their direction moves other arguments as well.
    - verdict: one of the words below.
    - hint: what kind of error it is; None if nothing is wrong or nothing is recognised.
    - noise: rounding relative to the gradient, where a check had to allow for it; otherwise 0.

    The verdicts:

    - ``ok``: right to the tolerance, or to the rounding noise of forward;
    - ``zero``: analytic and numeric gradient are both zero or rounding noise;
    - ``kink``: right at a point nearby; the arguments are on a kink, where there is no derivative;
    - ``wrong``: the error is larger than the tolerance and the noise;
    - ``shape``, ``dtype``: not that of the argument;
    - ``noisy``: unknown, because rounding in forward is too large, or because a function draws at random.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    method: Method
    coverage: str
    error: float
    index: tuple[int, ...] | None
    analytic: float | None
    numeric: float | None
    verdict: Verdict
    hint: str | None = None
    noise: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the verdict is ok, zero or kink."""
        return self.verdict in PASSING


@dataclass(frozen=True)
class GradientReport:
    """The result of `npattn.check_gradients`. `str` gives a table; ``report["W"]`` is the result for one array.

    - title: the name of forward, with its module.
    - method: ``complex-step`` or ``central-difference``.
    - rtol: the tolerance of errors.
    - arguments: one `ArgumentReport` for each floating array; empty if the check stopped before the numbers.
    - problems: broken promises other than wrong numbers, one sentence each.
    - notes: facts about how the check was made, one sentence each.
    """

    title: str
    method: Method
    rtol: float
    arguments: tuple[ArgumentReport, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every gradient is right and no promise is broken."""
        return not self.problems and all(argument.ok for argument in self.arguments)

    @property
    def max_error(self) -> float:
        """The largest error of all arguments; inf if one could not be compared."""
        return max((argument.error for argument in self.arguments), default=0.0)

    def __getitem__(self, name: str) -> ArgumentReport:
        """Return the report on one array.

        - name: of the array, as in `ArgumentReport`. Raises KeyError if there is no array of that name.
        """
        for argument in self.arguments:
            if argument.name == name:
                return argument
        raise KeyError(f"{name}: expected one of {', '.join(argument.name for argument in self.arguments)}")

    def __str__(self) -> str:
        lines = _wrapped("", f"{self.title}: {self._summary()}")
        if self.arguments:
            lines += [_line(HEADINGS), *(_line(_cells(argument)) for argument in self.arguments)]
        hints = [f"{argument.name}: {argument.hint}" for argument in self.arguments if argument.hint]
        cut = [a for a in self.arguments if not a.ok and a.index and "…" in _place(a.index)]
        places = [f"{a.name}: worst at {a.index}" for a in cut]
        for text in (*hints, *places, *self.problems):
            lines += _wrapped("✗ ", text)
        for note in self.notes:
            lines += _wrapped("· ", note)
        return "\n".join(lines)

    def _summary(self) -> str:
        bad = [argument.name for argument in self.arguments if not argument.ok]
        if bad:
            return f"not right for {listed(bad)}"
        if self.problems:
            return "the numbers are right, but" if self.arguments else "stopped before any number was compared"
        n = len(self.arguments)
        return f"{n} gradient{'s' * (n != 1)} right, largest error {self.max_error:.1e}"


class GradientError(AssertionError):
    """A gradient is wrong, or the pair breaks another promise. It prints as its report does.

    - report: the `GradientReport` of the check, also in the attribute `report`.
    """

    def __init__(self, report: GradientReport) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return str(self.report)


class GradientWarning(UserWarning):
    """A check passed and proves little: every gradient was zero, or there was no number to compare."""


HEADINGS = ("argument", "method", "error", "worst at", "analytic", "numeric", "verdict")
COLUMNS = ("<21", "<7", ">7", "<11", ">10", ">10", "<7")


def listed(names: Sequence[str]) -> str:
    """Return the first three names and the number of the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _line(cells: tuple[str, ...]) -> str:
    return " ".join(f"{cell:{column}}" for cell, column in zip(cells, COLUMNS, strict=True)).rstrip()


def _cells(argument: ArgumentReport) -> tuple[str, ...]:
    index = "direction" if argument.index is None else _place(argument.index)
    slopes = ("–" if x is None else _number(x, 3, 10) for x in (argument.analytic, argument.numeric))
    return (
        _elided(argument.name, 21),
        argument.method.partition("-")[0],
        _number(argument.error, 1, 7),
        "–" if argument.analytic is None else index,
        *slopes,
        argument.verdict,
    )


def _place(index: tuple[int, ...]) -> str:
    """Return an index, without spaces if it is too long with them, and its end if it is too long without."""
    text = "(" + ", ".join(map(str, index)) + ")"
    short = text.replace(" ", "")
    return short if len(text) > INDEX_WIDTH >= len(short) else _elided(text, INDEX_WIDTH)


def _number(x: float, digits: int, width: int) -> str:
    """Return x with one digit less if its exponent has three digits."""
    text = f"{x:.{digits}e}"
    return text if len(text) <= width else f"{x:.{digits - 1}e}"


def _elided(text: str, width: int) -> str:
    """Return the end of a long name, because long names often differ only there."""
    return text if len(text) <= width else "…" + text[1 - width :]


def _wrapped(mark: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark))
