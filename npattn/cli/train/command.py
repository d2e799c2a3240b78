"""`npattn train`: train a Transformer on a task, in a folder that the run can be resumed from."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import Any

from npattn._internal.system.blas_threads import can_limit_blas, cores
from npattn.cli.terminal import Console, Parser, fields
from npattn.cli.train.options import add_options, task_options
from npattn.cli.train.progress import ProgressTable
from npattn.cli.train.ranks import joined, require_alone
from npattn.cli.train.stopping import Interrupted, Stop, stop_on_signals
from npattn.cli.train.testing import test_scores
from npattn.runs.defaults import new_run
from npattn.runs.run import Progress, Run
from npattn.runs.settings import config_and_settings, read_description
from npattn.tasks import TASKS, load_task
from npattn.training.ranks import Communicator, Ranks

EXAMPLES = """\
tasks:
  dates        dates in many written forms, English and Chinese, into ISO 8601
  g2p          English spelling into phonemes (needs the extra npattn[g2p])
  FILE.tsv     pairs of your own, one "source<tab>target" on a line

The defaults of sizes and schedule are the task's own.

examples:
  npattn train dates
  npattn train g2p --steps 20000 --checkpoint-every 1000
  npattn train g2p --resume                   go on after Ctrl-C, or a power cut
  npattn train pairs.tsv --unit words --d-model 256 --layers 4
  mpiexec -n 4 npattn train g2p --mpi         on 4 processes; needs npattn[mpi]
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "train", help="train a Transformer on dates, g2p or a .tsv file", epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    add_options(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Train, test, and say what to do next; with --mpi, together with other processes."""
    if not args.mpi:
        require_alone(f"{args.prog} train")
        return train_and_test(args, console)
    with joined(console, debug=hasattr(args, "debug")) as (comm, only_console):
        return train_and_test(args, only_console, comm)


def train_and_test(args: argparse.Namespace, console: Console, comm: Communicator | None = None) -> int:
    """Do what the arguments say, on all ranks of `comm`, if given."""
    folder = args.folder or Path("runs", Path(args.task).stem)
    training = (resumed if args.resume else started)(folder, args, comm)
    describe(training, console)
    command = f"{args.prog} train {shlex.quote(args.task)} --run {shlex.quote(str(folder))} --resume"
    if args.mpi:
        command = f"mpiexec -n {training.ranks.size} {command} --mpi"
    status = train(training, console, command)
    if status:
        return status
    test_scores(training, args.beam, console)
    example = (training.task.test or training.task.validation)[0]
    console.line()
    console.line("Use it with")
    console.line(f"  {args.prog} predict {shlex.quote(str(folder))} {shlex.quote(example.source)}")
    return 0


def train(run: Run, console: Console, command: str | None) -> int:
    """Take the run to its end and return 0, or to where a signal stops it and return the status for that.

    `command` goes on with a run that broke off; None for one whose folder does not last.
    """
    table = ProgressTable(console, run.task.score_names, first=run.trainer.steps, seconds=run.seconds)
    if run.trainer.steps < run.settings.steps:
        table.heading()
    with stop_on_signals(note=run.ranks.rank == 0) as stop:
        run.ranks.stop_requested = stop.requested
        try:
            for progress in run.train():
                show(progress, table, stop)
                if run.ranks.must_stop() and progress.step < progress.steps:
                    run.save()
                    break
            if stop.lost is not None:
                raise stop.lost
            if run.trainer.steps < run.settings.steps:
                say_how_to_go_on(run, console, command)
                return stop.exit_status
        except KeyboardInterrupt as error:
            where = f"stopped at once after step {run.trainer.steps:,}"
            raise Interrupted(where + what_is_left(run, command), stop.exit_status) from error
        except (ArithmeticError, ValueError) as error:        # a loss or gradient that is not finite
            raise ArithmeticError(f"{error}{what_is_left(run, command, going_on=False)}") from error
        except OSError as error:                              # a full disk, a folder that is read-only
            if error.filename is None:                        # our output, whose reader or terminal has left
                raise
            raise OSError(error.errno, f"{error.strerror}{what_is_left(run, command)}", error.filename) from error
    return 0


def show(progress: Progress, table: ProgressTable, stop: Stop) -> None:
    """Show how the run stands; if nobody can be told any more, that is a reason to stop, with nothing lost."""
    try:
        table.show(progress)
    except OSError as error:
        stop.lost = error


def say_how_to_go_on(run: Run, console: Console, command: str | None) -> None:
    """Tell what became of a run that was stopped."""
    if command is None:
        console.line(f"Stopped after step {run.trainer.steps:,}.")
    else:
        console.line(f"Stopped after step {run.trainer.steps:,}; the checkpoint is written. Go on with")
        console.line(f"  {command}")


def what_is_left(run: Run, command: str | None, *, going_on: bool = True) -> str:
    """Say which checkpoint of a run that broke off stands, and how to go on from it."""
    if command is None:
        return ""
    last = "; there is no checkpoint yet"
    if run.saved is not None:
        last = f"; the checkpoint of step {run.saved:,} stands in {run.folder / 'last.npz'}"
    return last + f"; go on with: {command}" * going_on


def started(folder: Path, args: argparse.Namespace, comm: Communicator | None) -> Run:
    """Begin the run that the arguments describe."""
    if Ranks(comm).from_first((folder / "run.json").exists):
        raise FileExistsError(f"{folder} holds a run already: go on with --resume, or choose another --run")
    task = load_task(args.task, **task_options(args))
    given = {name: value for name, value in vars(args).items() if value is not None}
    return new_run(folder, task, given, comm)


def resumed(folder: Path, args: argparse.Namespace, comm: Communicator | None) -> Run:
    """Go on with a run; whatever the arguments say must be what it began with, but for the number of ranks."""
    ranks = Ranks(comm)
    description = ranks.from_first(lambda: read_description(folder))
    config, settings = config_and_settings(folder, description)
    began = description["task"]
    if args.task != began and {args.task, began} & TASKS.keys():
        raise ValueError(f"{folder}: this run is of the task {began}, not of {args.task}")
    known = description["options"] | dataclasses.asdict(config) | dataclasses.asdict(settings)
    known["layers"] = config.n_encoder_layers
    if settings.ranks != ranks.size:
        del known["workers"]                                  # other ranks may have other cores
    for name, value in vars(args).items():
        if value is not None and name in known and value != known[name]:
            raise ValueError(f"{folder}: this run began with {name} = {known[name]}, it cannot go on with {value}")
    return Run.resume(folder, load_task(args.task, **description["options"]), comm, workers=args.workers)


def describe(run: Run, console: Console, *, where: bool = True) -> None:
    """Say what is trained on what, how, and `where`."""
    task, c, s = run.task, run.config, run.settings
    epochs = s.steps * s.batch_size / len(task.train)
    workers = f"{run.trainer.workers} worker{'s' * (run.trainer.workers > 1)}"
    if run.ranks.size > 1:
        workers = f"{run.ranks.size} ranks of {workers}"
    if run.trainer.workers == 1 < cores() and not can_limit_blas():
        workers += f" (pip install npattn[fast] to train in {cores()})"
    console.line(console.style(f"{Path(task.name).stem}: {task.title}", "bold"))
    data = f"{len(task.train):,} training pairs, {len(task.validation):,} validation and {len(task.test):,} test items"
    model = (
        f"{run.model.params.flat.size:,} parameters: {c.n_encoder_layers} + {c.n_decoder_layers} layers of width "
        f"{c.d_model}, {c.n_heads} heads, feed-forward {c.d_ff}, {c.norm}-norm, dropout {c.dropout:g}"
    )
    training = (
        f"{s.steps:,} steps of {s.batch_size} pairs ({epochs:.1f} epochs), highest rate {s.peak_rate:g}, "
        f"seed {s.seed}, {workers}"
    )
    entries = [("data", data), ("model", model), ("training", training)]
    if where:
        entries.append(("folder", str(run.folder)))
    if run.trainer.steps:
        entries.append(("resumed", f"after step {run.trainer.steps:,}"))
    console.lines(fields(entries))
    console.line()
