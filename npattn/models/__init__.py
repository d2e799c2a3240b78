"""Trained models that come with the package: ``npattn predict g2p knight`` answers without any training.

======  ==============================================  ==========  ============================================
name    what it does                                    parameters  trained by
======  ==============================================  ==========  ============================================
g2p     English spelling to phonemes, without stress    1,398,528   ``npattn train g2p --d-model 128 --heads 4
                                                                    --steps 16000 --rate 2e-3 --warmup 800``
======  ==============================================  ==========  ============================================

A folder holds what is left of a run for those who only use it: its ``run.json`` and ``log.tsv``, and ``weights.npz``,
the parameters in half precision, which `npattn.models.pack` made of its ``best.npz``. The model computes in float32.
``LICENSE.cmudict`` is that of the CMU Pronouncing Dictionary, which the g2p model was trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from npattn.checkpoint import load_arrays
from npattn.run_settings import codec_of, config_and_settings, read_description
from npattn.runs import load_run
from npattn.tasks import Codec
from npattn.transformer import Transformer

FOLDER = Path(__file__).parent

#: The names of the models.
SHIPPED = ("g2p",)

WEIGHTS = "weights.npz"


def load_model(run: str | Path) -> tuple[Transformer, Codec, dict[str, Any]]:
    """Return model, codec and description of the run in a folder, or of the shipped model of that name.

    A folder goes before a name. Raises what `npattn.runs.load_run` raises for a folder.

    >>> from npattn.predicting import predict
    >>> model, codec, _ = load_model("g2p")
    >>> predict(model, codec, ["knight", "thorough"])
    ['N AY T', 'TH ER OW']
    """
    shipped = find(run)
    if shipped is None:
        return load_run(Path(run))
    description = read_description(shipped)
    config, _ = config_and_settings(shipped, description)
    halves, _ = load_arrays(shipped / WEIGHTS)
    weights = {name: half.astype(np.float32) for name, half in halves.items()}
    model = Transformer.from_arrays(config, weights, str(shipped / WEIGHTS))
    return model, codec_of(shipped, description), description


def find(run: str | Path) -> Path | None:
    """Return the folder of the shipped model of that name, None when it is none, or when there is such a folder."""
    return FOLDER / str(run) if str(run) in SHIPPED and not Path(run).is_dir() else None
