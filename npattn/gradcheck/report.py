"""The outcome of a check as a value, and as a table of at most 80 columns."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal, TypeAlias

Method: TypeAlias = Literal["complex-step", "central-difference"]
Verdict: TypeAlias = Literal["ok", "zero", "kink", "wrong", "shape", "dtype", "noisy"]

PASSING = ("ok", "zero", "kink")
WIDTH = 80


@dataclass(frozen=True)
class ArgumentReport:
    """What was found about the gradient of one array.

    `verdict` is one of

    - ``ok``: right, to the tolerance or to the rounding noise of forward;
    - ``zero``: nothing in it stands out of rounding noise, neither analytic nor numeric;
    - ``kink``: right beside the arguments, which sit on a kink where there is no derivative;
    - ``wrong``;
    - ``shape``, ``dtype``: unlike the argument's;
    - ``noisy``: not to be judged, because rounding in forward hides the slope.
    """

    name: str  # as one would write it: X, params['W'], layers[0].gamma
    shape: tuple[int, ...]
    dtype: str
    method: Method
    coverage: str  # "12 entries", "3 directions, 2 entries", "3 directions of 9 arguments"
    error: float  # |analytic − numeric| / largest |gradient| of the array (of its neighbours for "zero")
    index: tuple[int, ...] | None  # of the worst entry; None if the worst slope was along a direction
    analytic: float | None  # the worst slope; None if its direction moves other arguments as well
    numeric: float | None
    verdict: Verdict
    hint: str | None = None
    noise: float = 0.0  # rounding relative to the gradient, where it had to be allowed for

    @property
    def ok(self) -> bool:
        """Whether the verdict is ok, zero or kink."""
        return self.verdict in PASSING


@dataclass(frozen=True)
class GradientReport:
    """The outcome of `npattn.check_gradients`; `str` makes a table of it."""

    title: str
    method: Method
    rtol: float
    arguments: tuple[ArgumentReport, ...]
    problems: tuple[str, ...] = ()  # broken promises other than wrong numbers
    notes: tuple[str, ...] = ()  # what to know about the way the check was made

    @property
    def ok(self) -> bool:
        """Whether every gradient is right and no promise is broken."""
        return not self.problems and all(argument.ok for argument in self.arguments)

    @property
    def max_error(self) -> float:
        """The largest error of all arguments; inf if one could not be compared."""
        return max((argument.error for argument in self.arguments), default=0.0)

    def __getitem__(self, name: str) -> ArgumentReport:
        """Return the report on one array by its name. Raises KeyError when there is none of that name."""
        for argument in self.arguments:
            if argument.name == name:
                return argument
        raise KeyError(f"{name}: expected one of {', '.join(argument.name for argument in self.arguments)}")

    def __str__(self) -> str:
        lines = _wrapped("", f"{self.title}: {self._summary()}")
        if self.arguments:
            lines += [_line(HEADINGS), *(_line(_cells(argument)) for argument in self.arguments)]
        hints = [f"{argument.name}: {argument.hint}" for argument in self.arguments if argument.hint]
        for text in (*hints, *self.problems):
            lines += _wrapped("✗ ", text)
        for note in self.notes:
            lines += _wrapped("· ", note)
        return "\n".join(lines)

    def _summary(self) -> str:
        bad = [argument.name for argument in self.arguments if not argument.ok]
        if bad:
            others = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
            return f"not right for {', '.join(bad[:3])}{others}"
        if self.problems:
            return "the numbers are right, but" if self.arguments else "stopped before any number was compared"
        n = len(self.arguments)
        return f"{n} gradient{'s' * (n != 1)} right, largest error {self.max_error:.1e}"


class GradientError(AssertionError):
    """A gradient is wrong, or the pair breaks another promise; `report` says which and how."""

    def __init__(self, report: GradientReport) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return str(self.report)


HEADINGS = ("argument", "method", "error", "worst at", "analytic", "numeric", "verdict")
COLUMNS = ("<21", "<7", ">7", "<11", ">10", ">10", "<7")


def _line(cells: tuple[str, ...]) -> str:
    return " ".join(f"{cell:{column}}" for cell, column in zip(cells, COLUMNS, strict=True)).rstrip()


def _cells(argument: ArgumentReport) -> tuple[str, ...]:
    index = "direction" if argument.index is None else "(" + ", ".join(map(str, argument.index)) + ")"
    slopes = ("–" if x is None else _number(x, 3, 10) for x in (argument.analytic, argument.numeric))
    return (
        _elided(argument.name, 21),
        argument.method.partition("-")[0],
        _number(argument.error, 1, 7),
        "–" if argument.analytic is None else _elided(index, 11),
        *slopes,
        argument.verdict,
    )


def _number(x: float, digits: int, width: int) -> str:
    """Give up a digit for an exponent of three."""
    text = f"{x:.{digits}e}"
    return text if len(text) <= width else f"{x:.{digits - 1}e}"


def _elided(text: str, width: int) -> str:
    """Keep the end of a long name, which tells it from its neighbours."""
    return text if len(text) <= width else "…" + text[1 - width :]


def _wrapped(mark: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark))
