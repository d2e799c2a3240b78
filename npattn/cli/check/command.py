"""`npattn check`: prove every backward pass of the package in two ways, or one of the user's own."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from npattn import GradientError, GradientReport, check_gradients
from npattn.cli.check.cases import Case, cases
from npattn.cli.check.own_pair import Arguments, OwnPair, find_arguments, find_pair
from npattn.cli.terminal import Console, Parser, UsageError, left, number, whole
from npattn.gradcheck.check import METHODS as CHOICES
from npattn.gradcheck.report import Method
from npattn.gradcheck.trees import floating_leaves

DESCRIPTION = """\
Compares a backward pass with the derivative of its forward pass, for a random
cotangent. Without a FUNCTION: every backward of the package, in float64, by the
complex step, which is exact to rounding, and by central differences, which need
real numbers only.

An error is the largest |analytic - numeric| of a gradient over its largest
entry. Right means at most 1e-12 by the complex step and 1e-7 by central
differences. The exit status is 1 when anything is wrong.

With FUNCTIONs: a pair of your own, forward(*args) -> (y, cache) and
backward(dy, cache) -> gradients, named module:function. `layers:relu` alone is
relu and relu_backward, `layers` alone is forward and backward. The module is
looked for in this folder first.
"""

EXAMPLES = """\
arguments (--args), by the names that forward gives them:
  X:3,4          normal numbers, differentiated; s: is a single one
  X:3,4:float32  of this type, checked in float64
  mask:3,3:bool  True seven times in ten
  ids:2,5:0..9   whole numbers from 0 to 9
  eps=1e-5       any Python literal, or a word
  layers:make    or one function that returns a tuple of arguments or a dict by
                 name, or yields several; it may take a numpy.random.Generator

examples:
  npattn check
  npattn check layers:linear layers:linear_backward --args X:3,4 W:4,5 b:5
  npattn check layers:attend --args Q:3,4 X:5,4 mask:3,5:bool --seed 7
  npattn check model.py:forward model.py:backward --args model.py:make_args
"""

METHODS: tuple[Method, ...] = ("complex-step", "central-difference")
HEADINGS = ("", "numbers", "complex step", "central")


class Row(NamedTuple):
    """A case and what was found, by each of the METHODS."""

    case: Case
    reports: tuple[GradientReport, ...]

    @property
    def ok(self) -> bool:
        return all(report.ok for report in self.reports)

    @property
    def numbers(self) -> int:
        """Count the derivatives: the entries of all gradients."""
        return sum(math.prod(argument.shape) for argument in self.reports[0].arguments)


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "check",
        help="prove every gradient, or your own",
        usage="%(prog)s [FUNCTION [FUNCTION] --args ARG [ARG ...]] [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        **kwargs,
    )
    parser.set_defaults(run=run)
    parser.add_argument("functions", metavar="FUNCTION", nargs="*", help="module:forward and module:backward")
    own = parser.add_argument_group("for functions of your own")
    own.add_argument("--args", dest="arguments", metavar="ARG", nargs="+", help="what to call forward with, see below")
    own.add_argument("--method", choices=CHOICES, help="how slopes are measured (default: auto)")
    own.add_argument("--rtol", metavar="R", type=number(0, math.inf, without_low=True), help="error to tolerate")
    own.add_argument("--seed", metavar="S", type=whole(0), help="of arguments, cotangent, directions (default: 0)")
    package = parser.add_argument_group("for the package")
    package.add_argument("--every-argument", action="store_true", help="a table of all arguments below each line")
    package.add_argument("--markdown", action="store_true", help="one table in Markdown")


def run(args: argparse.Namespace, console: Console) -> int:
    """Check what is asked for; return 1 when something is wrong."""
    try:
        _refuse_useless_options(args)
        if not args.functions:
            return check_package(args, console)
        pair = find_pair(args.functions)
        return check_own(pair, find_arguments(args.arguments, pair.forward, args.seed or 0), args, console)
    except UsageError as error:
        raise UsageError(str(error), error.prog or f"{args.prog} check") from error


def _refuse_useless_options(args: argparse.Namespace) -> None:
    if args.functions and args.arguments is None:
        raise UsageError("--args is missing, what to call forward with: shapes as in X:3,4, or module:function")
    own = {"--args": args.arguments, "--method": args.method, "--rtol": args.rtol, "--seed": args.seed}
    package = {"--every-argument": args.every_argument, "--markdown": args.markdown}
    reason = "is for the package, not for a FUNCTION of your own" if args.functions else "needs a FUNCTION of your own"
    for option, value in (package if args.functions else own).items():
        if value is not None and value is not False:
            raise UsageError(f"{option} {reason}")


def check_own(pair: OwnPair, calls: Iterator[Arguments], args: argparse.Namespace, console: Console) -> int:
    """Print a report for each set of arguments."""
    options = {"method": args.method or "auto", "rtol": args.rtol, "rng": args.seed or 0}
    is_right = True
    for call in calls:
        try:
            report = check_gradients(pair.forward, pair.backward, call.args, call.kwargs, **options)
        except GradientError as error:
            report, is_right = error.report, False
        except Exception as error:                            # of the user's code, or about it
            raise ValueError(f"{pair.name}: {type(error).__name__}: {error}") from error
        console.line(str(report))
        fixed = [key for key, value in call.kwargs.items() if any(floating_leaves(value))]
        if fixed:
            console.line(f"· not differentiated, as forward takes it by keyword only: {', '.join(fixed)}")
    return 0 if is_right else 1


def check_package(args: argparse.Namespace, console: Console) -> int:
    """Check every case in both ways, a line each."""
    began, everything, wrong, group = time.perf_counter(), cases(), 0, ""
    console.lines(markdown_head() if args.markdown else [heading(console)])
    for case in everything:
        row = Row(case, tuple(check(case, method) for method in METHODS))
        if case.group != group and not args.markdown:
            group = case.group
            console.line(console.style(group, "bold"))
        console.line(markdown_line(row) if args.markdown else line(row, console))
        for report in row.reports:
            if not report.ok or args.every_argument:
                console.lines(("", str(report), ""))
            wrong += not report.ok
    if not args.markdown:
        seconds = time.perf_counter() - began
        verdict = f"{wrong} of these checks failed" if wrong else "every gradient is right"
        console.line(f"\n{len(everything)} cases, each checked in both ways, in {seconds:.0f} s: {verdict}")
    return 1 if wrong else 0


def heading(console: Console) -> str:
    return console.style("{:40}{:>9}{:>14}{:>9}".format(*HEADINGS), "bold")


def line(row: Row, console: Console) -> str:
    verdict = console.style("right", "green") if row.ok else console.style("WRONG", "red", "bold")
    exact, central = (report.max_error for report in row.reports)
    return f"  {left(row.case.name, 38)}{row.numbers:>9,}{exact:>14.1e}{central:>9.1e}  {verdict}"


def markdown_head() -> list[str]:
    return ["| backward | numbers | complex step | central differences |", "|---|---:|---:|---:|"]


def markdown_line(row: Row) -> str:
    errors = " | ".join(f"{report.max_error:.1e}" + " **wrong**" * (not report.ok) for report in row.reports)
    return f"| {row.case.group}: {row.case.name} | {row.numbers:,} | {errors} |"


def check(case: Case, method: Method) -> GradientReport:
    """Return the report of one check, also of one that fails."""
    try:
        return check_gradients(case.forward, case.backward, case.args, case.options, method=method)
    except GradientError as error:
        return error.report
