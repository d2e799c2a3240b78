"""Load a trained model: the best one of a run, or one that comes with the package."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from os import PathLike
from pathlib import Path

import numpy as np

from npattn._internal.checks import shown
from npattn._internal.files import CheckpointError, load_arrays
from npattn.runs.settings import codec_of, config_and_settings, read_description
from npattn.runs.trained import TrainedModel
from npattn.transformer import Transformer

#: The folder of the models that come with the package, and their names. In a zip file it is no `Path`.
FOLDER = resources.files("npattn.runs.shipped")
SHIPPED = ("g2p",)

#: The file of a shipped model's parameters, in half precision.
WEIGHTS = "weights.npz"


def load_run(folder: str | PathLike[str]) -> TrainedModel:
    """Return the best model of a run; `npattn.runs` shows an example.

    - folder: the folder of the run.

    Raises FileNotFoundError for a folder without a run, or for a run that has no best model yet; CheckpointError for
    files that are damaged or do not fit each other; TypeError for what is no path.
    """
    folder = path_of(folder)
    description = read_description(folder)
    path = folder / "best.npz"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: expected best.npz, but the run has not been validated yet")
    codec = codec_of(folder, description)
    model = Transformer.load(path)
    wanted = f"src_vocab={len(codec.source_vocabulary)}, tgt_vocab={len(codec.target_vocabulary)}"
    got = f"src_vocab={model.config.src_vocab}, tgt_vocab={model.config.tgt_vocab}"
    if got != wanted:
        raise CheckpointError(f"{path}: expected {wanted} as in run.json, got {got}")
    return TrainedModel(model, codec, description)


def load_model(run: str | PathLike[str]) -> TrainedModel:
    """Return the best model of a run, or a shipped model.

    - run: the folder of a run, or the name of a shipped model as a str. "g2p" is always the shipped model; "./g2p" and
      `Path("g2p")` are a folder.

    Raises FileNotFoundError, CheckpointError and TypeError, as `npattn.runs.load_run` does for a folder.

    >>> model = load_model("g2p")
    >>> model
    <TrainedModel of 1,398,528 parameters: g2p, characters to words>
    >>> model("knight"), model(["thorough", "quick"])
    ('N AY T', ['TH ER OW', 'K W IH K'])
    """
    if not is_shipped(run):
        return load_run(run)
    with folder_of(run) as folder:
        description = read_description(folder)
        config, _ = config_and_settings(folder, description)
        halves, _ = load_arrays(folder / WEIGHTS)
        weights = {name: half.astype(np.float32) for name, half in halves.items()}
        model = Transformer.from_arrays(config, weights, str(folder / WEIGHTS))
        return TrainedModel(model, codec_of(folder, description), description)


@contextmanager
def folder_of(run: str | PathLike[str]) -> Iterator[Path]:
    """Yield the folder of a run or of a shipped model, as `load_model` finds it; a copy if that is in a zip file."""
    if not is_shipped(run):
        yield path_of(run)
        return
    shipped = FOLDER / str(run)
    if isinstance(shipped, Path):
        yield shipped
        return
    with tempfile.TemporaryDirectory(prefix="npattn-") as copy:
        for file in shipped.iterdir():
            Path(copy, file.name).write_bytes(file.read_bytes())
        yield Path(copy)


def is_shipped(run: str | PathLike[str]) -> bool:
    """Return whether it is the name of a shipped model. A path is none, and a folder of that name does not matter."""
    return isinstance(run, str) and run in SHIPPED


def path_of(folder: str | PathLike[str]) -> Path:
    """Return the path of a folder. Raises a TypeError for what is no path."""
    if not isinstance(folder, str | PathLike):
        raise TypeError(f"run: expected the path of a folder, got {shown(folder)}")
    return Path(folder)
