"""The options of `npattn train`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from npattn.cli.terminal import Parser, UsageError, integer_from, model_name, nonempty_path, number_between
from npattn.tasks import TASKS

UNITS = ("characters", "words")


def file_name(text: str) -> str:
    """Parse the path of a file. It stays a text."""
    return str(nonempty_path(text))


def absolute_path(text: str) -> str:
    """Parse the path of a file that a resumed run finds from any folder."""
    return os.path.abspath(nonempty_path(text))


def add_options(parser: Parser) -> None:
    """Add all options. The value None stands for the default of the task."""
    parser.add_argument("task", metavar="TASK", help="dates, g2p, text or the path of a .tsv file")
    files = "text: files to train on (default: Python's standard library)"
    parser.add_argument("files", metavar="FILE", nargs="*", type=file_name, default=[], help=files)

    add = parser.add_argument_group("the run").add_argument
    add("--run", dest="folder", metavar="DIR", type=nonempty_path, help="folder of the run (default: runs/TASK)")
    add("--resume", action="store_true", help="continue the run in that folder")
    add("--from", dest="start", metavar="RUN", type=model_name, help="begin with the model of another run, or with g2p")
    add("--steps", metavar="N", type=integer_from(1), help="training steps, one batch each")
    add("--seed", metavar="S", type=integer_from(0), help="seed of parameters, batches and dropout (default: 0)")
    add("--workers", metavar="W", type=integer_from(1), help="threads (default: one for each core)")
    add("--mpi", action="store_true", help="train on all processes that mpiexec started")
    add("--json", action="store_true", help="print JSON objects, one a line")
    add("--checkpoint-every", metavar="N", type=integer_from(1), help="steps between checkpoints (default: 500)")
    often = "steps between validations (default: steps/10, at most 1000)"
    add("--validate-every", metavar="N", type=integer_from(1), help=often)
    add("--patience", metavar="N", type=integer_from(1), help="end after N validations without a better model")
    mean = "validate and keep the mean of the parameters at the last N validations (default: 1, g2p: 4)"
    add("--average", metavar="N", type=integer_from(1), help=mean)
    add("--best-by", metavar="SCORE", help='the score that decides what is better, as "error rate"')
    add("--beam", metavar="K", type=integer_from(1), default=1, help="test with beam search too, with K hypotheses")

    add = parser.add_argument_group("the model").add_argument
    add("--d-model", metavar="D", type=integer_from(1), help="width of the model")
    wide = "hidden width of feed-forward layers (default: 4 x d-model; text: 2.75 x)"
    add("--d-ff", metavar="D", type=integer_from(1), help=wide)
    add("--layers", metavar="N", type=integer_from(1), help="layers of the encoder, and of the decoder; text: layers")
    add("--heads", dest="n_heads", metavar="H", type=integer_from(1), help="heads of every attention")
    add("--norm", choices=("pre", "post"), help="layer norm before each sub-layer, or after it as in the paper")
    probability = number_between(0, 1)
    add("--dropout", metavar="P", type=probability, help="probability of dropping a number, from 0 to below 1")
    add("--attention-dropout", metavar="P", type=probability, help="the same for weights of attention (default: 0)")

    add = parser.add_argument_group("the training").add_argument
    add("--batch", dest="batch_size", metavar="B", type=integer_from(1), help="pairs, or rows of text, in a batch")
    add("--rate", dest="peak_rate", metavar="R", type=number_between(0, 1, without_low=True), help="peak learning rate")
    add("--warmup", metavar="N", type=integer_from(0), help="steps until the learning rate reaches its peak")
    add("--smoothing", metavar="E", type=number_between(0, 1), help="label smoothing")
    add("--clip", metavar="C", type=number_between(0, float("inf"), without_low=True), help="maximum gradient norm")

    add = parser.add_argument_group("the data").add_argument
    add("--stress", action="store_true", default=None, help="g2p: keep the digits of stress (AH0, EY1)")
    add("--unit", choices=UNITS, help=".tsv: what a symbol is (default: characters)")
    add("--target-unit", choices=UNITS, help=".tsv: what a symbol of the target is (default: as --unit)")
    add("--lowercase", action="store_true", default=None, help=".tsv: turn sources into lower case")
    held_out = ".tsv: a file of pairs for {} (default: a part of the first file{})"
    add("--validation", metavar="FILE", type=absolute_path, help=held_out.format("validation", ""))
    add("--test", metavar="FILE", type=absolute_path, help=held_out.format("the test", "; with --validation, none"))
    add("--context", metavar="N", type=integer_from(1), help="text: bytes in a row (default: 256)")


def task_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the task that were given. Raises UsageError for an option of another task."""
    of_pairs = ("unit", "target_unit", "lowercase", "validation", "test")
    options = {name: getattr(args, name) for name in ("stress", *of_pairs, "context", "files")}
    options = {name: value for name, value in options.items() if value is not None}
    if "stress" in options and args.task != "g2p":
        raise UsageError("--stress is an option of the task g2p")
    for name in of_pairs:
        if name in options and args.task in TASKS:
            raise UsageError(f"--{name.replace('_', '-')} is an option of .tsv files")
    if "context" in options and args.task != "text":
        raise UsageError("--context is an option of the task text")
    if "files" in options and args.task != "text":
        raise UsageError(f"only the task text takes files: unknown argument {args.files[0]}")
    if args.task == "text" and (args.norm is not None or args.beam > 1):
        raise UsageError("--norm and --beam are no options of the task text")
    return options
