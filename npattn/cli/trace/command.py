"""`npattn trace`: print every matrix of a forward beside its gradient, with the code that makes them."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.cli.check.own_pair import find_arguments, find_pair, read_arguments
from npattn.cli.explain.topics import Topic, names
from npattn.cli.terminal import WIDTH, Console, Parser, UsageError, command_line, integer_from
from npattn.cli.trace.example import example, targets
from npattn.learn.trace import Trace, Value, trace
from npattn.learn.trace.text import DIGITS, LEGEND
from npattn.learn.trace.transformer import Reading, trace_layer, trace_model
from npattn.learn.trace.value import TOLERANCE
from npattn.runs.load import load_model

DESCRIPTION = """\
Prints every matrix of a forward pass beside its gradient, in the order of the
formula, with the line of code that makes it. The functions run statement by
statement, so what is shown is what they compute. The numbers are those of the
worked example in the docstring.

TARGET is one of:

  v1 … v14        a version of attention; v5 has a second query of 0 here
  softmax, …      a layer; `npattn explain` lists their names
  encoder_layer   a small layer of the Transformer, at random numbers;
  decoder_layer   --norm pre moves its norms
  g2p WORD        a trained model, or the folder of a run: how it reads the
                  word. The loss is -log P of the target
  module:forward  functions of your own, as in `npattn check`; their backward
                  is module:backward, or follows as a second name. The
                  gradients are compared with the complex step, and the first
                  one that goes wrong is named
"""

EXAMPLES = """\
examples:
  %(prog)s v5
  %(prog)s v5 --args Q:3,4 "mask=None" --seed 7
  %(prog)s layer_norm --digits 6
  %(prog)s encoder_layer --layer self_attention
  %(prog)s g2p knight
  %(prog)s g2p read --target "R IY D" --layer decoder.2.cross_attention
  %(prog)s v5.py:forward --args Q:2,4 X:3,5 W_K:5,4 W_V:5,2
  %(prog)s layers.py:attend layers.py:attend_backward --args Q:3,4 X:5,4
"""

LAYERS = ("encoder_layer", "decoder_layer")

#: What a TARGET can be, and the options that are for some of it only.
KINDS = {
    "topic": "a version or a layer",
    "layer": "encoder_layer and decoder_layer",
    "model": "a trained model with a WORD",
    "own": "functions of your own",
}
OPTIONS = {
    "args": ("topic", "own"), "seed": ("topic", "own", "layer"), "norm": ("layer",), "target": ("model",),
    "layer": ("layer", "model"),
}  # fmt: skip

#: What the numbers in the comments of a version are.
NUMBERS = "Numbers in comments, as in # 1, 3, are those of the changes that {} lists."

SIZES = (
    "The size is the root of the sum of squares. The gradient says how much the loss moves, to first order, for a step "
    "of size 1 in the worst direction."
)


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "trace",
        help="every number of a backward",
        usage="%(prog)s TARGET [WORD] [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        **kwargs,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("names", metavar="TARGET", nargs="+", help="what to trace, see above")
    add("--digits", metavar="N", type=integer_from(0), default=DIGITS, help=f"decimals (default: {DIGITS})")
    add("--json", action="store_true", help="print all numbers, and the steps in their order, as one JSON object")
    add("--layer", metavar="PART", help="show this part in full, such as encoder.0.self_attention")
    add("--target", metavar="TEXT", help="what the trained model is to write (default: what it would write)")
    add("--norm", choices=("post", "pre"), help="where a layer of the Transformer has its norms (default: post)")
    add("--args", metavar="ARG", nargs="+", help="other arguments of forward, as for `npattn check`")
    add("--seed", metavar="S", type=integer_from(0), help="seed of what is random (default: 0)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Print a trace; return 1 when a gradient of the user's own functions is wrong."""
    name, *rest = args.names
    kind = "own" if ":" in name or name.endswith(".py") else "model" if rest else "layer" if name in LAYERS else "topic"
    for option, kinds in OPTIONS.items():
        if kind not in kinds and getattr(args, option) is not None:
            suitable = " or ".join(KINDS[each] for each in kinds)
            raise UsageError(f"--{option}: it is for {suitable}, not for {KINDS[kind]}")
    if kind == "own":
        return run_own(args, console)
    if kind == "model":
        show_reading(trace_model(load_model(name), " ".join(rest), args.target), args, console)
    elif kind == "layer":
        side: Any = name.removesuffix("_layer")
        found = trace_layer(side, args.norm or "post", args.seed or 0)
        show({"": found} | found.parts, args, console)
    else:
        given = read_arguments(args.args or (), np.random.default_rng(args.seed or 0))
        found = trace(*example(find(name), given))
        show({"": found}, args, console)
    return 0


def run_own(args: argparse.Namespace, console: Console) -> int:
    """Print the trace of the user's own pair; return 1 when a gradient is wrong."""
    if args.args is None:
        raise UsageError("--args is missing: the arguments of forward, as shapes like X:3,4 or as module:function")
    pair = find_pair(args.names)
    call = next(find_arguments(args.args, pair.forward, args.seed or 0))
    found = trace((pair.forward, pair.backward), call.args, None, call.kwargs)
    show({"": found}, args, console)
    return 0 if args.json else judge(found, console)


def find(name: str) -> Topic:
    """Return a topic that is one forward and its backward. Raises UsageError, which suggests similar names."""
    key, known = name.strip().lower().replace("-", "_"), targets()
    topic = known.get(names().get(key, ""))
    if topic is None:
        similar = difflib.get_close_matches(key, [*known, *LAYERS], n=3)
        known_ones = f"known are {', '.join([*known, *LAYERS])}, and trained models with a WORD"
        hint = f"did you mean {' or '.join(similar)}?" if similar else known_ones
        raise UsageError(f"{name}: nothing to trace; {hint}")
    return topic


def show(parts: Mapping[str, Trace], args: argparse.Namespace, console: Console, **facts: Any) -> None:
    """Print parts of a trace; the first is the whole. With --layer, one of them alone; with --json, as JSON."""
    if args.layer is not None:
        if args.layer not in parts:
            raise UsageError(f"--layer: expected one of {', '.join(filter(None, parts))}, got {args.layer!r}")
        parts = {args.layer: parts[args.layer]}
    if args.json:                                             # in ASCII, with escapes for other letters
        console.data(json.dumps(facts | next(iter(parts.values())).as_dict()))
        return
    columns = max(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)
    texts = {path: part.lines(columns, args.digits)[1:] for path, part in parts.items()}   # not the first empty line
    titles = " ".join(part.title for part in parts.values())
    versions = dict.fromkeys(re.findall(r"attention\.(v\d+)_", titles))   # each once, in the order of the parts
    has_numbers = any(re.search("# [1-9](,| [a-z]|$)", line) for lines in texts.values() for line in lines)
    more = [NUMBERS.format(command_line("explain", version)) for version in versions if has_numbers]
    console.lines(textwrap.wrap(" ".join([LEGEND, *more]), columns))
    for path, part in parts.items():
        console.heading(f"{path}  {part.title}".strip())
        console.lines(texts[path])


def judge(found: Trace, console: Console) -> int:
    """Compare all gradients with the complex step, and say which is the first that is wrong. Return the exit status."""
    try:
        errors = found.errors()
    except ValueError as error:
        console.line(f"\nNot compared with the complex step: {error}")
        return 0
    wrong = [found[name] for name, error in errors.items() if not error <= TOLERANCE]
    if not wrong:
        console.line(f"\nAll {len(errors)} gradients are those of the complex step, to {max(errors.values()):.0e}.")
        return 0
    names = ", ".join(f"d{value.name}" for value in wrong)
    console.line(console.style(f"\nWRONG, by the complex step: {names}", "red", "bold"))
    first = found.first_wrong_line(errors)
    if first:
        console.line(f"The first that goes wrong is made in line {first.number}: {first.code}")
    return 1


def show_reading(found: Reading, args: argparse.Namespace, console: Console) -> None:
    """Print how a trained model reads a text: the size of what it computes, and of the gradient there."""
    whole = found.trace
    if args.json or args.layer is not None:
        facts = {"loss": found.loss, "source": found.source, "target": found.target}
        show({"": whole} | whole.parts, args, console, **facts)
        return
    source, target = " ".join(found.source), " ".join(found.target)
    console.line(console.style(f"{source} → {target}   loss L = −log P of the target = {found.loss:.4f}", "bold"))
    console.lines(("", f"{'':<44}{'shape':<14}{'size':>10}{'gradient':>11}"))
    for name, value in stages(whole):
        assert value.array is not None and value.gradient is not None   # all of the residual stream has both
        sizes = f"{norm(value.array):>10.3g}{norm(value.gradient):>11.2e}"
        console.line(f"{name:<44}{value.array.shape!s:<14}{sizes}")
    letters = [f"{x}\N{NO-BREAK SPACE}{norm(dS_n):.1e}" for x, dS_n in zip(found.source, whole.dS[0], strict=True)]
    lines = textwrap.wrap(f"gradient at each symbol of the source:  {'  '.join(letters)}", WIDTH)
    console.lines(("", *(line.replace("\N{NO-BREAK SPACE}", " ") for line in lines), ""))
    console.lines(textwrap.wrap(SIZES, WIDTH))
    attention = next(path for path in reversed(whole.parts) if path.endswith("attention"))
    console.line(f"--layer shows a part in full, such as --layer {attention}")


def norm(array: Array) -> float:
    """Return √Σx²."""
    return float(np.linalg.norm(np.ravel(array)))


def stages(whole: Trace) -> Iterator[tuple[str, Value]]:
    """Yield the residual stream from the source to the logits: each value with the name and the layer that made it."""
    for side, first, last in (("encoder", "S", "M"), ("decoder", "T", "Y")):
        yield f"{first}  embedded {'source' if first == 'S' else 'target'}", whole[first]
        for path in (path for path in whole.parts if re.fullmatch(rf"{side}\.\d+", path)):
            for name, value in whole.parts[path].items():
                if name.startswith("X ("):                    # X itself is the X before
                    made_by = re.search(r'p\["(\w+)"\]', value.lines[-1].code)
                    yield f"{path}.{name}  after {made_by[1] if made_by else side}", value
        yield f"{last}  output of the {side}", whole[last]
    yield "logits", whole["logits"]
