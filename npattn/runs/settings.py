"""What a run was asked for: its schedule, and `run.json`, which keeps it beside the task, the sizes and the codec."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npattn._internal.checks import check_number, check_size
from npattn._internal.files import CheckpointError, write_text
from npattn.tasks import Codec, Task
from npattn.transformer import TransformerConfig

FORMAT = 1
NAME = "run.json"

#: The fields of run.json and their types.
FIELDS: dict[str, type] = {
    "format": int, "task": str, "options": dict, "fingerprint": str, "config": dict, "settings": dict, "codec": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The schedule of a run. `workers` None means one for each core; of several `ranks`, each has so many.

    Raises ValueError for a number out of range, TypeError for what is no number.
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

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "ranks", "validate_every", "validation_items", "checkpoint_every"):
            check_size(name, getattr(self, name), least=1)
        for name in ("seed", "warmup"):
            check_size(name, getattr(self, name))
        if self.warmup > self.steps:
            raise ValueError(f"warmup: expected 0 to steps={self.steps}, got {self.warmup}")
        if self.workers is not None:
            check_size("workers", self.workers, least=1)
        check_number("peak_rate", self.peak_rate, 0, ends="()")
        check_number("smoothing", self.smoothing, 0, 1)
        if self.clip is not None:
            check_number("clip", self.clip, 0, ends="()")


def description_of(task: Task, config: TransformerConfig, settings: Settings) -> dict[str, Any]:
    """Return what run.json keeps."""
    return {
        "format": FORMAT,
        "task": task.name,
        "options": dict(task.options),
        "fingerprint": task.fingerprint,
        "config": dataclasses.asdict(config),
        "settings": dataclasses.asdict(settings),
        "codec": task.codec.to_json(),
    }


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Write `run.json`, replacing it as a whole."""
    write_text(folder / NAME, json.dumps(description, indent=1, ensure_ascii=False) + "\n")


def read_description(folder: Path) -> dict[str, Any]:
    """Read `run.json`. Raises FileNotFoundError when there is none, CheckpointError when it is not ours."""
    path = folder / NAME
    if not path.exists():
        raise FileNotFoundError(f"{folder}: expected the folder of a run, found no {NAME}")
    content = path.read_bytes()
    try:
        description = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no valid JSON of a run ({error})") from error
    if not isinstance(description, dict):
        raise CheckpointError(f"{path}: no valid JSON of a run (expected an object, got {type(description).__name__})")
    missing = sorted(FIELDS.keys() - description.keys())
    if missing or description["format"] != FORMAT:
        found = f"format {description.get('format')!r}" + (f" without {', '.join(missing)}" if missing else "")
        raise CheckpointError(f"{path}: expected format {FORMAT} with all its fields, got {found}")
    for name, kind in FIELDS.items():
        if type(description[name]) is not kind:
            got = type(description[name]).__name__
            raise CheckpointError(f"{path}: expected format {FORMAT}, in which {name} is {kind.__name__}, got {got}")
    return description


def config_and_settings(folder: Path, description: dict[str, Any]) -> tuple[TransformerConfig, Settings]:
    """Return the sizes and the schedule of a run. Raises CheckpointError unless they are valid."""
    try:
        return TransformerConfig(**description["config"]), Settings(**description["settings"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / NAME}: no valid sizes or schedule ({error})") from error


def codec_of(folder: Path, description: dict[str, Any]) -> Codec:
    """Return the codec of a run. Raises CheckpointError unless it is valid."""
    try:
        return Codec.from_json(description["codec"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / NAME}: no valid codec ({error})") from error
