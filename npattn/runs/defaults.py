"""Begin a run with the sizes and the schedule that suit its task."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from npattn.runs.run import Run
from npattn.runs.settings import Settings
from npattn.tasks import Task
from npattn.training.ranks import Communicator
from npattn.transformer import TransformerConfig


def new_run(folder: Path, task: Task, given: dict[str, Any], comm: Communicator | None = None) -> Run:
    """Begin a run with the defaults of the task; what is `given` by name replaces them."""
    choices = dict(task.defaults) | given
    if "layers" in given:
        choices |= {"n_encoder_layers": given["layers"], "n_decoder_layers": given["layers"]}
    if "d_model" in given and "d_ff" not in given:
        choices["d_ff"] = 4 * given["d_model"]
    tenth = max(1, choices["steps"] // 10)
    choices = {"validate_every": min(1000, tenth)} | choices
    if "warmup" not in given:
        choices["warmup"] = min(choices["warmup"], tenth)
    codec = task.codec
    config = TransformerConfig(
        len(codec.source_vocabulary), len(codec.target_vocabulary), **_fields(TransformerConfig, choices)
    )
    return Run.start(folder, task, config, Settings(**_fields(Settings, choices)), comm)


def _fields(cls: Any, choices: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in choices.items() if name in names}
