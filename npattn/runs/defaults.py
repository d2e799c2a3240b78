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
    """Begin a run with the defaults of its task, and return it; `npattn.runs` shows an example.

    - folder: the folder of the run; it is made, and must not hold a run yet.
    - task: data and scores, from `npattn.tasks.load_task`.
    - given: values by the names of `Settings` and `npattn.TransformerConfig`, which replace the defaults. "layers" sets
      both n_encoder_layers and n_decoder_layers. Other names are ignored.
    - comm: an mpi4py communicator whose ranks train together; None for this process alone.

    Some defaults follow from `given`: d_ff is 4 · d_model; warmup is a tenth of the steps at most; the run is validated
    after every tenth of its steps, or after every 1000 if that is less.

    Raises FileExistsError for a folder that holds a run, OSError for one that cannot be written, ValueError for numbers
    out of range, TypeError for values of another type.
    """
    tenth = max(1, given.get("steps", task.defaults["steps"]) // 10)
    choices = {"validate_every": min(1000, tenth), **task.defaults}
    choices["warmup"] = min(choices["warmup"], tenth)
    if "d_model" in given:
        choices["d_ff"] = 4 * given["d_model"]
    choices |= given
    if "layers" in given:
        choices |= {"n_encoder_layers": given["layers"], "n_decoder_layers": given["layers"]}
    sizes = len(task.codec.source_vocabulary), len(task.codec.target_vocabulary)
    config = TransformerConfig(*sizes, **_fields(TransformerConfig, choices))
    return Run.start(folder, task, config, Settings(**_fields(Settings, choices)), comm)


def _fields(cls: Any, choices: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in choices.items() if name in names}
