"""`last.npz`, the last checkpoint of a run: parameters and Adam's state, and how a trainer continues from them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npattn._internal.checks import Array, check_number, check_size, shown
from npattn._internal.files import CheckpointError, load_arrays, save_arrays
from npattn.runs.average import Average
from npattn.training.trainer import Trainer

#: What later versions of npattn added to the metadata.
FIRST: dict[str, Any] = {"losses": [], "worse": 0, "ended": None, "averaged": 0}


class LastState:
    """`last.npz` in a folder, and whether it is still the file that this process read or wrote."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.npz"
        self._known: tuple[int, int] | None = None            # None for no file

    def read(self, trainer: Trainer, last_step: int, average: Average | None) -> dict[str, Any] | None:
        """Return what `restore` returns, or None if there is no file yet."""
        metadata = restore(self.path, trainer, last_step, average) if self.path.exists() else None
        self._known = self._found()
        return metadata

    def write(self, trainer: Trainer, metadata: Mapping[str, Any], average: Average | None) -> None:
        """Replace the file as a whole. Raises RuntimeError as `check_known` does, OSError if it cannot be written."""
        self.check_known()
        try:
            averaged = {} if average is None else {"averaged": average.count}
            save_arrays(self.path, checkpoint_arrays(trainer, average), {**metadata, **averaged})
        finally:                                              # the file may be there, and an error come after it
            self._known = self._found()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def check_known(self) -> None:
        """Raise RuntimeError unless the file is the one that this process read or wrote."""
        if self._found() != self._known:
            raise RuntimeError(f"{self.path.parent}: another training has gone on with this run: resume it again")

    def _found(self) -> tuple[int, int] | None:
        """Return what tells one file from another."""
        return (self.path.stat().st_ino, self.path.stat().st_mtime_ns) if self.path.exists() else None


def checkpoint_arrays(trainer: Trainer, average: Average | None) -> dict[str, Array]:
    """Return all arrays of a checkpoint by name."""
    arrays: dict[str, Array] = {f"params.{name}": array for name, array in trainer.model.params.items()}
    arrays |= {f"adam.{name}": array for name, array in trainer.optimizer.state_dict().items()}
    return arrays if average is None else arrays | {"average": average.last}


def restore(path: Path, trainer: Trainer, last_step: int, average: Average | None) -> dict[str, Any]:
    """Put trainer and average into the state of a checkpoint of at most `last_step` steps; return its metadata.

    Raises CheckpointError, and changes nothing, if the checkpoint does not fit them.
    """
    wanted = {name: (array.shape, array.dtype) for name, array in checkpoint_arrays(trainer, average).items()}
    arrays, metadata = load_arrays(path, wanted)
    try:
        expected = trainer.state_dict() | {"steps": int(arrays["adam.t"])}
        if metadata["trainer"] != expected or not 0 < expected["steps"] <= last_step:
            raise ValueError(f"trainer: expected {expected} of at most {last_step} steps, got {metadata['trainer']}")
        check_number("seconds", metadata["seconds"], 0)
        metadata = FIRST | metadata                           # older runs do not have these
        if isinstance(metadata["best"], float | int):         # the headline alone, of a run before ties were decided
            metadata["best"] = [metadata["best"], sys.float_info.max]
        if metadata["best"] is not None:
            _check_numbers("best", metadata["best"], 2)
        _check_numbers("losses", metadata["losses"])
        for name in ("worse", "averaged"):
            check_size(name, metadata[name])
        if metadata["ended"] is not None:
            check_size("ended", metadata["ended"], least=1)
        trainer.optimizer.load_state_dict({name[5:]: a for name, a in arrays.items() if name.startswith("adam.")})
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not fit this run ({error})") from error
    for name in trainer.model.params:
        trainer.model.params[name] = arrays[f"params.{name}"]
    trainer.load_state_dict(metadata["trainer"])
    if average is not None and metadata["averaged"]:
        average.restore(arrays["average"], metadata["averaged"])
    return metadata


def _check_numbers(name: str, values: object, length: int | None = None) -> None:
    """Raise unless `values` is a list of numbers of 0 or more; `length` is the number of them."""
    if not isinstance(values, list) or length not in (None, len(values)):
        raise TypeError(f"{name}: expected a list of numbers, got {shown(values)}")
    for value in values:
        check_number(name, value, 0)
