"""Begin a run with the sizes and the schedule that suit its task."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from os import PathLike
from typing import Any

from npattn._internal.checks import check_size
from npattn.runs.kinds import KINDS
from npattn.runs.load import TextModel, path_of
from npattn.runs.run import Run
from npattn.runs.settings import Settings
from npattn.runs.trained import TrainedModel
from npattn.tasks import Task, TextTask
from npattn.training.ranks import Communicator

#: The fields of `Settings` that a run chooses. The communicator gives the ranks.
SCHEDULE = {field.name for field in dataclasses.fields(Settings)} - {"ranks"}


def names_of(task: Task | TextTask) -> set[str]:
    """Return what a run chooses by name: the fields of `Settings` and of the model's sizes, and "layers"."""
    return sizes_of(task) | SCHEDULE | {"layers"}


def sizes_of(task: Task | TextTask) -> set[str]:
    """Return the fields of the model's sizes that the codec does not decide."""
    kind = KINDS[task.model]
    return {field.name for field in dataclasses.fields(kind.config)} - kind.sizes(task.codec).keys()


def new_run(
    folder: str | PathLike[str],
    task: Task | TextTask,
    given: dict[str, Any],
    comm: Communicator | None = None,
    *,
    start: TrainedModel | TextModel | None = None,
) -> Run:
    """Begin a run with the defaults of its task, and return it; `npattn.runs` shows an example.

    - folder: the folder of the run; it is made, and must not hold a run yet.
    - task: data and scores, from `npattn.tasks.load_task`.
    - given: values by the names of `Settings` and `npattn.TransformerConfig`, or of `npattn.LanguageModelConfig` for
      text, which replace the defaults. "layers" sets n_layers, or both n_encoder_layers and n_decoder_layers.
    - comm: an mpi4py communicator whose ranks train together; None for this process alone.
    - start: a trained model to begin with; the run has its sizes and its codec. None begins with a new model.

    Some defaults follow from `given`: d_ff is 4 · d_model, or 2.75 · d_model for text; warmup is a tenth of the steps
    at most. A run is validated after every tenth of its steps, and at least every 1000 steps.

    Raises FileExistsError for a folder that holds a run, OSError for one that cannot be written, ValueError for numbers
    out of range, TypeError for other names and for values of another type. Raises ValueError for sizes that `start`
    does not have, for targets with symbols that it cannot write, and for a model of another kind.
    """
    model: Any = None if start is None else start[0]
    if start is not None:
        if not isinstance(model, KINDS[task.model].model):
            raise ValueError(f"start: expected a {task.model} for this task, got a {type(model).__name__}")
        codec: Any = start.codec
        task = task.with_codec(codec)
    kind, names = KINDS[task.model], names_of(task)
    for name in given:
        if name not in names:
            raise TypeError(f"given: expected names among {', '.join(sorted(names))}, got {name!r}")
    tenth = max(1, check_size("steps", given.get("steps", task.defaults["steps"]), least=1) // 10)
    choices = {"validate_every": min(1000, tenth), **task.defaults}
    choices["warmup"] = min(choices["warmup"], tenth)
    if "d_model" in given:
        d_model = check_size("d_model", given["d_model"], least=1)
        choices["d_ff"] = d_model * choices["d_ff"] // choices["d_model"]
    if "layers" in given:
        layers = check_size("layers", given["layers"], least=1)
        given = given | dict.fromkeys(kind.layers, layers)
    choices |= given
    chosen = {name: value for name, value in choices.items() if name in sizes_of(task)}
    if start is not None:
        chosen = asdict(model.config) | {name: value for name, value in chosen.items() if name in given}
        check_same(chosen, asdict(model.config), {"dropout", "attention_dropout"})
    config = kind.config(**chosen | kind.sizes(task.codec))
    settings = Settings(**{name: value for name, value in choices.items() if name in SCHEDULE})
    return Run.start(path_of(folder), task, config, settings, comm, params=None if start is None else model.params)


def check_same(chosen: dict[str, Any], first: dict[str, Any], free: set[str]) -> None:
    """Raise a ValueError for a size that the model to begin with does not have; `free` are no sizes."""
    for name, value in chosen.items():
        if value != first[name] and name not in free:
            raise ValueError(f"{name}: expected {first[name]} as in the model to begin with, got {value}")
