"""`npattn conform`: judge an implementation of attention or of a layer, or write the cases for other languages."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from npattn.cli.check.own_pair import find_function
from npattn.cli.terminal import Console, Parser, UsageError, nonempty_path
from npattn.conformance.bounds import PRECISIONS
from npattn.conformance.case import KINDS
from npattn.conformance.export import FORMATS, compare, export
from npattn.conformance.judging import FRAMEWORKS
from npattn.conformance.runner import Report, chosen, judge

DESCRIPTION = """\
Judges an implementation of attention, outputs and gradients, on cases whose
right answers are known. Write it as module:function; the current folder is
searched for the module first. It is called as attention(Q, K, V, ...), and
returns Y or (Y, cache). Options come by name: mask (True = may attend), bias,
scale, causal, offset, window, sinks, softcap, grouped. An option that the
signature lacks, or that raises NotImplementedError, is skipped, and the report
says so. In NumPy, gradients come from module:function_backward, if there is
one: backward(dY, cache) returns them in the order Q, K, V, bias, sinks. With
torch or jax they come from its automatic differentiation.

An error of 1 is as large as right arithmetic of the dtype can reach, by the
rules of rounding. A larger error is a fault, and the report says which known
fault gives such numbers. The exit status is 1 when a case fails, or when
nothing was tested.

For other languages, --export DIR writes the cases, with an index.json that
README.md in npattn/conformance documents, and --compare DIR judges the answers
that your program wrote beside them.
"""

EXAMPLES = """\
other layers (--of), as they are called:
  rotary(X, pairing=, base=, positions=)   softmax(E, mask=)
  layer_norm(X, gamma, beta, eps=)         rms_norm(X, gamma, eps=)
  cross_entropy(logits, targets, smoothing=, ignore_id=)
  gelu(X, approximate="tanh")              embedding(ids, W_E)
  swiglu(X, gate=, limit=, slope=, unit_offset=)    X: gate | up, side by side
  adam(p, gradients, lr=, betas=, eps=, weight_decay=)    p after all steps

examples:
  %(prog)s mykernel:attention
  %(prog)s mykernel:attention --framework torch --dtype bfloat16
  %(prog)s mykernel:attention --only causal,grouped --skip sinks
  %(prog)s layers:norm --of layer_norm --backward layers:norm_back
  %(prog)s --export cases --format raw
  %(prog)s --compare cases
"""


def words(text: str) -> tuple[str, ...]:
    """Parse words with commas between them."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "conform",
        help="judge anybody's attention",
        usage="%(prog)s FUNCTION [options] | --export DIR [options] | --compare DIR",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        **kwargs,
    )
    parser.set_defaults(run=run)
    parser.add_argument("function", metavar="FUNCTION", nargs="?", help="module:function")
    add = parser.add_argument
    add("--backward", metavar="FUNCTION", help="its backward (default: FUNCTION_backward, if there is one)")
    add("--framework", choices=FRAMEWORKS, help="whose arrays it takes (default: numpy)")
    add("--of", choices=tuple(KINDS), help="what it computes (default: attention; for --export all of them)")
    add("--only", metavar="WORDS", type=words, default=(), help="cases whose name contains one of these words")
    add("--skip", metavar="WORDS", type=words, help="leave out cases whose name contains one of these words")
    add("--dtype", choices=tuple(PRECISIONS), default="float32", help="of the arrays (default: float32)")
    add("--accumulate", choices=tuple(PRECISIONS), help="of sums (default: float32 with 16 bits, else the dtype)")
    add("--export", metavar="DIR", type=nonempty_path, help="write the cases into a new folder")
    add("--format", choices=FORMATS, help="of the exported arrays (default: raw)")
    add("--compare", metavar="DIR", type=nonempty_path, help="judge the answers in a folder of --export")


def run(args: argparse.Namespace, console: Console) -> int:
    """Judge, write or compare; return 1 when a case fails or nothing was tested."""
    asked = {"FUNCTION": args.function, "--export": args.export, "--compare": args.compare}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise UsageError(f"expected one of FUNCTION, --export and --compare, got {' and '.join(given) or 'none'}")
    _refuse_misplaced_options(given[0], args)
    kinds = (args.of,) if args.of else tuple(KINDS) if args.export else ("attention",)
    if args.only and not any(chosen(kind, args.dtype, args.only) for kind in kinds):
        raise UsageError(f"--only: no case of {', '.join(kinds)} has a name with {' or '.join(args.only)} in it")
    if args.export is not None:
        return _export(args, console)
    reports = compare(args.compare) if args.compare is not None else [_judge(args)]
    for report in reports:
        for line in report.lines():
            console.line(line)
        if any("expected the dtype" in outcome.message for outcome in report.outcomes):
            console.line("A function that computes in NumPy's float64 is judged with --dtype float64.")
    return 0 if all(report.ok for report in reports if report.tested) and any(r.tested for r in reports) else 1


def _refuse_misplaced_options(mode: str, args: argparse.Namespace) -> None:
    of_function = ("backward", "framework", "skip", "accumulate")
    of_cases = (*of_function, "format", "of", "only")
    for name in {"FUNCTION": ("format",), "--export": of_function, "--compare": of_cases}[mode]:
        if getattr(args, name):
            raise UsageError(f"--{name} doesn't go with {mode}")


def _judge(args: argparse.Namespace) -> Report:
    forward, backward = find_function(args.function), None
    framework = args.framework or "numpy"
    if args.backward is not None:
        backward = find_function(args.backward)
    elif framework == "numpy":
        with contextlib.suppress(UsageError):                 # then outputs alone, and the report says so
            backward = find_function(f"{args.function}_backward")
    return judge(
        forward, backward, framework=framework, of=args.of or "attention", only=args.only, skip=args.skip or (),
        dtype=args.dtype, accumulate=args.accumulate,
    )  # fmt: skip


def _export(args: argparse.Namespace, console: Console) -> int:
    folder: Path = args.export
    kinds = (args.of,) if args.of else tuple(KINDS)
    count = export(folder, of=kinds, only=args.only, dtype=args.dtype, format=args.format or "raw")
    console.line(f"{folder}: {count} cases and index.json. Write the answers beside them, then: --compare {folder}")
    return 0
