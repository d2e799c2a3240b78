"""`npattn` without a command: the seven versions on one sentence, then a Transformer that is trained on dates."""

from __future__ import annotations

import argparse
import tempfile
import time
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from npattn.cli.terminal import (
    LEGEND,
    Console,
    Parser,
    alignment,
    alignment_lines,
    command_line,
    integer_from,
    legend_line,
    nonempty_path,
    pad_right,
    percent,
    shortened,
)
from npattn.cli.tour.example import FEATURES, WORDS, X, examples
from npattn.cli.tour.versions import show_version
from npattn.cli.train.command import describe, train
from npattn.runs.defaults import new_run
from npattn.runs.load import load_run
from npattn.runs.prediction import predict
from npattn.tasks import Codec, Item, load_task
from npattn.transformer import Transformer

DESCRIPTION = """\
Shows the seven versions of attention on one sentence and checks every gradient.
Then it trains a Transformer to read dates and shows what the model has learnt.
It takes half a minute on two cores, and leaves no files behind.
"""

#: Test dates that are shown, the width of their column, and the number of wrong ones.
SHOWN, COLUMN, WRONG_SHOWN = 10, 44, 3

#: The alignment is shown for one of the first test dates, of a length that is instructive and fits the width.
CANDIDATES, LENGTHS = 200, range(20, 33)


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "tour", help="the seven versions, then a Transformer on dates (default)", description=DESCRIPTION, **kwargs
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--run", dest="folder", metavar="DIR", type=nonempty_path, help="keep the trained model in this folder")
    add("--steps", metavar="N", type=integer_from(1), help="training steps")
    add("--seed", metavar="S", type=integer_from(0), help="seed of parameters and batches (default: 0)")
    add("--workers", metavar="W", type=integer_from(1), help="threads (default: one for each core)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Show the tour."""
    began = time.perf_counter()
    if args.folder is not None and (args.folder / "run.json").exists():
        raise FileExistsError(f"{args.folder} holds a run already: choose another folder")
    show_versions(console)
    with tempfile.TemporaryDirectory(prefix="npattn-") as temporary:
        status = read_dates(args.folder or Path(temporary, "dates"), args, console)
    if status == 0:
        suggest(args.folder, console)
        console.line(f"The tour took {time.perf_counter() - began:.0f} seconds.")
    return status


def show_versions(console: Console) -> None:
    """Show the seven versions."""
    console.heading("I  Seven versions of attention")
    console.paragraph(
        "Attention compares a query with every input and gives each input a score. The softmax turns the scores into "
        "weights, and the output is the weighted sum of the inputs. Seven small steps lead from the plainest form to "
        f"the attention of the Transformer. All versions read the same sentence, “{' '.join(WORDS)}”. X has a row for "
        "each word and a column for each of four features. Nothing is trained here: the features and the queries are "
        "set by hand, so that you can see whether the weights are reasonable. Only the small network of version 1 has "
        f"random weights. Shades repeat the numbers: {LEGEND}."
    )
    console.lines(("", " " * 19 + "".join(f"{name:>10}" for name in FEATURES)))
    for word, row in zip(WORDS, X, strict=True):
        console.line(" " * 13 + pad_right(word, 6) + "".join(f"{x:>10.1f}" for x in row))
    worst = max(show_version(number, example, console) for number, example in enumerate(examples(), 1))
    console.line()
    console.paragraph(
        "The error of a gradient is its largest |analytic − numeric|, divided by its largest entry. The numeric "
        f"gradient is that of the complex step, which is exact to rounding. The largest of all errors is {worst:.1e}. "
        "Each version is a module of npattn.attention, which derives the backward and then computes it."
    )


def read_dates(folder: Path, args: argparse.Namespace, console: Console) -> int:
    """Train on dates and show the result; return the exit status."""
    console.heading("II  A Transformer learns to read dates")
    task = load_task("dates")
    given = {name: vars(args)[name] for name in ("steps", "seed", "workers") if vars(args)[name] is not None}
    checkpoints = {} if args.folder else {"checkpoint_every": 10**9}      # the folder is deleted: no run resumes
    training = new_run(folder, task, checkpoints | given)
    describe(training, console, with_folder=args.folder is not None)
    status = train(training, console, args.folder and command_line("train", "dates", "--run", args.folder, "--resume"))
    if status:
        return status
    model, codec, _ = load_run(folder)
    predictions = predict(model, codec, [item.source for item in task.test])
    show_samples(task.test, predictions, console)
    show_score(task.test, predictions, console)
    show_alignment(model, codec, task.test, predictions, console)
    return 0


def show_samples(items: Sequence[Item], predictions: Sequence[str], console: Console) -> None:
    """Show dates in different forms, each with the model's output."""
    console.heading("III  Test dates: none of them is in the training data, in any form")
    for i in varied([item.source for item in items], SHOWN):
        right = predictions[i] in items[i].references
        verdict = console.style("right", "green") if right else console.style("wrong", "red")
        console.line(f"   {pad_right(shortened(items[i].source, COLUMN), COLUMN)}  → {predictions[i]}  {verdict}")


def show_score(items: Sequence[Item], predictions: Sequence[str], console: Console) -> None:
    """Print how many outputs are right, and some that are wrong."""
    wrong = [i for i, item in enumerate(items) if predictions[i] not in item.references]
    right = len(items) - len(wrong)
    score = console.style(f"exact match {percent(right / len(items), 2)}", "bold")
    console.lines(("", f"   {score}: every symbol is right in {right:,} of {len(items):,} test dates"))
    for i in wrong[:WRONG_SHOWN]:
        source = shortened(items[i].source, COLUMN)
        console.line(f"   wrong: {source} → {predictions[i]}, expected {items[i].references[0]}")


def varied(texts: Sequence[str], count: int) -> list[int]:
    """Return the index of the first text of each form. A form is a sequence of runs of letters, digits and signs.

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
    """Show the attention for one date: of those that are right and fit the width, the one with the sharpest weights."""
    fitting = [
        (item.source, target)
        for item, target in zip(items[:CANDIDATES], predictions, strict=False)
        if len(item.source) in LENGTHS and target in item.references
    ]
    if not fitting:
        return
    weights = [alignment(model, codec, source, target) for source, target in fitting]
    sharpest = max(range(len(fitting)), key=lambda i: weights[i].mean(0).max(-1).mean())
    console.heading("IV  What the model attends to")
    console.paragraph(
        "Each row is a symbol of the target, the last row its end, <eos>; each column is a symbol of the source. The "
        "shade is a weight of the last layer's cross-attention. The training data has pairs of dates only, and does "
        "not say which symbols belong together."
    )
    console.lines((*alignment_lines(weights[sharpest], codec, *fitting[sharpest]), legend_line(per_head=False)))


def suggest(kept: Path | None, console: Console) -> None:
    """Suggest commands, each on a line of its own that can be copied. `kept` is the folder of the trained model."""
    console.heading("What to try next")
    use = ("predict", kept or Path("runs", "dates"), "28 July 2025", "--show-attention")
    suggestions: dict[str, list[tuple[str | Path, ...]]] = {
        "Learn what the gradient of a matrix is, and how every backward is derived": [("explain", "foundations")],
        "Read the derivation and the code of a version, or the difference of two": [
            ("explain", "v5"),
            ("explain", "v4", "v5"),
        ],
        "See every matrix of a version beside its gradient": [("trace", "v5")],
        "Derive a backward yourself: exercises with hints and a check": [("exercise",)],
        "Check every gradient of the package": [("check",)],
        "Turn a word into phonemes, and show the attention and the probabilities": [
            ("predict", "g2p", "read", "--show-attention", "--explain"),
        ],
        "Draw that attention and the learning curve (needs npattn[figures])": [("figures", "g2p", "--text", "knight")],
        "Use the model of this tour" if kept else "Train on dates again, keep the model in runs/dates, and use it": (
            [use] if kept else [("train", "dates"), use]
        ),
        "Train on the spelling of English words (needs npattn[g2p])": [("train", "g2p")],
    }
    for title, commands in suggestions.items():
        console.lines((f"{title}:", *(f"   {command_line(*words)}" for words in commands), ""))
    console.line(f"{command_line('--help')} lists all commands.")
