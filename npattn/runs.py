"""A training run and the folder it lives in.

======================  ==============================================================================
``run.json``            what was asked for: task, options, sizes, schedule, seed; and the codec
``last.npz``            where it stands: parameters, Adam's moments, counters; rewritten at every checkpoint
``best.npz``            the model with the best validation score so far
``log.tsv``             a line for each validation: step, minutes, loss, rate, scores
======================  ==============================================================================

Every step depends on the settings and the step's number alone (the batch, the rate, the dropout), so that a run which
was stopped goes on from `last.npz` as if it had not been. `train` yields its progress; it prints nothing.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from npattn._files import replacing
from npattn._types import Array
from npattn.checkpoint import CheckpointError, load_arrays, save_arrays
from npattn.optim import Adam, linear_rate
from npattn.predicting import predict
from npattn.run_log import append_to_log, rewind_log, start_log
from npattn.tasks import BucketedBatches, Codec, Task
from npattn.training import Trainer
from npattn.transformer import Transformer, TransformerConfig

FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """The schedule of a run. `workers` None means one for each core. Raises ValueError for a number out of range."""

    steps: int
    batch_size: int
    peak_rate: float
    warmup: int
    smoothing: float = 0.1
    clip: float | None = 1.0
    seed: int = 0
    workers: int | None = None
    validate_every: int = 1000
    validation_items: int = 1000
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "validation_items", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if not 0 <= self.warmup <= self.steps:
            raise ValueError(f"warmup: expected 0 to steps={self.steps}, got {self.warmup}")


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
    is nothing valid to resume.
    """

    def __init__(self, folder: Path, task: Task, config: TransformerConfig, settings: Settings) -> None:
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
        )
        self.seconds = 0.0
        self.best: float | None = None

    @classmethod
    def start(cls, folder: Path, task: Task, config: TransformerConfig, settings: Settings) -> Run:
        """Begin a run in a folder that holds none."""
        if (folder / "run.json").exists():
            raise FileExistsError(f"{folder}: expected a new folder, found a run; resume it or choose another")
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(folder, task, config, settings)
        description = {
            "format": FORMAT,
            "task": task.name,
            "options": dict(task.options),
            "fingerprint": task.fingerprint,
            "config": dataclasses.asdict(config),
            "settings": dataclasses.asdict(settings) | {"workers": run.trainer.workers},
            "codec": task.codec.to_json(),
        }
        start_log(folder, task.score_names)
        with replacing(folder / "run.json") as file:
            file.write(json.dumps(description, indent=1, ensure_ascii=False).encode() + b"\n")
        return run

    @classmethod
    def resume(cls, folder: Path, task: Task) -> Run:
        """Go on from the last checkpoint, or from the beginning when there is none yet."""
        description = read_description(folder)
        if description["fingerprint"] != task.fingerprint:
            raise CheckpointError(f"{folder}: expected the data that the run began with, got other data")
        try:
            config, settings = TransformerConfig(**description["config"]), Settings(**description["settings"])
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{folder / 'run.json'}: no valid sizes or schedule ({error})") from error
        run = cls(folder, task, config, settings)
        if (folder / "last.npz").exists():
            run._load(folder / "last.npz")
        rewind_log(folder, task.score_names, run.trainer.steps)
        return run

    def train(self) -> Iterator[Progress]:
        """Take the remaining steps; yield after each. Checkpoints and validates as the settings say, and at the end."""
        s = self.settings
        batches = BucketedBatches(self.task.train, s.batch_size, seed=s.seed)
        before, began = self.seconds, time.perf_counter()
        for step in range(self.trainer.steps + 1, s.steps + 1):
            batch = batches[step - 1]
            rate = linear_rate(step, s.steps + 1, s.peak_rate, s.warmup)
            loss = self.trainer.step(batch.src, batch.tgt, rate)
            scores, is_best = None, False
            if step % s.validate_every == 0 or step == s.steps:
                scores = self.validate()
                is_best = self._keep_best(scores)
            self.seconds = before + time.perf_counter() - began
            if scores is not None:
                append_to_log(self.folder, step, self.seconds, loss, rate, [scores[n] for n in self.task.score_names])
            if step % s.checkpoint_every == 0 or step == s.steps:
                self.save()
            tokens = int((batch.tgt[:, 1:] != self.config.pad_id).sum())
            yield Progress(step, s.steps, loss, rate, tokens, self.seconds, scores, is_best)

    def validate(self) -> dict[str, float]:
        """Return the scores of greedy search on the first `validation_items` validation items."""
        items = self.task.validation[: self.settings.validation_items]
        predictions = predict(self.model, self.task.codec, [item.source for item in items])
        return self.task.score(predictions, items)

    def save(self) -> None:
        """Write `last.npz`, replacing it as a whole."""
        arrays: dict[str, Array] = {f"params.{name}": array for name, array in self.model.params.items()}
        arrays |= {f"adam.{name}": array for name, array in self.optimizer.state_dict().items()}
        metadata = {"trainer": self.trainer.state_dict(), "seconds": self.seconds, "best": self.best}
        save_arrays(self.folder / "last.npz", arrays, metadata)

    def _load(self, path: Path) -> None:
        arrays, metadata = load_arrays(path)
        groups: dict[str, dict[str, Array]] = {"params": {}, "adam": {}}
        try:
            for name, array in arrays.items():
                group, _, rest = name.partition(".")
                groups[group][rest] = array
            for name in self.model.params.keys() | groups["params"].keys():
                self.model.params[name] = groups["params"][name]
            self.optimizer.load_state_dict(groups["adam"])
            self.trainer.load_state_dict(metadata["trainer"])
            self.seconds, self.best = float(metadata["seconds"]), metadata["best"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: does not fit this run ({error})") from error

    def _keep_best(self, scores: Mapping[str, float]) -> bool:
        headline = scores[self.task.score_names[0]]
        if self.best is not None and not self.task.is_better(headline, than=self.best):
            return False
        self.best = headline
        self.model.save(self.folder / "best.npz")
        return True


def read_description(folder: Path) -> dict[str, Any]:
    """Read `run.json`. Raises FileNotFoundError when there is none, CheckpointError when it is not ours."""
    path = folder / "run.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: expected the folder of a run, found no run.json")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        missing = {"format", "task", "options", "fingerprint", "config", "settings", "codec"} - description.keys()
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: no valid JSON of a run ({error})") from error
    if missing or description["format"] != FORMAT:
        found = f"format {description.get('format')!r}" + (f" without {', '.join(sorted(missing))}" if missing else "")
        raise CheckpointError(f"{path}: expected format {FORMAT} with all its fields, got {found}")
    return dict(description)


def load_run(folder: Path) -> tuple[Transformer, Codec, dict[str, Any]]:
    """Return the best model of a run, its codec and its description, ready for `npattn.predicting.predict`."""
    description = read_description(folder)
    path = folder / "best.npz"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: expected best.npz, but the run has not been validated yet")
    try:
        codec = Codec.from_json(description["codec"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'run.json'}: no valid codec ({error})") from error
    model = Transformer.load(path)
    sizes = len(codec.source_vocabulary), len(codec.target_vocabulary)
    if sizes != (model.config.src_vocab, model.config.tgt_vocab):
        wanted = f"src_vocab={sizes[0]}, tgt_vocab={sizes[1]} as in run.json"
        got = f"src_vocab={model.config.src_vocab}, tgt_vocab={model.config.tgt_vocab}"
        raise CheckpointError(f"{path}: expected {wanted}, got {got}")
    return model, codec, description
