"""`npattn evaluate`: compare a trained model with a file of pairs, and show its worst mistakes."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from npattn.cli.terminal import (
    MODEL_HELP,
    WIDTH,
    Console,
    Parser,
    counted,
    duration,
    integer_from,
    model_name,
    nonempty_path,
    percent,
    print_message,
    shortened,
)
from npattn.runs.evaluation import Evaluation, Mistake, evaluate
from npattn.runs.load import load_model
from npattn.runs.prediction import quoted, unknown_symbols
from npattn.tasks import Codec
from npattn.tasks.tsv import read_targets

DESCRIPTION = """\
Compares what a trained model answers to each source of a file with the targets
that the file gives for it. Each line is a source, one tab and a target, in
UTF-8. A source may have several lines: each of its targets is right.
"""

EXAMPLES = """\
exact match is the share of sources that the model answers with one of their
targets. error rate is the number of symbols that must be inserted, deleted or
replaced to turn the answers into the nearest targets, divided by the number of
symbols of these targets. For pronunciations 1 - exact match is the word error
rate, and error rate the phoneme error rate.

--json prints one object: "file", "sources", "pairs", "beam", "exact_match",
"error_rate", and "mistakes", a list of "source", "prediction", "references",
"edits" and "length".

examples:
  %(prog)s g2p words.tsv
  %(prog)s runs/dates dates.tsv --beam 4 --worst 20
  %(prog)s runs/pairs pairs.tsv --json > scores.json
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "evaluate", help="compare a model with a file of pairs", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("model", metavar="RUN", type=model_name, help=MODEL_HELP)
    add("file", metavar="FILE", type=nonempty_path, help="lines of source, one tab, target")
    add("--beam", metavar="K", type=integer_from(1), default=1, help="beam search with K hypotheses (default: greedy)")
    add("--worst", metavar="N", type=integer_from(0), default=10, help="mistakes that are shown (default: %(default)s)")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace, console: Console) -> int:
    """Print the scores and the worst mistakes."""
    model = load_model(args.model)
    codec = model.codec
    targets = read_targets(args.file, (codec.source_unit, codec.target_unit))
    tell_unknown(codec, targets)
    console.live(f"  reading {counted(len(targets), 'source')} …")
    began = time.perf_counter()
    found = evaluate(model, targets, beam=args.beam)
    passed = time.perf_counter() - began
    pairs = sum(map(len, targets.values()))
    worst = found.mistakes[: args.worst]
    if args.json:
        told = {"file": str(args.file), "sources": len(targets), "pairs": pairs, "beam": args.beam}
        scores = {"exact_match": found.exact, "error_rate": found.error_rate}
        console.data(json.dumps(told | scores | {"mistakes": [each._asdict() for each in worst]}))
        return 0
    how = "greedy search" if args.beam == 1 else f"beam {args.beam}"
    console.line(f"{counted(len(targets), 'source')}, {counted(pairs, 'pair')}, {how}, {duration(passed)}")
    console.lines(score_lines(found))
    if worst:
        console.lines(("", console.style(f"The worst of {counted(len(found.mistakes), 'mistake')}", "bold")))
        for line in (line for mistake in worst for line in mistake_lines(mistake)):
            console.data(line)                                # texts are never replaced by what a terminal can show
    return 0


def score_lines(found: Evaluation) -> list[str]:
    """Return the scores as text."""
    return [f"  exact match {percent(found.exact, 2):>8}", f"  error rate  {percent(found.error_rate, 2):>8}"]


def mistake_lines(mistake: Mistake) -> list[str]:
    """Return a mistake as text: the edits, the source, and below it what was written and what is right."""
    edits = f"{counted(mistake.edits, 'edit')} of {mistake.length}"
    texts = (f"written   {mistake.prediction}", f"expected  {' or '.join(mistake.references)}")
    return [shortened(f"  {mistake.source}: {edits}", WIDTH), *(shortened(f"    {text}", WIDTH) for text in texts)]


def tell_unknown(codec: Codec, targets: dict[str, list[str]]) -> None:
    """List on standard error the symbols that the model cannot read, and those that it cannot write."""
    if unread := unknown_symbols(codec, targets):
        print_message(f"not in the model's vocabulary, read as <unk>: {quoted(unread)}")
    symbols = dict.fromkeys(s for found in targets.values() for text in found for s in codec.tokenize_target(text))
    if unwritten := [symbol for symbol in symbols if symbol not in codec.target_vocabulary]:
        print_message(f"in targets, but never written by this model: {quoted(unwritten)}")
