"""`npattn check`: check every backward pass of the package with both methods, or one of the user's own."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from npattn import GradientError, GradientReport, check_gradients
from npattn.cli.check.cases import Case, cases
from npattn.cli.check.own_pair import Arguments, OwnPair, find_arguments, find_pair
from npattn.cli.terminal import Console, Parser, UsageError, integer_from, number_between, pad_right
from npattn.gradcheck.check import METHODS as CHOICES
from npattn.gradcheck.trees import floating_leaves

DESCRIPTION = """\
Compares a backward pass with the numeric derivative of its forward pass, for a
random cotangent dy: the gradient of the loss with respect to the output.

Without a FUNCTION, it checks every backward pass of the package in float64 with
two methods: the complex step, which is exact to rounding, and central
differences, which also work for code that takes real numbers only.

The error of a gradient is its largest |analytic - numeric|, divided by its
largest entry. "right" means at most 1e-12 by the complex step and 1e-7 by
central differences. The exit status is 1 when a gradient is wrong.

With FUNCTIONs, it checks a pair of your own, forward(*args) -> (y, cache) and
backward(dy, cache) -> gradients. Write them as module:function. `layers:relu`
alone means relu and relu_backward, `layers` alone means forward and backward.
The current folder is searched for the module first.
"""

EXAMPLES = """\
arguments (--args), with the names that forward gives them:
  X:3,4          normal random numbers of shape (3, 4), differentiated;
                 s: is a single number
  X:3,4:float32  the same in float32; the check computes in float64
  mask:3,3:bool  random booleans, True with probability 0.7
  ids:2,5:0..9   random whole numbers from 0 to 9
  eps=1e-5       a Python literal, or a word
  layers:make    a function that returns a tuple of arguments or a dict by name,
                 or yields several; it may take a numpy.random.Generator

examples:
  %(prog)s
  %(prog)s layers:linear layers:linear_backward --args X:3,4 W:4,5 b:5
  %(prog)s layers:attend --args Q:3,4 X:5,4 mask:3,5:bool --seed 7
  %(prog)s model.py:forward model.py:backward --args model.py:make_args
"""

METHODS = ("complex-step", "central-difference")
HEADING = f"{'numbers':>49}{'complex step':>14}{'central':>9}"
MARKDOWN_HEAD = ("| backward | numbers | complex step | central differences |", "|---|---:|---:|---:|")


class Row(NamedTuple):
    """A case with a report for each of the METHODS."""

    case: Case
    reports: tuple[GradientReport, ...]

    @property
    def numbers(self) -> int:
        """Count the derivatives: the entries of all gradients."""
        return sum(math.prod(argument.shape) for argument in self.reports[0].arguments)


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "check",
        help="check every gradient, or your own",
        usage="%(prog)s [FUNCTION [FUNCTION] --args ARG [ARG ...]] [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        **kwargs,
    )
    parser.set_defaults(run=run)
    parser.add_argument("functions", metavar="FUNCTION", nargs="*", help="module:forward and module:backward")
    add = parser.add_argument_group("for functions of your own").add_argument
    add("--args", dest="arguments", metavar="ARG", nargs="+", help="the arguments of forward, see below")
    add("--method", choices=CHOICES, help="how the numeric derivative is computed (default: auto)")
    add("--rtol", metavar="R", type=number_between(0, math.inf, without_low=True), help="the largest tolerated error")
    add("--seed", metavar="S", type=integer_from(0), help="seed of everything that is random (default: 0)")
    add = parser.add_argument_group("for the package").add_argument
    add("--every-argument", action="store_true", help="print a table of all arguments below each line")
    add("--markdown", action="store_true", help="print one table in Markdown")


def run(args: argparse.Namespace, console: Console) -> int:
    """Check the package or the user's pair; return 1 when a gradient is wrong."""
    _refuse_misplaced_options(args)
    if not args.functions:
        return check_package(args, console)
    pair = find_pair(args.functions)
    return check_own(pair, find_arguments(args.arguments, pair.forward, args.seed or 0), args, console)


def _refuse_misplaced_options(args: argparse.Namespace) -> None:
    if args.functions and args.arguments is None:
        raise UsageError("--args is missing: the arguments of forward, as shapes like X:3,4 or as module:function")
    own = {"--args": args.arguments, "--method": args.method, "--rtol": args.rtol, "--seed": args.seed}
    package = {"--every-argument": args.every_argument, "--markdown": args.markdown}
    reason = "is for the package, not for a FUNCTION of your own" if args.functions else "needs a FUNCTION of your own"
    for option, value in (package if args.functions else own).items():
        if value is not None and value is not False:
            raise UsageError(f"{option} {reason}")


def check_own(pair: OwnPair, calls: Iterator[Arguments], args: argparse.Namespace, console: Console) -> int:
    """Print a report for each set of arguments."""
    options = {"method": args.method or "auto", "rtol": args.rtol, "rng": args.seed or 0}
    all_right = True
    for call in calls:
        try:
            report = check(Case("", pair.name, pair.forward, pair.backward, call.args, call.kwargs), **options)
        except Exception as error:                            # the user's code may raise any error
            raise ValueError(f"{pair.name}: {type(error).__name__}: {error}") from error
        all_right &= report.ok
        console.line(str(report))
        fixed = [key for key, value in call.kwargs.items() if any(floating_leaves(value))]
        if fixed:
            console.line(f"· not differentiated, because forward takes it by keyword only: {', '.join(fixed)}")
    return 0 if all_right else 1


def check_package(args: argparse.Namespace, console: Console) -> int:
    """Check every case with both methods, one line for each."""
    began, everything, wrong = time.perf_counter(), cases(), 0
    console.lines(MARKDOWN_HEAD if args.markdown else [console.style(HEADING, "bold")])
    for group, members in groupby(everything, lambda case: case.group):
        if not args.markdown:
            console.line(console.style(group, "bold"))
        for case in members:
            row = Row(case, tuple(check(case, method=method) for method in METHODS))
            console.line(markdown_line(row) if args.markdown else line(row, console))
            wrong += sum(not report.ok for report in row.reports)
            for report in row.reports:
                if not report.ok or args.every_argument:
                    console.lines(("", str(report), ""))
    if not args.markdown:
        seconds = time.perf_counter() - began
        verdict = f"{wrong} of these checks failed" if wrong else "every gradient is right"
        console.line(f"\n{len(everything)} cases, each checked in both ways, in {seconds:.0f} s: {verdict}")
    return 1 if wrong else 0


def line(row: Row, console: Console) -> str:
    is_right = all(report.ok for report in row.reports)
    verdict = console.style("right", "green") if is_right else console.style("WRONG", "red", "bold")
    exact, central = (report.max_error for report in row.reports)
    return f"  {pad_right(row.case.name, 38)}{row.numbers:>9,}{exact:>14.1e}{central:>9.1e}  {verdict}"


def markdown_line(row: Row) -> str:
    errors = " | ".join(f"{report.max_error:.1e}" + " **wrong**" * (not report.ok) for report in row.reports)
    return f"| {row.case.group}: {row.case.name} | {row.numbers:,} | {errors} |"


def check(case: Case, **options: Any) -> GradientReport:
    """Return the report of a case. For a wrong gradient it is in the error that `check_gradients` raises."""
    try:
        return check_gradients(case.forward, case.backward, case.args, case.options, **options)
    except GradientError as error:
        return error.report
