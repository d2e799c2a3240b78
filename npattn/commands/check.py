"""`npattn check`: prove every backward pass of the package, in two ways."""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

from npattn import GradientError, GradientReport, check_gradients
from npattn.commands.arguments import Parser
from npattn.commands.cases import Case, cases
from npattn.commands.console import Console, left
from npattn.gradcheck.report import Method

DESCRIPTION = """\
Compares every backward pass with the derivative of its forward pass, for random
arguments and a random cotangent, in float64: by the complex step, which is
exact to rounding, and by central differences, which need real numbers only.

An error is the largest |analytic − numeric| of a gradient over its largest
entry. Right means at most 1e-12 by the complex step and 1e-7 by central
differences. The exit status is 1 when anything is wrong.
"""

METHODS: tuple[Method, ...] = ("complex-step", "central-difference")


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "check", help="prove the gradient of every backward", description=DESCRIPTION, **kwargs
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> int:
    """Check everything, a line each; return 1 when something is wrong."""
    began, group = time.perf_counter(), ""
    wrong: list[str] = []
    everything = cases()
    console.line(console.style(f"{'':40}{'numbers':>9}{'complex step':>14}{'central':>9}", "bold"))
    for case in everything:
        if case.group != group:
            group = case.group
            console.line(console.style(group, "bold"))
        reports = [check(case, method) for method in METHODS]
        right = all(report.ok for report in reports)
        verdict = console.style("right", "green") if right else console.style("WRONG", "red", "bold")
        errors = f"{reports[0].max_error:>14.1e}{reports[1].max_error:>9.1e}"
        console.line(f"  {left(case.name, 38)}{numbers(reports[0]):>9,}{errors}  {verdict}")
        wrong += [str(report) for report in reports if not report.ok]
    for report in wrong:
        console.lines(("", report))
    console.line()
    seconds = time.perf_counter() - began
    verdict = f"{len(wrong)} of these checks failed" if wrong else "every gradient is right"
    console.line(f"{len(everything)} cases, each checked in both ways, in {seconds:.0f} s: {verdict}")
    return 1 if wrong else 0


def numbers(report: GradientReport) -> int:
    """Count the derivatives in a report: the entries of all its gradients."""
    return sum(math.prod(argument.shape) for argument in report.arguments)


def check(case: Case, method: Method) -> GradientReport:
    """Return the report of one check, also of one that fails."""
    try:
        return check_gradients(case.forward, case.backward, case.args, case.options, method=method)
    except GradientError as error:
        return error.report
