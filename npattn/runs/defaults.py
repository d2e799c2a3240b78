"""Begin a run with the sizes and the schedule that suit its task."""

from __future__ import annotations

import dataclasses
from os import PathLike
from typing import Any

from npattn._internal.checks import check_size
from npattn.runs.load import path_of
from npattn.runs.run import Run
from npattn.runs.settings import Settings
from npattn.tasks import Task
from npattn.training.ranks import Communicator
from npattn.transformer import TransformerConfig

#: What a run chooses: the fields of `npattn.TransformerConfig` and of `Settings`. The codec gives the vocabularies, and
#: the communicator the ranks.
SIZES = {field.name for field in dataclasses.fields(TransformerConfig)} - {"src_vocab", "tgt_vocab"}
SCHEDULE = {field.name for field in dataclasses.fields(Settings)} - {"ranks"}
NAMES = SIZES | SCHEDULE | {"layers"}


def new_run(
    folder: str | PathLike[str], task: Task, given: dict[str, Any], comm: Communicator | None = None
) -> Run:
    """Begin a run with the defaults of its task, and return it; `npattn.runs` shows an example.

    - folder: the folder of the run; it is made, and must not hold a run yet.
    - task: data and scores, from `npattn.tasks.load_task`.
    - given: values by the names of `Settings` and `npattn.TransformerConfig`, which replace the defaults. "layers" sets
      both n_encoder_layers and n_decoder_layers.
    - comm: an mpi4py communicator whose ranks train together; None for this process alone.

    Some defaults follow from `given`: d_ff is 4 · d_model; warmup is a tenth of the steps at most; the run is validated
    after every tenth of its steps, or after every 1000 if that is less.

    Raises FileExistsError for a folder that holds a run, OSError for one that cannot be written, ValueError for numbers
    out of range, TypeError for other names and for values of another type.
    """
    for name in given:
        if name not in NAMES:
            raise TypeError(f"given: expected names among {', '.join(sorted(NAMES))}, got {name!r}")
    tenth = max(1, check_size("steps", given.get("steps", task.defaults["steps"]), least=1) // 10)
    choices = {"validate_every": min(1000, tenth), **task.defaults}
    choices["warmup"] = min(choices["warmup"], tenth)
    if "d_model" in given:
        choices["d_ff"] = 4 * check_size("d_model", given["d_model"], least=1)
    choices |= given
    if "layers" in given:
        layers = check_size("layers", given["layers"], least=1)
        choices |= {"n_encoder_layers": layers, "n_decoder_layers": layers}
    sizes = len(task.codec.source_vocabulary), len(task.codec.target_vocabulary)
    config = TransformerConfig(*sizes, **{name: value for name, value in choices.items() if name in SIZES})
    settings = Settings(**{name: value for name, value in choices.items() if name in SCHEDULE})
    return Run.start(path_of(folder), task, config, settings, comm)
