"""A training run and the folder it lives in.

======================  ==============================================================================
``run.json``            what was asked for: task, options, sizes, schedule, seed; and the codec
``last.npz``            where it stands: parameters, Adam's moments, counters; rewritten at every checkpoint
``best.npz``            the model with the best validation score so far
``log.tsv``             a line for each validation: step, minutes, loss, rate, scores
======================  ==============================================================================

Every step depends on the settings and the step's number alone (the batch, the rate, the dropout), so that a run which
was stopped, at whatever moment and in whatever way, goes on from `last.npz` as if it had not been. `train` yields its
progress; it prints nothing.

Several ranks of MPI, given a communicator, share a run: all train and validate, rank 0 alone reads and writes the
folder. Whatever fails there fails on all of them, and they stop at the same step.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from npattn._internal.checks import Params
from npattn._internal.files import CheckpointError, save_arrays
from npattn._internal.system.blas_threads import one_blas_thread
from npattn.optim import Adam, linear_rate
from npattn.optim.clipping import largest
from npattn.runs.last_state import checkpoint_arrays, restore
from npattn.runs.log import append_to_log, rewind_log, start_log
from npattn.runs.prediction import predict
from npattn.runs.settings import (
    Settings,
    config_and_settings,
    description_of,
    read_description,
    write_description,
)
from npattn.tasks import Batch, BucketedBatches, Task
from npattn.training.ranks import Communicator, Ranks
from npattn.training.trainer import Trainer
from npattn.transformer import Transformer, TransformerConfig


class Progress(NamedTuple):
    """How a run stands after a step."""

    step: int
    steps: int
    loss: float           # of this step's batch, nats a token
    rate: float
    tokens: int           # real target tokens of this step's batch
    seconds: float        # since the run began, over all its sittings
    scores: Mapping[str, float] | None   # on the validation sample, when this step was validated
    is_best: bool


class Run:
    """A run in `folder`, new or resumed; `train` takes it to its end.

    Raises FileExistsError for a new run in a folder that holds one, FileNotFoundError or CheckpointError when there
    is nothing valid to resume. With `comm`, a communicator of mpi4py, all its ranks call each method alike.
    """

    def __init__(
        self, folder: Path, task: Task, config: TransformerConfig, settings: Settings, comm: Communicator | None = None
    ) -> None:
        self.folder, self.task, self.config, self.settings = folder, task, config, settings
        self.model = Transformer(config, rng=settings.seed)
        self.optimizer = Adam(self.model.params, lr=settings.peak_rate)
        self.trainer = Trainer(
            self.model,
            self.optimizer,
            smoothing=settings.smoothing,
            clip=settings.clip,
            workers=settings.workers,
            rng=settings.seed if config.dropout else None,
            comm=comm,
        )
        self.ranks = self.trainer.ranks
        self.seconds = 0.0
        self.best: float | None = None
        self.saved: int | None = None         # the step of last.npz
        self._in_step: int | None = None      # the step that is being taken, or that was broken off

    @classmethod
    def start(
        cls, folder: Path, task: Task, config: TransformerConfig, settings: Settings, comm: Communicator | None = None
    ) -> Run:
        """Begin a run in a folder that holds none. What cannot be begun leaves no folder behind."""
        ranks = Ranks(comm)
        ranks.from_first(lambda: _require_new(folder))
        run = cls(folder, task, config, dataclasses.replace(settings, ranks=ranks.size), comm)
        run.settings = dataclasses.replace(run.settings, workers=run.trainer.workers)
        ranks.from_first(run._make_folder)
        return run

    @classmethod
    def resume(
        cls, folder: Path, task: Task, comm: Communicator | None = None, *, workers: int | None = None
    ) -> Run:
        """Go on from the last checkpoint, or from the beginning when there is none yet.

        On as many ranks as it began with, a run goes on with as many workers, to the same bits. On another number,
        with `workers` (None: one for each core): sums are then rounded otherwise, and dropout is another.
        """
        ranks = Ranks(comm)
        description = ranks.from_first(lambda: read_description(folder))
        config, settings = config_and_settings(folder, description)
        if description["fingerprint"] != task.fingerprint:
            raise CheckpointError(f"{folder}: expected the data that the run began with, got other data")
        if settings.ranks != ranks.size:
            settings = dataclasses.replace(settings, ranks=ranks.size, workers=workers)
        run = cls(folder, task, config, settings, comm)
        last = folder / "last.npz"
        metadata = ranks.from_first(lambda: restore(last, run.trainer, settings.steps) if last.exists() else None)
        if metadata is not None:
            run.trainer.synchronize()
            run.seconds, run.best, run.saved = metadata["seconds"], metadata["best"], run.trainer.steps
        ranks.from_first(lambda: rewind_log(folder, task.score_names, run.trainer.steps))
        return run

    def train(self) -> Iterator[Progress]:
        """Take the remaining steps; yield after each. Checkpoints and validates as the settings say, and at the end.

        Raises FloatingPointError for a loss, ValueError for a gradient that is not finite; the message names the
        step and the parameter. OSError when the folder cannot be written to. `last.npz` stands as it was.
        """
        self._check_whole()
        s = self.settings
        batches = BucketedBatches(self.task.train, s.batch_size, seed=s.seed)
        before, began = self.seconds, time.perf_counter()
        for step in range(self.trainer.steps + 1, s.steps + 1):
            self._in_step = step
            batch = batches[step - 1]
            rate = linear_rate(step, s.steps + 1, s.peak_rate, s.warmup)
            loss = self._step(batch, rate)
            scores, is_best = None, False
            if step % s.validate_every == 0 or step == s.steps:
                scores = self.validate()
                is_best = self._keep_best(scores)
            self.seconds = before + time.perf_counter() - began
            if scores is not None:
                self._log(step, loss, rate, scores)
            self._in_step = None
            if step % s.checkpoint_every == 0 or step == s.steps:
                self.save()
            tokens = int((batch.tgt[:, 1:] != self.config.pad_id).sum())
            yield Progress(step, s.steps, loss, rate, tokens, self.seconds, scores, is_best)

    def validate(self) -> dict[str, float]:
        """Return the scores of greedy search on the first `validation_items` validation items."""
        items = self.task.validation[: self.settings.validation_items]
        return self.task.score(self.predict(self.model, [item.source for item in items]), items)

    def predict(self, model: Transformer, texts: Sequence[str], beam: int = 1) -> list[str]:
        """Return what `model` writes for each text, see `npattn.runs.prediction`; each rank reads its share."""
        if self.ranks.size == 1:
            return predict(model, self.task.codec, texts, beam=beam)
        share = partial(predict, model, self.task.codec, beam=beam, workers=self.trainer.workers)
        with one_blas_thread():                               # ranks may share cores
            return self.ranks.share_out(share, texts)

    def save(self) -> None:
        """Write `last.npz`, replacing it as a whole.

        Raises RuntimeError when a step was broken off (by Ctrl-C in a notebook, say): half of the parameters may be
        those of the next step. Resume the run from its folder instead. Raises RanksDiffer, see
        `Trainer.require_alike`, rather than save what one of several ranks has spoilt.
        """
        self._check_whole()
        if self.saved == self.trainer.steps:
            return
        self.trainer.require_alike()
        metadata = {"trainer": self.trainer.state_dict(), "seconds": self.seconds, "best": self.best}
        self.ranks.from_first(lambda: save_arrays(self.folder / "last.npz", checkpoint_arrays(self.trainer), metadata))
        self.saved = self.trainer.steps

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "last.npz").unlink(missing_ok=True)    # of a run whose run.json was taken away
        start_log(self.folder, self.task.score_names)
        write_description(self.folder, description_of(self.task, self.config, self.settings))

    def _step(self, batch: Batch, rate: float) -> float:
        try:
            return self.trainer.step(batch.src, batch.tgt, rate)
        except FloatingPointError as error:                   # the trainer names the step
            raise FloatingPointError(f"{error} ({_suspect(self.model.params)})") from error
        except ValueError as error:
            raise ValueError(f"step {self.trainer.steps + 1}: {error}") from error

    def _check_whole(self) -> None:
        if self._in_step is not None:
            raise RuntimeError(f"{self.folder}: step {self._in_step} was broken off: resume from the last checkpoint")

    def _keep_best(self, scores: Mapping[str, float]) -> bool:
        headline = scores[self.task.score_names[0]]
        if self.best is not None and not self.task.is_better(headline, than=self.best):
            return False
        self.best = headline
        self.trainer.require_alike()
        self.ranks.from_first(lambda: self.model.save(self.folder / "best.npz"))
        return True

    def _log(self, step: int, loss: float, rate: float, scores: Mapping[str, float]) -> None:
        values = [scores[name] for name in self.task.score_names]
        self.ranks.from_first(lambda: append_to_log(self.folder, step, self.seconds, loss, rate, values))


def _require_new(folder: Path) -> None:
    if (folder / "run.json").exists():
        raise FileExistsError(f"{folder}: expected a new folder, found a run; resume it or choose another")


def _suspect(params: Params) -> str:
    """Name the parameter to look at when the loss is not finite."""
    record, of = -1.0, ""
    for name, array in params.items():
        size = largest(array)
        if not math.isfinite(size):
            return f"{name!r} holds numbers that are not finite"
        record, of = max((record, of), (size, name))
    return f"all parameters are finite, the largest number is {record:.3g}, in {of!r}"
