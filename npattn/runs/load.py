"""Load a trained model: the best one of a run, or one that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from npattn._internal.files import CheckpointError, load_arrays
from npattn.runs.settings import codec_of, config_and_settings, read_description
from npattn.tasks import Codec
from npattn.transformer import Transformer

#: The folder of the models that come with the package, and their names.
FOLDER = Path(__file__).parent / "shipped"
SHIPPED = ("g2p",)

#: The file of a shipped model's parameters, in half precision.
WEIGHTS = "weights.npz"


def load_run(folder: Path) -> tuple[Transformer, Codec, dict[str, Any]]:
    """Return the best model of a run, its codec and the content of its run.json; `npattn.runs` shows an example.

    - folder: the folder of the run.

    Raises FileNotFoundError for a folder without a run, or for a run that has no best model yet; CheckpointError for
    files that are damaged or do not fit each other.
    """
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
    return model, codec, description


def load_model(run: str | Path) -> tuple[Transformer, Codec, dict[str, Any]]:
    """Return model, codec and the content of run.json, of a run or of a shipped model.

    - run: the folder of a run, or the name of a shipped model. If there is a folder of that name, it is read.

    Raises FileNotFoundError or CheckpointError, as `npattn.runs.load_run` does for a folder.

    >>> from npattn.runs import predict
    >>> model, codec, _ = load_model("g2p")
    >>> predict(model, codec, ["knight", "thorough"])
    ['N AY T', 'TH ER OW']
    """
    shipped = find_shipped(run)
    if shipped is None:
        return load_run(Path(run))
    description = read_description(shipped)
    config, _ = config_and_settings(shipped, description)
    halves, _ = load_arrays(shipped / WEIGHTS)
    weights = {name: half.astype(np.float32) for name, half in halves.items()}
    model = Transformer.from_arrays(config, weights, str(shipped / WEIGHTS))
    return model, codec_of(shipped, description), description


def find_shipped(run: str | Path) -> Path | None:
    """Return the folder of a shipped model; None for another name, or when the current folder has one of that name."""
    return FOLDER / str(run) if str(run) in SHIPPED and not Path(run).is_dir() else None
