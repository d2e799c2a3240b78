"""`npattn` alone: the seven versions on one sentence, then a Transformer trained on dates before the reader's eyes."""

from __future__ import annotations

import argparse
import shlex
import tempfile
import time
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from npattn.cli.terminal import Console, Parser, align_lines, alignment, left, path, percent, shortened, whole
from npattn.cli.tour.example import FEATURES, WORDS, X, examples
from npattn.cli.tour.versions import walk
from npattn.cli.train.command import describe, train
from npattn.runs.defaults import new_run
from npattn.runs.load import load_run
from npattn.runs.prediction import predict
from npattn.tasks import Codec, Item, load_task
from npattn.transformer import Transformer

DESCRIPTION = """\
Walks through the seven versions of attention on one sentence, with every
gradient checked, then trains a Transformer to read dates and shows what it has
learnt. It takes under two minutes on two cores, and leaves no files behind.
"""

#: Held-out dates shown, the columns they are given, and the mistakes shown below them.
SHOWN, COLUMNS, MISTAKES = 10, 44, 3

#: The alignment is that of one of the first held-out dates, of a length that tells something and fits.
CANDIDATES, ALIGNED = 200, range(20, 33)


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "tour", help="the seven versions, then a Transformer on dates (default)", description=DESCRIPTION, **kwargs
    )
    parser.set_defaults(run=run)
    parser.add_argument("--run", dest="folder", metavar="DIR", type=path, help="keep the trained model in this folder")
    parser.add_argument("--steps", metavar="N", type=whole(1), help="training steps")
    parser.add_argument("--seed", metavar="S", type=whole(0), help="of parameters and batches (default: 0)")
    parser.add_argument("--workers", metavar="W", type=whole(1), help="threads (default: one for each core)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Guide through it all."""
    began = time.perf_counter()
    if args.folder is not None and (args.folder / "run.json").exists():
        raise FileExistsError(f"{args.folder} holds a run already: choose another folder")
    climb(console)
    with tempfile.TemporaryDirectory(prefix="npattn-") as temporary:
        folder = args.folder or Path(temporary, "dates")
        status = read_dates(folder, args, console)
    if status == 0:
        say_what_next(args, time.perf_counter() - began, console)
    return status


def climb(console: Console) -> None:
    """Show the seven versions."""
    console.heading("I  Seven versions of attention")
    console.paragraph(
        "Attention reads a sequence of vectors by weights: softmax turns similarities of a query to every input "
        "into weights, and the output is the weighted sum. Seven small steps lead from its plainest form to the "
        f"attention of the Transformer. All of them read one sentence, “{' '.join(WORDS)}”, a row of X for each word:"
    )
    console.line()
    console.line(" " * 13 + left("", 6) + "".join(f"{name:>10}" for name in FEATURES))
    for word, row in zip(WORDS, X, strict=True):
        console.line(" " * 13 + left(word, 6) + "".join(f"{x:>10.1f}" for x in row))
    worst = walk(examples(), console)
    console.line()
    console.paragraph(
        "An error is the largest |analytic − numeric| of a gradient over its largest entry, the numeric one by the "
        f"complex step, which is exact to rounding. The largest here: {worst:.1e}. Each version is a module of "
        "npattn.attention, with the derivation of its backward beside the code."
    )


def read_dates(folder: Path, args: argparse.Namespace, console: Console) -> int:
    """Train on dates and show the result; return the exit status."""
    console.heading("II  The Transformer, trained to read dates")
    task = load_task("dates")
    chosen = {"steps": args.steps, "seed": args.seed, "workers": args.workers}
    given = {name: value for name, value in chosen.items() if value is not None}
    checkpoints = {} if args.folder else {"checkpoint_every": 10**9}      # nobody could go on from them
    training = new_run(folder, task, {"validation_items": 500} | checkpoints | given)
    describe(training, console, where=args.folder is not None)
    kept = args.folder and f"{args.prog} train dates --run {shlex.quote(str(args.folder))} --resume"
    status = train(training, console, kept)
    if status:
        return status
    model, codec, _ = load_run(folder)
    predictions = predict(model, codec, [item.source for item in task.test])
    show_samples(task.test, predictions, console)
    show_score(task.test, predictions, console)
    show_alignment(model, codec, task.test, predictions, console)
    return 0


def show_samples(items: Sequence[Item], predictions: Sequence[str], console: Console) -> None:
    """Show dates in as many different forms, each with the model's reading."""
    console.heading("III  Held-out dates, which it has never seen in any form")
    for i in varied([item.source for item in items], SHOWN):
        right = predictions[i] in items[i].references
        verdict = console.style("right", "green") if right else console.style("wrong", "red")
        console.line(f"   {left(shortened(items[i].source, COLUMNS), COLUMNS)}  → {predictions[i]}  {verdict}")


def show_score(items: Sequence[Item], predictions: Sequence[str], console: Console) -> None:
    """Say how many are right, and show some that are not."""
    wrong = [i for i, item in enumerate(items) if predictions[i] not in item.references]
    right = len(items) - len(wrong)
    score = console.style(f"exact match {percent(right / len(items), 2)}", "bold")
    console.lines(("", f"   {score}: {right:,} of {len(items):,} held-out dates right, symbol for symbol"))
    for i in wrong[:MISTAKES]:
        source, target = shortened(items[i].source, COLUMNS), items[i].references[0]
        console.line(f"   mistaken: {source} → {predictions[i]}, not {target}")


def varied(texts: Sequence[str], count: int) -> list[int]:
    """Return the indices of the first texts that differ in kind: in their runs of letters, digits and signs.

    >>> varied(["5 July 1999", "28 May 2001", "5/7/1999", "七月", "8/8/1908"], 3)
    [0, 2, 3]
    """
    kinds: dict[str, int] = {}
    for i, text in enumerate(texts):
        runs = groupby(unicodedata.category(c) + unicodedata.east_asian_width(c) for c in text)
        kinds.setdefault(" ".join(kind for kind, _ in runs), i)
    return sorted(kinds.values())[:count]


def show_alignment(
    model: Transformer, codec: Codec, items: Sequence[Item], predictions: Sequence[str], console: Console
) -> None:
    """Show what one reading looked at: the date that is read right, fits and shows it best, if any."""
    fitting = [
        (item.source, target)
        for item, target in zip(items[:CANDIDATES], predictions, strict=False)
        if len(item.source) in ALIGNED and target in item.references
    ]
    if not fitting:
        return
    weights = [alignment(model, codec, source, target) for source, target in fitting]
    sharpest = max(range(len(fitting)), key=lambda i: weights[i].mean(0).max(-1).mean())
    console.heading("IV  What it looked at")
    console.paragraph(
        "Each row is a symbol of the target, each column one of the source; the darker, the closer to the row's "
        "largest weight in the last layer's cross-attention (the mean of its heads). Nobody told the model where "
        "to look."
    )
    console.lines(align_lines(weights[sharpest], codec, *fitting[sharpest]))


def say_what_next(args: argparse.Namespace, seconds: float, console: Console) -> None:
    """Suggest commands that can be copied."""
    console.heading("What to try next")
    prog, folder = args.prog, args.folder or Path("runs", "dates")
    quoted = shlex.quote(str(folder))
    commands = [
        (f"{prog} check", "prove every gradient of the package"),
        (f"{prog} train dates", "train it again, and keep it in runs/dates"),
        (f'{prog} predict {quoted} "28 July 2025" --show-attention', ""),
        (f"{prog} train g2p", "spelling into phonemes (needs npattn[g2p])"),
        (f"{prog} figures", "draw attention (needs npattn[figures])"),
    ]
    for command, text in commands:
        if args.folder is None or "train dates" not in command:
            console.line(f"   {left(command, 29)} {text}")
    console.line()
    console.line(f"The tour took {seconds:.0f} seconds. {prog} --help lists all commands.")
