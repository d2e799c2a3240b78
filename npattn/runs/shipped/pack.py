"""Turn a run into a shipped model: ``python -m npattn.runs.shipped.pack RUN FOLDER``.

The parameters are rounded to half precision, 11 significant bits. This halves the file and changes a weight w by at
most 2⁻¹¹ |w|.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

from npattn._internal.files import save_arrays
from npattn.optim.clipping import largest
from npattn.runs.load import WEIGHTS, load_run


def pack(run: Path, folder: Path) -> None:
    """Write `run.json`, `log.tsv` and the best model of `run`, in half precision, into `folder`.

    Raises FileNotFoundError or CheckpointError, as `npattn.runs.load_run` does, and ValueError when a parameter is too
    large for half precision.
    """
    model, _, _ = load_run(run)
    limit = float(np.finfo(np.float16).max)
    for name, array in model.params.items():
        if not largest(array) <= limit:
            raise ValueError(f"{name}: expected numbers up to {limit:g} for half precision, got larger ones")
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: array.astype(np.float16) for name, array in model.params.items()}
    save_arrays(folder / WEIGHTS, halves, {})
    for name in ("run.json", "log.tsv"):
        shutil.copyfile(run / name, folder / name)


if __name__ == "__main__":
    pack(*map(Path, sys.argv[1:]))
