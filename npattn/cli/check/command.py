"""`npattn check`: check every backward pass of the package with both methods, or one of the user's own."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from npattn import GradientError, GradientReport, check_gradients, check_layer
from npattn import attention as versions
from npattn.cli.check.cases import Case, cases
from npattn.cli.check.own_pair import Arguments, OwnPair, find_arguments, find_function, find_pair, read_arguments
from npattn.cli.terminal import Console, Parser, UsageError, integer_from, number_between, pad_right
from npattn.gradcheck import GradientWarning
from npattn.gradcheck.check import METHODS as CHOICES
from npattn.gradcheck.pair import argument_names
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

With the name of a version (v1 to v14), it checks that version alone.

With FUNCTIONs, it checks a pair of your own, forward(*args) -> (y, cache) and
backward(dy, cache) -> gradients. Write them as module:function. `layers:relu`
alone means relu and relu_backward, `layers` alone means forward and backward.
The current folder is searched for the module first.

With --layer, the one FUNCTION is a class, `layers:Dense`, or a function that
makes a layer object with forward(x) -> y and backward(dy) -> dx. The values
after --layer are passed to it. Its parameters and their gradients are found by
name, for instance W and dW, and the report says which were found.
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

--json prints one object for each report, on a line of its own: the fields of
npattn.GradientReport, "ok", "max_error", and "name". null stands for inf.

examples:
  %(prog)s
  %(prog)s v5
  %(prog)s layers:Dense --layer n_in=4 n_out=3 --args X:5,4
  %(prog)s layers:linear layers:linear_backward --args X:3,4 W:4,5 b:5
  %(prog)s layers:attend --args Q:3,4 X:5,4 mask:3,5:bool --seed 7
  %(prog)s model.py:forward model.py:backward --args model.py:make_args
"""

METHODS = ("complex-step", "central-difference")
VERSIONS = tuple(f"v{version.number}" for version in versions.VERSIONS + versions.MODERN_VERSIONS)
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
    add("--layer", dest="layer", metavar="NAME=VALUE", nargs="*", help="check a layer object, made with these values")
    add("--method", choices=CHOICES, help="how the numeric derivative is computed (default: auto)")
    add("--rtol", metavar="R", type=number_between(0, 1, without_low=True), help="the largest tolerated error")
    add("--seed", metavar="S", type=integer_from(0), help="seed of everything that is random (default: 0)")
    add = parser.add_argument_group("for the package").add_argument
    parser.add_argument("--json", action="store_true", help="print one JSON object for each report")
    add("--every-argument", action="store_true", help="print a table of all arguments below each line")
    add("--markdown", action="store_true", help="print one table in Markdown")


def run(args: argparse.Namespace, console: Console) -> int:
    """Check the package or the user's pair; return 1 when a gradient is wrong."""
    _refuse_misplaced_options(args)
    if not args.functions or _version(args):
        return check_package(args, console)
    if args.layer is not None:
        return check_layers(args, console)
    pair = find_pair(args.functions)
    return check_own(pair, find_arguments(args.arguments, pair.forward, args.seed or 0), args, console)


def _version(args: argparse.Namespace) -> str:
    """Return the version that is checked alone, or "" for none."""
    return args.functions[0] if len(args.functions) == 1 and args.functions[0] in VERSIONS else ""


def _refuse_misplaced_options(args: argparse.Namespace) -> None:
    of_package = not args.functions or _version(args)
    if not of_package and args.arguments is None:
        raise UsageError("--args is missing: the arguments of forward, as shapes like X:3,4 or as module:function")
    own = {"--args": args.arguments, "--layer": args.layer, "--method": args.method, "--rtol": args.rtol}
    own["--seed"] = args.seed
    package = {"--every-argument": args.every_argument, "--markdown": args.markdown}
    if args.json and (args.markdown or args.every_argument):
        raise UsageError("--json: expected without --markdown and --every-argument, which print no JSON")
    reason = "needs a FUNCTION of your own" if of_package else "is for the package, not for a FUNCTION of your own"
    for option, value in (own if of_package else package).items():
        if value is not None and value is not False:
            raise UsageError(f"{option} {reason}")


def check_own(pair: OwnPair, calls: Iterator[Arguments], args: argparse.Namespace, console: Console) -> int:
    """Print a report for each set of arguments."""
    all_right = True
    for call in calls:
        with _errors_of(pair.name, call, argument_names(pair.forward, len(call.args))):
            case = Case("", pair.name, pair.forward, pair.backward, call.args, call.kwargs)
            report = check(case, **_options(args))
        all_right &= report.ok
        show(report, pair.name, args, console)
        fixed = [key for key, value in call.kwargs.items() if any(floating_leaves(value))]
        if fixed and not args.json:
            console.line(f"· not differentiated, because forward takes it by keyword only: {', '.join(fixed)}")
    return 0 if all_right else 1


def check_layers(args: argparse.Namespace, console: Console) -> int:
    """Make a layer and print a report for each set of inputs."""
    if len(args.functions) > 1:
        raise UsageError(f"--layer: expected one class, got {' '.join(args.functions)}")
    make = find_function(args.functions[0])
    values = read_arguments(args.layer, np.random.default_rng(args.seed or 0), "--layer")
    all_right = True
    for call in find_arguments(args.arguments, None, args.seed or 0):
        with _errors_of(args.functions[0], call):
            report = report_of(check_layer, make(**values), call.args, **_options(args))
        all_right &= report.ok
        show(report, args.functions[0], args, console)
    return 0 if all_right else 1


def show(report: GradientReport, name: str, args: argparse.Namespace, console: Console) -> None:
    """Print a report as text, or with --json as one object."""
    if args.json:
        told = {"name": name, "ok": report.ok, "max_error": report.max_error, **dataclasses.asdict(report)}
        console.data(json.dumps(without_infinity(told), allow_nan=False))
    else:
        console.line(str(report))


def without_infinity(value: Any) -> Any:
    """Return a value with None for numbers that are not finite: JSON has none."""
    if isinstance(value, dict):
        return {key: without_infinity(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinity(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a check of the user's own code."""
    return {"method": args.method or "auto", "rtol": args.rtol, "rng": args.seed or 0}


@contextmanager
def _errors_of(name: str, call: Arguments, names: Sequence[str] = ()) -> Iterator[None]:
    """Say which arguments an error of the user's code came from, because they are random and not in sight."""
    try:
        yield
    except Exception as error:                                # the user's code may raise any error
        named = dict(zip(names or map("args[{}]".format, range(len(call.args))), call.args, strict=False)) | call.kwargs
        arrays = {key: value for key, value in named.items() if isinstance(value, np.ndarray)}
        shown = ", ".join(f"{key} {value.shape} {value.dtype}" for key, value in arrays.items())
        masks = [key for key, value in arrays.items() if "mask" in key and value.dtype.kind == "f"]
        hint = f"; for booleans write {masks[0]}:{','.join(map(str, arrays[masks[0]].shape))}:bool" if masks else ""
        text = f"{name}: {type(error).__name__}: {error}; the arguments were {shown or 'no arrays'}{hint}"
        raise ValueError(text) from error


def check_package(args: argparse.Namespace, console: Console) -> int:
    """Check every case with both methods, one line for each."""
    began, everything, wrong = time.perf_counter(), cases(), 0
    if _version(args):
        everything = [case for case in everything if re.match(rf"{_version(args)}\b", case.name)]
    if not args.json:
        console.lines(MARKDOWN_HEAD if args.markdown else [console.style(HEADING, "bold")])
    for group, members in groupby(everything, lambda case: case.group):
        if not args.markdown and not args.json:
            console.line(console.style(group, "bold"))
        for case in members:
            row = Row(case, tuple(check(case, method=method) for method in METHODS))
            if args.json:
                for report in row.reports:
                    show(report, case.name, args, console)
            else:
                console.line(markdown_line(row) if args.markdown else line(row, console))
            wrong += sum(not report.ok for report in row.reports)
            for report in row.reports:
                if (not report.ok and not args.json) or args.every_argument:
                    console.lines(("", str(report), ""))
    if not args.markdown and not args.json:
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
    return report_of(check_gradients, case.forward, case.backward, case.args, case.options, **options)


def report_of(check: Callable[..., GradientReport], *args: Any, **options: Any) -> GradientReport:
    """Return the report also of a check that fails. It is printed, with the notes that would be a warning too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradientWarning)
        try:
            return check(*args, **options)
        except GradientError as error:
            return error.report
