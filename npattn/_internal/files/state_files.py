"""Files of named arrays as others write them, without metadata of ours: `.npz`, and `.safetensors`."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npattn._internal.checks import Array, check_path, is_array, kind_of
from npattn._internal.files.npz import check_writable, read_array, read_headers, reading, write_archive
from npattn._internal.files.whole import replacing

SUFFIXES = (".npz", ".safetensors")


def load_state(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the arrays that `np.savez` wrote to a `.npz` file, or the package safetensors to a `.safetensors` file.

    Names, shapes and sizes are read from the headers of an `.npz` file, and checked, before an array is; compressed
    members and pickles are refused; a CRC-32 guards every array. A `.safetensors` file has no checksum. NumPy has no
    bfloat16: save `tensor.float()` instead.

    Raises CheckpointError, naming file and cause, for a file that is damaged or of another kind; ValueError for another
    suffix; ModuleNotFoundError when safetensors is wanted and not installed; OSError when the file cannot be opened.

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
    """Write named arrays, or whatever `np.asarray` makes arrays of, to a `.npz` or a `.safetensors` file.

    The file is replaced wholly or not at all; `load_state` shows an example. `np.load` and
    `safetensors.torch.load_file` read it. Raises ValueError or TypeError for a suffix, a name or a dtype that cannot be
    written; ModuleNotFoundError and OSError as `load_state`.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a mapping of names to arrays, got {type(state).__name__}")
    for name, value in state.items():
        if isinstance(value, np.ndarray) and not is_array(value):
            raise TypeError(f"state: {name!r}: expected a NumPy array, got {kind_of(value)}")
    # Not ascontiguousarray, which makes an array () of shape (1,). safetensors 0.8.0 writes an array in Fortran order
    # with its numbers in the wrong places, and says nothing.
    arrays = {name: np.asarray(value, order="C") for name, value in state.items()}
    for name, array in arrays.items():
        check_writable("state", name, array.dtype)
    if _suffix(path) == ".safetensors":
        content = _safetensors().save({n: a.astype(a.dtype.newbyteorder("="), copy=False) for n, a in arrays.items()})
        with replacing(Path(path)) as file:
            file.write(content)
    else:
        with replacing(Path(path)) as file:
            write_archive(file, arrays)


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = check_path("path", path).suffix
    if suffix not in SUFFIXES:
        hint = "; what torch.save writes is a pickle, which can run any code" * (suffix in (".pt", ".pth", ".bin"))
        raise ValueError(f"path: expected a file with the suffix {' or '.join(SUFFIXES)}, got {str(path)!r}{hint}")
    return suffix


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a .safetensors file needs the package: pip install npattn[safetensors]") from error
    return safetensors.numpy
