"""A training run and its folder.

======================  ==============================================================================
``run.json``            the request: task, options, sizes, schedule, seed; and the codec
``last.npz``            the last checkpoint: parameters, Adam's moments, counters
``best.npz``            the model with the best validation score so far
``log.tsv``             a line for each validation: step, minutes, loss, rate, scores
``first.npz``           the model that the run began with, if that was one of another run
======================  ==============================================================================

Batch, rate and dropout of a step depend on the settings and the number of the step alone. So a run that was stopped, at
any moment and in any way, continues from `last.npz` to the same bits as a run that was not. `train` yields its progress
and prints nothing.

One process at a time trains in a folder: while it writes there, the folder is locked, and another one is refused. A
crash leaves no lock behind, see `npattn._internal.files.lock`.

Several ranks of MPI, given a communicator, share a run. All ranks train and validate; rank 0 alone reads and writes the
folder. An error there is raised on all ranks, and they stop at the same step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from npattn._internal.checks import Array, Params, check_size, shown
from npattn._internal.files import CheckpointError, FolderLock
from npattn._internal.system.blas_threads import one_blas_thread
from npattn.optim import Adam, linear_rate
from npattn.optim.clipping import largest
from npattn.runs.average import Average
from npattn.runs.kinds import KINDS, Config
from npattn.runs.last_state import LastState
from npattn.runs.log import append_to_log, rewind_log, start_log
from npattn.runs.prediction import predict
from npattn.runs.settings import Settings, codec_of, config_and_settings, read_description, write_description
from npattn.tasks import Task, TextTask
from npattn.training.models import Model
from npattn.training.ranks import Communicator, Ranks
from npattn.training.trainer import Trainer
from npattn.transformer import Transformer

#: The file of the model that a run began with.
FIRST = "first.npz"

#: Steps over which the loss is averaged: few enough to show changes, many enough to smooth noise.
WINDOW = 100


class Progress(NamedTuple):
    """The state of a run after a step."""

    step: int
    steps: int
    loss: float           # of this step's batch, nats a token
    rate: float
    tokens: int           # tokens of this step's batch that count in the loss
    seconds: float        # since the run began, without the time between a stop and a resume
    scores: Mapping[str, float] | None   # on the validation sample; None without a validation at this step
    is_best: bool
    mean_loss: float      # of the last `WINDOW` steps, this one included


class Run:
    """A run in a folder. `Run.start` begins one, `Run.resume` continues one, `train` takes its steps.

    - folder: the folder of the run.
    - task: data and scores, from `npattn.tasks.load_task`.
    - config: the sizes of the model, a TransformerConfig, or a LanguageModelConfig for text.
    - settings: the schedule, and how often the run is validated and saved.
    - comm: an mpi4py communicator whose ranks all call the same methods; None for this process alone.

    `Run(…)` itself neither reads nor writes the folder. Raises ValueError for a number out of range, TypeError for an
    argument of another type.

    >>> import tempfile
    >>> from npattn import TransformerConfig
    >>> from npattn.tasks import load_task
    >>> settings = Settings(steps=4, batch_size=2, peak_rate=1e-3, warmup=1, workers=1, checkpoint_every=2)
    >>> with tempfile.TemporaryDirectory() as temporary:
    ...     path, folder = Path(temporary, "pairs.tsv"), Path(temporary, "run")
    ...     _ = path.write_text("ab\\tba\\nabc\\tcba\\nbc\\tcb\\n")
    ...     task = load_task(path)
    ...     sizes = len(task.codec.source_vocabulary), len(task.codec.target_vocabulary)
    ...     config = TransformerConfig(*sizes, d_model=8, n_heads=2, d_ff=16, n_encoder_layers=1, n_decoder_layers=1)
    ...     for progress in Run.start(folder, task, config, settings).train():
    ...         if progress.step == 3:
    ...             break                                     # as if the power failed: the checkpoint is of step 2
    ...     [progress.step for progress in Run.resume(folder, task).train()]
    [3, 4]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        task: Task | TextTask,
        config: Config,
        settings: Settings,
        comm: Communicator | None = None,
    ) -> None:
        if settings.best_by not in (None, *task.score_names):
            names = " or ".join(task.score_names)
            raise ValueError(f"best_by: expected {names}, got {shown(settings.best_by)}")
        self.folder, self.settings = Path(folder), settings
        self.task: Any = task                                 # `npattn.runs.kinds` has what differs between them
        self.config: Any = config
        new_model = partial(KINDS[task.model].model, config)
        self.model = new_model(rng=settings.seed)
        self.average = None if settings.average is None else Average(new_model(), settings.average)
        self.optimizer = Adam(self.model.params, lr=settings.peak_rate)
        self.trainer = Trainer(
            self.model,
            self.optimizer,
            smoothing=settings.smoothing,
            clip=settings.clip,
            workers=settings.workers,
            rng=settings.seed if config.dropout or config.attention_dropout else None,
            comm=comm,
        )
        self.ranks = self.trainer.ranks
        self.seconds = 0.0
        self.best: Sequence[float] | None = None              # the scores of best.npz
        self.worse = 0                        # validations in a row without a better model
        self.ended: int | None = None         # the steps that were still wanted when patience ended
        self.losses: deque[float] = deque(maxlen=WINDOW)      # of the last steps
        self.saved: int | None = None         # the step of last.npz
        self._lock = FolderLock(self.folder)
        self._last = LastState(self.folder)                   # rank 0 alone uses it
        self._in_step: int | None = None      # the step that has begun and not ended

    @classmethod
    def start(
        cls,
        folder: str | os.PathLike[str],
        task: Task | TextTask,
        config: Config,
        settings: Settings,
        comm: Communicator | None = None,
        *,
        params: Params | None = None,
    ) -> Run:
        """Begin a run in a folder that holds none, and return it.

        - folder: made if it is missing, as the last thing: a run that cannot begin leaves no folder.
        - task, config, settings, comm: as for the class.
        - params: the first parameters by name; None draws them.

        Raises FileExistsError for a folder that holds a run, BlockingIOError for one that another process begins a run
        in, OSError for one that cannot be written, and what the class raises.
        """
        ranks = Ranks(comm)
        ranks.from_first(partial(_check_new, Path(folder)))
        run = cls(folder, task, config, dataclasses.replace(settings, ranks=ranks.size), comm)
        run.settings = dataclasses.replace(run.settings, workers=run.trainer.workers)
        run._take(params or {})
        ranks.from_first(partial(run.folder.mkdir, parents=True, exist_ok=True))
        with run._locked():
            ranks.from_first(partial(run._write_first_files, is_new=params is None))
        return run

    @classmethod
    def resume(
        cls,
        folder: str | os.PathLike[str],
        task: Task | TextTask,
        comm: Communicator | None = None,
        *,
        workers: int | None = None,
        steps: int | None = None,
    ) -> Run:
        """Continue a run from its last checkpoint, or from the beginning when there is none yet; return the run.

        - folder: the folder of the run.
        - task: the task that the run began with, loaded again.
        - comm: an mpi4py communicator whose ranks all call the same methods; None for this process alone.
        - workers: threads of each rank, if the number of ranks has changed; None: one for each core.
        - steps: more steps than the run had; None for as many. From the next step on the learning rate is that of a run
          of so many steps.

        On as many ranks as before, a run has as many workers as before and ends on the same bits. On another number of
        ranks, sums are rounded differently and dropout draws other numbers.

        Raises FileNotFoundError for a folder without a run, BlockingIOError while another process trains in it,
        CheckpointError for files that are damaged, do not fit each other or belong to other data, ValueError for fewer
        steps.
        """
        ranks = Ranks(comm)
        description = ranks.from_first(lambda: read_description(folder))
        config, settings = config_and_settings(folder, description)
        if ranks.from_first(Path(folder, FIRST).exists):
            task = task.with_codec(codec_of(folder, description))
        if description["fingerprint"] != task.fingerprint:
            raise CheckpointError(f"{folder}: expected the data that the run began with, got other data")
        first = settings
        if steps is not None and check_size("steps", steps, least=settings.steps) > settings.steps:
            settings = dataclasses.replace(settings, steps=steps)
        if settings.ranks != ranks.size:
            settings = dataclasses.replace(settings, ranks=ranks.size, workers=workers)
        run = cls(folder, task, config, settings, comm)
        with run._locked():
            if settings.steps > first.steps:
                longer = dataclasses.replace(first, steps=settings.steps)
                ranks.from_first(partial(write_description, run.folder, task, config, longer))
            ranks.from_first(run._read_first)
            metadata = ranks.from_first(lambda: run._last.read(run.trainer, settings.steps, run.average))
            if metadata is not None:
                run.trainer.synchronize()
                run.average = ranks.from_first(lambda: run.average)
                run.seconds, run.best, run.saved = metadata["seconds"], metadata["best"], run.trainer.steps
                run.worse, run.ended = metadata["worse"], metadata["ended"]
                run.losses.extend(metadata["losses"])
            ranks.from_first(lambda: rewind_log(run.folder, task.score_names, run.trainer.steps))
        return run

    @property
    def is_finished(self) -> bool:
        """Whether no step remains: all are taken, or patience has ended."""
        return self.settings.steps in (self.trainer.steps, self.ended)

    def train(self) -> Iterator[Progress]:
        """Take the remaining steps and yield after each. The settings say when to validate and save; the end does both.

        Raises FloatingPointError for a loss that is not finite, ValueError for a gradient that is not finite; the
        message names the step and the parameter. Raises OSError when the folder cannot be written, RuntimeError and
        BlockingIOError as `save` does. The old `last.npz` stays. The folder is locked until the iterator ends.
        """
        with self._locked():
            self.ranks.from_first(self._last.check_known)
            yield from self._steps()

    def _steps(self) -> Iterator[Progress]:
        """Take the remaining steps in a locked folder."""
        self._check_step_finished()
        s = self.settings
        batches = self.task.batches(s.batch_size, seed=s.seed)
        before, began = self.seconds, time.perf_counter()
        while not self.is_finished:
            step = self._in_step = self.trainer.steps + 1
            batch = batches[step - 1]
            rate = linear_rate(step, s.steps + 1, s.peak_rate, s.warmup)
            loss = self._step(batch, rate)
            self.losses.append(loss)
            mean_loss = sum(self.losses) / len(self.losses)
            is_validated = step % s.validate_every == 0 or step == s.steps
            if is_validated and self.average is not None:
                self.average.add(self.model.params.flat)
            scores = self.validate() if is_validated else None
            values = [] if scores is None else [scores[name] for name in self.task.score_names]
            is_best = scores is not None and self._judge(values)
            self.seconds = before + time.perf_counter() - began
            if scores is not None:
                self.ranks.from_first(partial(append_to_log, self.folder, step, self.seconds, mean_loss, rate, values))
            self._in_step = None
            if step % s.checkpoint_every == 0 or self.is_finished:
                self.save()
            tokens = int((batch[-1][:, 1:] != self.config.pad_id).sum())
            yield Progress(step, s.steps, loss, rate, tokens, self.seconds, scores, is_best, mean_loss)

    def validate(self) -> dict[str, float]:
        """Return the scores of the model on the first `validation_items` validation items, see `npattn.runs.kinds`.

        With `average` in the settings it is the mean of the parameters at the last validations that `train` made.
        """
        return self.score(self._candidate, self.task.validation[: self.settings.validation_items])

    @property
    def _candidate(self) -> Any:
        """The model that is validated and kept."""
        return self.model if self.average is None or not self.average.count else self.average.model

    def score(self, model: Model, items: Sequence[Any]) -> dict[str, float]:
        """Return the scores of a model on items by name: of greedy search, or of the probabilities of a text.

        - model: the run's own model, or another of the same kind.
        - items: validation or test items of the task.
        """
        return KINDS[self.task.model].score(self, model, items)

    def predict(self, model: Transformer, texts: Sequence[str], beam: int = 1) -> list[str]:
        """Return a target text for each source text, see `npattn.runs.predict`; each rank computes its share.

        - model: the run's own model, or another for the same codec.
        - texts: the source texts.
        - beam: 1 for greedy search; more for a beam search of that width.

        A text that is too long gets an empty target.

        Raises ValueError for a text without symbols, and for a beam below 1.
        """
        workers = None if self.ranks.size == 1 else self.trainer.workers
        share = partial(predict, model, self.task.codec, beam=beam, workers=workers, skip_long=True)
        with one_blas_thread():                               # small products; and ranks may share cores
            return self.ranks.share_out(share, texts)

    def save(self) -> None:
        """Write `last.npz`, replacing it as a whole.

        Raises RuntimeError after a step that was not finished (because of Ctrl-C in a notebook, say): a part of the
        parameters may be those of the next step. Resume the run from its folder instead. Raises RuntimeError too when
        another process has gone on with the run, and BlockingIOError while one does. Raises RanksDiffer, and writes
        nothing, when the ranks hold different parameters, see `Trainer.require_alike`. Raises OSError when the file
        cannot be written.
        """
        self._check_step_finished()
        if self.saved == self.trainer.steps:
            return
        self.trainer.require_alike()
        metadata = {
            "trainer": self.trainer.state_dict(), "seconds": self.seconds, "best": self.best, "worse": self.worse,
            "ended": self.ended, "losses": list(self.losses),
        }  # fmt: skip
        with self._locked():
            self.ranks.from_first(partial(self._last.write, self.trainer, metadata, self.average))
        self.saved = self.trainer.steps

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from training in the folder, inside the block."""
        self.ranks.from_first(self._lock.acquire)
        try:
            yield
        finally:
            if self.ranks.rank == 0:
                self._lock.release()

    def _read_first(self) -> None:
        """Take the parameters that the run began with. The first step copies them to all ranks."""
        path = self.folder / FIRST
        if path.exists():
            model = type(self.model).load(path)
            if model.config != self.config:
                raise CheckpointError(f"{path}: expected {self.config} as in run.json, got {model.config}")
            self._take(model.params)

    def _take(self, params: Params) -> None:
        for name, array in params.items():
            self.model.params[name] = array

    def _write_first_files(self, is_new: bool) -> None:
        _check_new(self.folder)                               # again: another process may have begun a run meanwhile
        self._last.remove()                                   # of a run whose run.json was deleted
        (self.folder / FIRST).unlink(missing_ok=True)
        if not is_new:
            self.model.save(self.folder / FIRST)
        start_log(self.folder, self.task.score_names)
        write_description(self.folder, self.task, self.config, self.settings)

    def _step(self, batch: Sequence[Array], rate: float) -> float:
        try:
            return self.trainer.step(*batch, lr=rate)
        except FloatingPointError as error:                   # the trainer names the step
            raise FloatingPointError(f"{error} ({_describe_numbers(self.model.params)})") from error
        except ValueError as error:
            raise ValueError(f"step {self.trainer.steps + 1}: {error}") from error

    def _check_step_finished(self) -> None:
        if self._in_step is not None:
            raise RuntimeError(f"{self.folder}: step {self._in_step} was broken off: resume from the last checkpoint")

    def _judge(self, scores: Sequence[float]) -> bool:
        """Write `best.npz` unless earlier scores are better, and return whether it is written. Count for patience.

        Of models with the same scores the later one is kept: it has learnt more.
        """
        self.worse = 0 if self.best is None or self._is_better(scores, than=self.best) else self.worse + 1
        patience = self.settings.patience
        if patience is not None and self.worse and self.worse % patience == 0:   # again after more steps were added
            self.ended = self.settings.steps
        if self.best is not None and self._is_better(self.best, than=scores):
            return False
        self.best = scores
        self.trainer.require_alike()
        self.ranks.from_first(lambda: self._candidate.save(self.folder / "best.npz"))
        return True

    def _is_better(self, scores: Sequence[float], than: Sequence[float]) -> bool:
        """Return whether scores are better than others, by the score that the settings name."""
        second = self.settings.best_by == self.task.score_names[1]   # a rate of errors
        if second and scores[1] != than[1]:
            return scores[1] < than[1]
        return bool(self.task.is_better(scores, than))


def _check_new(folder: Path) -> None:
    if (folder / "run.json").exists():
        raise FileExistsError(f"{folder}: expected a new folder, found a run; resume it or choose another")


def _describe_numbers(params: Params) -> str:
    """Return which parameter to look at when the loss is not finite."""
    sizes = {name: largest(array) for name, array in params.items()}
    for name, size in sizes.items():
        if not math.isfinite(size):
            return f"{name!r} holds numbers that are not finite"
    size, name = max((size, name) for name, size in sizes.items())
    return f"all parameters are finite, the largest number is {size:.3g}, in {name!r}"
