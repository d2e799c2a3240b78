"""The settings of a run, and `run.json`, which holds them beside the task, the sizes of the model and the codec."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npattn._internal.checks import check_number, check_size, shown
from npattn._internal.files import CheckpointError, write_text
from npattn.runs.kinds import KINDS, Config, Kind
from npattn.tasks import Task, TextTask

FORMAT = 1
NAME = "run.json"

#: The fields of run.json and their types.
FIELDS: dict[str, type] = {
    "format": int, "task": str, "options": dict, "fingerprint": str, "config": dict, "settings": dict, "codec": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The settings of a run: its schedule, and how often it is validated and saved.

    - steps, batch_size: how many steps to train, and pairs or rows of text in a batch; 1 or more.
    - peak_rate: the highest learning rate, above 0.
    - warmup: steps in which the rate rises to it, 0 to `steps`. Afterwards it falls linearly.
    - smoothing, clip: label smoothing, 0 ≤ smoothing < 1, and the largest norm of the gradient; None for no limit.
    - seed: the integer that first parameters, batches and dropout are drawn from; 0 or more.
    - workers: threads of each rank, see `npattn.Trainer`; None: one for each core.
    - ranks: the number of MPI ranks, 1 without MPI.
    - validate_every, checkpoint_every: steps from one validation, or checkpoint, to the next; 1 or more.
    - validation_items: how many validation items are scored, from the first on; 1 or more.
    - best_by: the score that decides which model is the best; None for the headline of the task. The other one decides
      between equal scores.
    - patience: the run ends when so many validations in a row have found no better model; None for never.
    - average: the model that is validated, and kept if it is the best, is the mean of the parameters at so many last
      validations, see `npattn.runs.average`; None for the parameters as they are.

    Raises ValueError for a number out of range, TypeError for a value that is no number.

    >>> Settings(steps=100, batch_size=32, peak_rate=1e-3, warmup=200)
    Traceback (most recent call last):
    ValueError: warmup: expected 0 to steps=100, got 200
    """

    steps: int
    batch_size: int
    peak_rate: float
    warmup: int
    smoothing: float = 0.1
    clip: float | None = 1.0
    seed: int = 0
    workers: int | None = None
    ranks: int = 1
    validate_every: int = 1000
    validation_items: int = 1000
    checkpoint_every: int = 500
    best_by: str | None = None
    patience: int | None = None
    average: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "ranks", "validate_every", "validation_items", "checkpoint_every"):
            check_size(name, getattr(self, name), least=1)
        for name in ("seed", "warmup"):
            check_size(name, getattr(self, name))
        if self.warmup > self.steps:
            raise ValueError(f"warmup: expected 0 to steps={self.steps}, got {self.warmup}")
        for name in ("workers", "patience", "average"):
            if getattr(self, name) is not None:
                check_size(name, getattr(self, name), least=1)
        if not isinstance(self.best_by, str | None):
            raise TypeError(f"best_by: expected the name of a score or None, got {type(self.best_by).__name__}")
        check_number("peak_rate", self.peak_rate, 0, ends="()")
        check_number("smoothing", self.smoothing, 0, 1)
        if self.clip is not None:
            check_number("clip", self.clip, 0, ends="()")


def write_description(folder: Path, task: Task | TextTask, config: Config, settings: Settings) -> None:
    """Write `run.json`, replacing it as a whole."""
    description = {
        "format": FORMAT,
        "task": task.name,
        "options": dict(task.options),
        "fingerprint": task.fingerprint,
        "model": task.model,
        "config": dataclasses.asdict(config),
        "settings": dataclasses.asdict(settings),
        "codec": task.codec.to_json(),
    }
    write_text(folder / NAME, json.dumps(description, indent=1, ensure_ascii=False) + "\n")


def read_description(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read `run.json`. Raises FileNotFoundError when there is none, CheckpointError when it is not one of npattn's."""
    path = Path(folder, NAME)
    if not path.exists():
        raise FileNotFoundError(f"{folder}: expected the folder of a run, found no {NAME}")
    content = path.read_bytes()
    try:
        description = json.loads(content.decode())
        if not isinstance(description, dict):
            raise ValueError(f"expected an object, got {type(description).__name__}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no valid JSON of a run ({error})") from error
    missing = sorted(FIELDS.keys() - description.keys())
    if missing or description["format"] != FORMAT:
        found = f"format {description.get('format')!r}" + (f" without {', '.join(missing)}" if missing else "")
        raise CheckpointError(f"{path}: expected format {FORMAT} with all its fields, got {found}")
    for name, kind in FIELDS.items():
        if type(description[name]) is not kind:
            got = type(description[name]).__name__
            raise CheckpointError(f"{path}: expected format {FORMAT}, in which {name} is {kind.__name__}, got {got}")
    return description


def kind_of(folder: str | os.PathLike[str], description: dict[str, Any]) -> Kind:
    """Return the kind of model that a run trains. Raises CheckpointError for an unknown one."""
    name = description.get("model", "Transformer")            # older runs do not have it
    if name not in list(KINDS):
        raise CheckpointError(f"{Path(folder, NAME)}: expected a model among {', '.join(KINDS)}, got {shown(name)}")
    return KINDS[name]


def config_and_settings(folder: str | os.PathLike[str], description: dict[str, Any]) -> tuple[Any, Settings]:
    """Return the sizes and the settings of a run. Raises CheckpointError unless they are valid."""
    kind = kind_of(folder, description)
    try:
        return kind.config(**description["config"]), Settings(**description["settings"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{Path(folder, NAME)}: no valid sizes or schedule ({error})") from error


def codec_of(folder: str | os.PathLike[str], description: dict[str, Any]) -> Any:
    """Return the codec of a run. Raises CheckpointError unless it is valid."""
    kind = kind_of(folder, description)
    try:
        return kind.codec.from_json(description["codec"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{Path(folder, NAME)}: no valid codec ({error})") from error
