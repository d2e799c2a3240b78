"""Read and write named arrays in the formats of other programs: `.npz` and `.safetensors`, without metadata."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npattn._internal.checks import Array, check_path, is_array, kind_of
from npattn._internal.files.npz import check_storable, read_array, read_headers, reading, write_archive
from npattn._internal.files.whole import replacing

SUFFIXES = (".npz", ".safetensors")


def load_state(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the arrays in a `.npz` file of `np.savez`, or in a `.safetensors` file of the package safetensors.

    - path: the file; its suffix tells the format.

    In an `.npz` file the headers are checked before any array is read, compressed members and pickles are refused, and
    every array has a CRC-32. A `.safetensors` file has no checksum. NumPy has no bfloat16: save `tensor.float()`
    instead.

    Raises CheckpointError for a damaged file or another format, with file and cause; ValueError for another suffix;
    ModuleNotFoundError for `.safetensors` without the package; OSError when the file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state(Path(folder, "state.npz"), {"linear1.weight": np.eye(2, dtype=np.float32)})
    ...     load_state(Path(folder, "state.npz"))
    {'linear1.weight': array([[1., 0.],
           [0., 1.]], dtype=float32)}
    """
    if _suffix(path) == ".safetensors":
        numpy = _safetensors()
        with reading(path) as file:
            return {name: np.asarray(array) for name, array in numpy.load(file.read()).items()}
    with reading(path) as file, zipfile.ZipFile(file) as archive:
        return {name: read_array(archive, name) for name in read_headers(archive, os.fstat(file.fileno()).st_size)}


def save_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write named arrays to a `.npz` or a `.safetensors` file. `load_state` has an example.

    - path: the file; its suffix tells the format. It is replaced completely or not at all.
    - state: arrays of any shape by name, or anything that `np.asarray` accepts.

    `np.load` and `safetensors.torch.load_file` read the file. Raises ValueError or TypeError for a suffix, a name or a
    dtype that cannot be written; ModuleNotFoundError for `.safetensors` without the package; OSError when the file
    cannot be written.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a mapping of names to arrays, got {type(state).__name__}")
    arrays = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray) and not is_array(value):
            raise TypeError(f"state: {name!r}: expected a NumPy array, got {kind_of(value)}")
        # safetensors 0.8.0 writes arrays in Fortran order wrongly, without an error. np.ascontiguousarray would turn
        # the shape () into (1,).
        arrays[name] = np.asarray(value, order="C")
        check_storable("state", name, arrays[name].dtype)
    numpy = _safetensors() if _suffix(path) == ".safetensors" else None
    with replacing(Path(path)) as file:
        if numpy is None:
            write_archive(file, arrays)
        else:
            file.write(numpy.save({n: a.astype(a.dtype.newbyteorder("="), copy=False) for n, a in arrays.items()}))


def _suffix(path: str | os.PathLike[str]) -> str:
    """Return the suffix of the file. Raise a ValueError unless it is one of `SUFFIXES`."""
    suffix = check_path("path", path).suffix
    if suffix not in SUFFIXES:
        hint = "; what torch.save writes is a pickle, which can run any code" * (suffix in (".pt", ".pth", ".bin"))
        raise ValueError(f"path: expected a file with the suffix {' or '.join(SUFFIXES)}, got {str(path)!r}{hint}")
    return suffix


def _safetensors() -> Any:
    """Return the module safetensors.numpy."""
    try:
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('a .safetensors file needs the package: pip install "npattn[safetensors]"') from error
    return safetensors.numpy
