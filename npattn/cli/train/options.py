"""The options of `npattn train`."""

from __future__ import annotations

import argparse
from typing import Any

from npattn.cli.terminal import Parser, UsageError, number, path, whole
from npattn.tasks import TASKS

UNITS = ("characters", "words")


def add_options(parser: Parser) -> None:
    """Add all options; what is not given is left to the task's defaults."""
    parser.add_argument("task", metavar="TASK", help="dates, g2p or the path of a .tsv file")
    add_run_options(parser.add_argument_group("the run"))
    add_model_options(parser.add_argument_group("the model"))
    add_training_options(parser.add_argument_group("the training"))
    add_data_options(parser.add_argument_group("the data"))


def add_run_options(group: argparse._ArgumentGroup) -> None:
    """Where the run lives, how long it takes, and how it is tested."""
    add = group.add_argument
    add("--run", dest="folder", metavar="DIR", type=path, help="its folder (default: runs/TASK)")
    add("--resume", action="store_true", help="go on with the run in that folder")
    add("--steps", metavar="N", type=whole(1), help="training steps, one batch each")
    add("--seed", metavar="S", type=whole(0), help="of parameters, batches and dropout (default: 0)")
    add("--workers", metavar="W", type=whole(1), help="threads (default: one for each core)")
    add("--mpi", action="store_true", help="train on all processes that mpiexec started")
    add("--checkpoint-every", metavar="N", type=whole(1), help="steps between checkpoints (default: 500)")
    add("--validate-every", metavar="N", type=whole(1), help="steps between validations (default: steps/10)")
    add("--beam", metavar="K", type=whole(1), default=1, help="test with beam search as well")


def add_model_options(group: argparse._ArgumentGroup) -> None:
    """The sizes and choices of the model."""
    add = group.add_argument
    add("--d-model", metavar="D", type=whole(1), help="width")
    add("--d-ff", metavar="D", type=whole(1), help="hidden width of feed-forward layers (default: 4 x width)")
    add("--layers", metavar="N", type=whole(1), help="layers of the encoder, and of the decoder")
    add("--heads", dest="n_heads", metavar="H", type=whole(1), help="heads of every attention")
    add("--norm", choices=("pre", "post"), help="layer norm before each sub-layer, or after it as in the paper")
    add("--dropout", metavar="P", type=number(0, 1), help="probability of dropping a number, 0 to 1")


def add_training_options(group: argparse._ArgumentGroup) -> None:
    """Batches, rate and loss."""
    add = group.add_argument
    add("--batch", dest="batch_size", metavar="B", type=whole(1), help="pairs in a batch")
    add("--rate", dest="peak_rate", metavar="R", type=number(0, 1, without_low=True), help="highest learning rate")
    add("--warmup", metavar="N", type=whole(0), help="steps in which the rate climbs to it")
    add("--smoothing", metavar="E", type=number(0, 1), help="label smoothing")
    add("--clip", metavar="C", type=number(0, float("inf"), without_low=True), help="largest norm of the gradient")


def add_data_options(group: argparse._ArgumentGroup) -> None:
    """What the tasks let one choose."""
    add = group.add_argument
    add("--stress", action="store_true", default=None, help="g2p: keep the digits of stress (AH0, EY1)")
    add("--unit", choices=UNITS, help=".tsv: what a symbol is (default: characters)")
    add("--target-unit", choices=UNITS, help=".tsv: the same for targets, if it differs")


def task_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the task that were given; raise unless they are this task's."""
    options = {"stress": args.stress, "unit": args.unit, "target_unit": args.target_unit}
    options = {name: value for name, value in options.items() if value is not None}
    if "stress" in options and args.task != "g2p":
        raise UsageError("--stress is an option of the task g2p", f"{args.prog} train")
    if options.keys() & {"unit", "target_unit"} and args.task in TASKS:
        raise UsageError("--unit and --target-unit are options of .tsv files", f"{args.prog} train")
    return options
