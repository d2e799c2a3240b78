"""Load a trained model: the best one of a run, or one that comes with the package."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import shown
from npattn._internal.files import CheckpointError, load_arrays
from npattn.language_model import LanguageModel
from npattn.runs.kinds import KINDS
from npattn.runs.settings import codec_of, config_and_settings, kind_of, read_description
from npattn.runs.trained import TrainedModel
from npattn.tasks import Bytes
from npattn.transformer import Transformer

#: The folder of the models that come with the package, and their names. In a zip file it is no `Path`.
FOLDER = resources.files("npattn.runs.shipped")
SHIPPED = ("g2p",)

#: The file of a shipped model's parameters, in half precision.
WEIGHTS = "weights.npz"

#: What is said of a run of another model than the one that is asked for, by the name of the latter.
REFUSALS = {
    "Transformer": "expected a model that turns texts into texts, got a language model, which goes on with a text: "
                   "npattn generate uses it, and npattn.runs.load_text_model loads it",
    "LanguageModel": "expected a language model, got a model that turns texts into texts: npattn predict uses it, and "
                     "npattn.load_model loads it",
}  # fmt: skip


def load_run(folder: str | PathLike[str]) -> TrainedModel:
    """Return the best model of a run; `npattn.runs` shows an example.

    - folder: the folder of the run.

    Raises FileNotFoundError for a folder without a run, or for a run that has no best model yet; CheckpointError for
    files that are damaged or do not fit each other, and for a run of a language model; TypeError for what is no path.
    """
    return TrainedModel(*_best_model(folder, "Transformer"))


def load_text_model(folder: str | PathLike[str]) -> TextModel:
    """Return the best model of a run on text.

    - folder: the folder of the run.

    Raises FileNotFoundError for a folder without a run, or for a run that has no best model yet; CheckpointError for
    files that are damaged or do not fit each other, and for a run of another model; TypeError for what is no path.

    >>> import tempfile
    >>> from npattn.runs import new_run
    >>> from npattn.tasks import load_text
    >>> sizes = {"d_model": 8, "n_heads": 2, "layers": 1, "batch_size": 2, "steps": 2, "workers": 1}
    >>> with tempfile.TemporaryDirectory() as temporary:
    ...     path, run = Path(temporary, "text.txt"), Path(temporary, "run")
    ...     _ = path.write_text("to be or not to be " * 4)
    ...     steps = [progress.step for progress in new_run(run, load_text(files=[path], context=8), sizes).train()]
    ...     model = load_text_model(run)
    >>> steps, model.encode("be"), model.decode([98, 101]), model.model.config.n_layers
    ([1, 2], [256, 98, 101], 'be', 1)
    """
    return TextModel(*_best_model(folder, "LanguageModel"))


class TextModel(NamedTuple):
    """A language model, the codec of its text, and what is known about its run.

    - model: the model.
    - codec: turns text into ids and back.
    - description: the content of its run.json: task, sizes, schedule.
    """

    model: LanguageModel
    codec: Bytes
    description: dict[str, Any]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, with the id of the beginning before them.

        - text: any text.
        """
        return self.codec.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids. The id of the beginning has none; bytes that are no UTF-8 become U+FFFD.

        - ids: ids of the model.
        """
        return self.codec.decode(ids)


def _best_model(folder: str | PathLike[str], name: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return the best model of a run, its codec and its description, if its model is of the class `name`."""
    folder = path_of(folder)
    description = read_description(folder)
    kind = kind_of(folder, description)
    if kind is not KINDS[name]:
        raise CheckpointError(f"{folder}: {REFUSALS[name]}")
    path = folder / "best.npz"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: expected best.npz, but the run has not been validated yet")
    codec = codec_of(folder, description)
    model = kind.model.load(path)
    wanted = kind.sizes(codec)
    found = {name: getattr(model.config, name) for name in wanted}
    if found != wanted:
        raise CheckpointError(f"{path}: expected {_listed(wanted)} as in run.json, got {_listed(found)}")
    return model, codec, description


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


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
