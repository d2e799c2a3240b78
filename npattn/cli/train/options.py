"""The options of `npattn train`."""

from __future__ import annotations

import argparse
from typing import Any

from npattn.cli.terminal import Parser, UsageError, integer_from, nonempty_path, number_between
from npattn.tasks import TASKS

UNITS = ("characters", "words")


def add_options(parser: Parser) -> None:
    """Add all options. The value None stands for the default of the task."""
    parser.add_argument("task", metavar="TASK", help="dates, g2p or the path of a .tsv file")

    add = parser.add_argument_group("the run").add_argument
    add("--run", dest="folder", metavar="DIR", type=nonempty_path, help="folder of the run (default: runs/TASK)")
    add("--resume", action="store_true", help="continue the run in that folder")
    add("--steps", metavar="N", type=integer_from(1), help="training steps, one batch each")
    add("--seed", metavar="S", type=integer_from(0), help="seed of parameters, batches and dropout (default: 0)")
    add("--workers", metavar="W", type=integer_from(1), help="threads (default: one for each core)")
    add("--mpi", action="store_true", help="train on all processes that mpiexec started")
    add("--checkpoint-every", metavar="N", type=integer_from(1), help="steps between checkpoints (default: 500)")
    often = "steps between validations (default: steps/10, at most 1000)"
    add("--validate-every", metavar="N", type=integer_from(1), help=often)
    add("--beam", metavar="K", type=integer_from(1), default=1, help="test with beam search too, with K hypotheses")

    add = parser.add_argument_group("the model").add_argument
    add("--d-model", metavar="D", type=integer_from(1), help="width of the model")
    add("--d-ff", metavar="D", type=integer_from(1), help="hidden width of feed-forward layers (default: 4 x d-model)")
    add("--layers", metavar="N", type=integer_from(1), help="layers of the encoder, and of the decoder")
    add("--heads", dest="n_heads", metavar="H", type=integer_from(1), help="heads of every attention")
    add("--norm", choices=("pre", "post"), help="layer norm before each sub-layer, or after it as in the paper")
    probability = number_between(0, 1)
    add("--dropout", metavar="P", type=probability, help="probability of dropping a number, from 0 to below 1")
    add("--attention-dropout", metavar="P", type=probability, help="the same for weights of attention (default: 0)")

    add = parser.add_argument_group("the training").add_argument
    add("--batch", dest="batch_size", metavar="B", type=integer_from(1), help="pairs in a batch")
    add("--rate", dest="peak_rate", metavar="R", type=number_between(0, 1, without_low=True), help="peak learning rate")
    add("--warmup", metavar="N", type=integer_from(0), help="steps until the learning rate reaches its peak")
    add("--smoothing", metavar="E", type=number_between(0, 1), help="label smoothing")
    add("--clip", metavar="C", type=number_between(0, float("inf"), without_low=True), help="maximum gradient norm")

    add = parser.add_argument_group("the data").add_argument
    add("--stress", action="store_true", default=None, help="g2p: keep the digits of stress (AH0, EY1)")
    add("--unit", choices=UNITS, help=".tsv: what a symbol is (default: characters)")
    add("--target-unit", choices=UNITS, help=".tsv: what a symbol of the target is (default: as --unit)")


def task_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the task that were given. Raises UsageError for an option of another task."""
    options = {"stress": args.stress, "unit": args.unit, "target_unit": args.target_unit}
    options = {name: value for name, value in options.items() if value is not None}
    if "stress" in options and args.task != "g2p":
        raise UsageError("--stress is an option of the task g2p")
    if options.keys() & {"unit", "target_unit"} and args.task in TASKS:
        raise UsageError("--unit and --target-unit are options of .tsv files")
    return options
