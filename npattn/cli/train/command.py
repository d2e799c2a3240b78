"""`npattn train`: train a model on a task; its folder holds what is needed to resume the run."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from npattn._internal.system.blas_threads import can_limit_blas, cores
from npattn.cli.terminal import Console, Parser, UsageError, command_line, counted, two_columns
from npattn.cli.train import pairs, text
from npattn.cli.train.options import add_options, task_options
from npattn.cli.train.progress import ProgressLines, ProgressTable
from npattn.cli.train.ranks import all_ranks, require_alone
from npattn.cli.train.stopping import Interrupted, Stop, stop_on_signals
from npattn.runs.defaults import names_of, new_run
from npattn.runs.kinds import KINDS
from npattn.runs.load import load_model, load_text_model
from npattn.runs.run import Progress, Run
from npattn.runs.settings import config_and_settings, read_description
from npattn.tasks import TASKS, load_task
from npattn.training.ranks import Communicator, Ranks

EXAMPLES = """\
tasks:
  dates        dates in many written forms, English and Chinese, into ISO 8601
  g2p          English spelling into phonemes (needs npattn[g2p])
  FILE.tsv     your own pairs, one "source<tab>target" on a line
  text         the source of Python's standard library, or the files given: a
               language model learns to go on with it, byte by byte

Each task has its own defaults for the sizes of the model and for the training.
For a .tsv file, width and steps follow from the number of training pairs.
After Ctrl-C or a power cut, --resume continues from the last checkpoint, and
with more --steps than before it goes on after the end. With --mpi, several
processes train together (needs npattn[mpi]).

--json prints an object a line: first what is trained ("run", "task",
"parameters", "steps", "step"), then the progress ("step", "steps", "loss",
"rate", "seconds", "scores", "is_best"), in the end the outcome ("run", "step",
"finished", "test").

examples:
  %(prog)s dates
  %(prog)s g2p --steps 20000 --checkpoint-every 1000
  %(prog)s g2p --resume
  %(prog)s g2p --resume --steps 30000
  %(prog)s pairs.tsv --unit words --d-model 256 --layers 4
  %(prog)s train.tsv --validation dev.tsv --test test.tsv --patience 5
  %(prog)s names.tsv --target-unit words --from g2p --rate 2e-4 --steps 500
  mpiexec -n 4 %(prog)s g2p --mpi
  %(prog)s text
  %(prog)s text poems.txt letters.txt --run runs/poems --steps 2000
"""


#: What is said of a task, by the class of its model.
WORDS: dict[str, Any] = {"Transformer": pairs, "LanguageModel": text}


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "train", help="train a model on dates, g2p, a .tsv file or text", epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    add_options(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Train and test, with --mpi together with other processes."""
    args.files = [os.path.abspath(file) for file in args.files] or None   # so that --resume works in any folder
    if not args.mpi:
        require_alone()
        return train_and_test(args, console)
    with all_ranks(console, debug=hasattr(args, "debug")) as (comm, console_of_rank):
        return train_and_test(args, console_of_rank, comm)


def train_and_test(args: argparse.Namespace, console: Console, comm: Communicator | None = None) -> int:
    """Train and test on all ranks of `comm`, and suggest a command that uses the model."""
    folder = args.folder or Path("runs", Path(args.task).stem)
    training = (resumed if args.resume else started)(folder, args, comm)
    beam = ["--beam", args.beam] if args.beam > 1 else []
    command = command_line("train", args.task, "--run", folder, *beam, "--resume")
    if args.mpi:
        command = f"mpiexec -n {training.ranks.size} {command} --mpi"
    if args.json:
        return train_in_json(training, console, command, args.beam)
    describe(training, console)
    status = train(training, console, command)
    if status:
        return status
    words = WORDS[training.task.model]
    words.results(training, console, args.beam)
    console.lines(("", "Use it with", f"  {words.example(training)}"))
    return 0


def train_in_json(run: Run, console: Console, command: str, beam: int) -> int:
    """Train and test, and print what programs read: one JSON object a line."""
    first = {"run": str(run.folder), "task": run.task.name, "parameters": int(run.model.params.flat.size)}
    console.data(json.dumps(first | {"steps": run.settings.steps, "step": run.trainer.steps}))
    with open(os.devnull, "w", encoding="utf-8") as null:
        silent = Console(null)
        status = train(run, silent, command, ProgressLines(console))
        test = None if status else WORDS[run.task.model].results(run, silent, beam)
    last = {"run": str(run.folder), "step": run.trainer.steps, "finished": run.is_finished, "test": test}
    console.data(json.dumps(last))
    return status


def train(
    run: Run, console: Console, command: str | None, table: ProgressTable | ProgressLines | None = None
) -> int:
    """Train to the last step and return 0, or until a signal stops it and return the exit status for the signal.

    `command` resumes the run after a stop; None for a run in a temporary folder. `table` shows the progress; None makes
    one on the console.
    """
    table = table or ProgressTable(console, run.task.score_names, first=run.trainer.steps, seconds=run.seconds)
    if not run.is_finished:
        table.heading()
    with stop_on_signals(message=run.ranks.rank == 0) as stop:
        run.ranks.stop_requested = stop.requested
        try:
            for progress in run.train():
                show(progress, table, stop)
                if run.ranks.must_stop() and not run.is_finished:
                    run.save()
                    break
            if stop.output_error is not None:
                raise stop.output_error
            if not run.is_finished:
                saved = "." if command is None else f"; the checkpoint is written. Go on with\n  {command}"
                console.line(f"Stopped after step {run.trainer.steps:,}{saved}")
                return stop.exit_status
            if run.trainer.steps < run.settings.steps:
                found = counted(run.settings.patience or 0, "validation")
                console.line(f"Ended after step {run.trainer.steps:,}: {found} in a row found no better model")
        except KeyboardInterrupt as error:
            where = f"stopped at once after step {run.trainer.steps:,}"
            raise Interrupted(where + last_checkpoint(run, command), stop.exit_status) from error
        except (ArithmeticError, ValueError) as error:        # a loss or gradient that is not finite
            raise ArithmeticError(f"{error}{last_checkpoint(run, command, resumable=False)}") from error
        except OSError as error:                              # a full disk, a read-only folder
            if error.filename is None:                        # of standard output
                raise
            raise OSError(error.errno, f"{error.strerror}{last_checkpoint(run, command)}", error.filename) from error
    return 0


def show(progress: Progress, table: ProgressTable | ProgressLines, stop: Stop) -> None:
    """Show a step. An error of the output stops the run, which is saved first."""
    try:
        table.show(progress)
    except OSError as error:
        stop.output_error = error


def last_checkpoint(run: Run, command: str | None, *, resumable: bool = True) -> str:
    """Return the end of an error message: the step of the last checkpoint, and the command that resumes from it."""
    if command is None:
        return ""
    last = "; there is no checkpoint yet"
    if run.saved is not None:
        last = f"; the checkpoint of step {run.saved:,} stands in {run.folder / 'last.npz'}"
    return last + f"; go on with: {command}" * resumable


def started(folder: Path, args: argparse.Namespace, comm: Communicator | None) -> Run:
    """Start the run that the arguments describe."""
    if Ranks(comm).from_first((folder / "run.json").exists):
        raise FileExistsError(f"{folder} holds a run already: go on with --resume, or choose another --run")
    task = load_task(args.task, **task_options(args))
    names = names_of(task)
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    load = load_model if task.model == "Transformer" else load_text_model
    start: Any = None if args.start is None else Ranks(comm).from_first(partial(load, args.start))
    return new_run(folder, task, given, comm, start=start)


def resumed(folder: Path, args: argparse.Namespace, comm: Communicator | None) -> Run:
    """Resume a run. Options that are given must have their first values; the number of ranks may differ."""
    if args.start is not None:
        raise UsageError("--from: expected without --resume, which goes on with the run's own model")
    ranks = Ranks(comm)
    description = ranks.from_first(lambda: read_description(folder))
    config, settings = config_and_settings(folder, description)
    began = description["task"]
    if args.task != began and {args.task, began} & TASKS.keys():
        raise ValueError(f"{folder}: this run is of the task {began}, not of {args.task}")
    task = load_task(args.task, **description["options"])
    known = description["options"] | dataclasses.asdict(config) | dataclasses.asdict(settings)
    known["layers"] = getattr(config, KINDS[task.model].layers[0])
    if settings.ranks != ranks.size:
        del known["workers"]                                  # other ranks may have fewer or more cores
    more = args.steps if args.steps is not None and args.steps > settings.steps else None
    for name, value in vars(args).items():
        if value is not None and name in known and value != known[name] and not (name == "steps" and more):
            raise ValueError(f"{folder}: this run began with {name} = {known[name]}, it cannot go on with {value}")
    return Run.resume(folder, task, comm, workers=args.workers, steps=more)


def describe(run: Run, console: Console, *, with_folder: bool = True) -> None:
    """Print what is trained, on which data and how."""
    task, c, s, words = run.task, run.config, run.settings, WORDS[run.task.model]
    rows, unit, length = words.rows(run)
    batch_size = min(s.batch_size, rows)
    epochs = s.steps / -(-rows // s.batch_size)               # of so many batches
    of_weights = f", {c.attention_dropout:g} of attention weights" if c.attention_dropout else ""
    workers = counted(run.trainer.workers, "worker")
    if run.ranks.size > 1:
        workers = f"{run.ranks.size} ranks of {workers}"
    console.line(console.style(f"{Path(task.name).stem}: {task.title}", "bold"))
    entries = [
        ("data", words.data(run)),
        ("model", f"{run.model.params.flat.size:,} parameters: {words.sizes(run)}, dropout {c.dropout:g}{of_weights}"),
        ("training", f"{counted(s.steps, 'step')} of {counted(batch_size, unit)}{length} ({epochs:.1f} epochs), peak "
                     f"learning rate {s.peak_rate:g}, seed {s.seed}, {workers}"),
    ]  # fmt: skip
    if s.average is not None and s.average > 1:
        entries.append(("judged", f"the mean of the parameters at the last {s.average} validations"))
    if run.trainer.workers == 1 < cores() and not can_limit_blas():
        entries.append(("faster", f'to train in {cores()} threads: pip install "npattn[fast]"'))
    if with_folder:
        entries.append(("folder", str(run.folder)))
    if run.trainer.steps:
        entries.append(("resumed", f"after step {run.trainer.steps:,}"))
    console.lines((*two_columns(entries), ""))
