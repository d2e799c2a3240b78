"""Named arrays and JSON metadata in one file, which is complete or refused.

**The file** is an `.npz`: a zip archive, without compression, of one `<name>.npy` for each array (C order, little
endian) and of `__npattn__.npy`, the bytes of a JSON object {"format": 1, "metadata": …}. `np.load` reads it. The file
ends with the comment of the archive: the SHA-256 of all bytes before it.

**Writing** goes to a temporary file. The complete file then replaces the old one (`npattn._internal.files.whole`), so
the path has a complete checkpoint whenever the process or the machine stops.

**Reading** checks everything. The checksum comes first: it finds every changed, missing and added byte. A forged file
can have the right checksum. Therefore names, shapes, dtypes and sizes are read from the headers and checked before any
array. No member may have more bytes than the file: nothing is compressed, so a zip bomb is impossible. Pickles are
never loaded.

`CheckpointError` means that the content of a file is wrong. A file that cannot be opened or written raises the OSError
of the operating system (FileNotFoundError, PermissionError, no space left on device …), which names the path.

>>> import tempfile
>>> from pathlib import Path
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder, "model.npz")
...     save_arrays(path, {"W": np.eye(2)}, {"step": 7})
...     load_arrays(path, expected={"W": ((2, 2), np.float64)})
({'W': array([[1., 0.],
       [0., 1.]])}, {'step': 7})
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike

from npattn._internal.checks import Array, Params, Spec, check_path, differences, layout_of
from npattn._internal.files.npz import (
    CheckpointError,
    Header,
    check_storable,
    read_array,
    read_headers,
    reading,
    write_archive,
)
from npattn._internal.files.whole import replacing, write_text

__all__ = ["CheckpointError", "load_arrays", "save_arrays", "write_text"]

FORMAT = 1
HEADER = "__npattn__"
DIGEST_LENGTH = 64  # hexadecimal digits of a SHA-256


def save_arrays(path: str | os.PathLike[str], arrays: Params, metadata: Mapping[str, Any]) -> None:
    """Write arrays and metadata to one file. A file that is there is replaced completely or not at all.

    - path: the file; no suffix is added.
    - arrays: NumPy arrays by name, of any shape: booleans, integers or floats of up to 64 bits.
    - metadata: what JSON can hold: text as keys, finite numbers, lists for tuples. Integers may have any size, as in
      the state of a random generator.

    Raises TypeError or ValueError for a name, dtype or value that the file cannot hold; OSError when the file cannot be
    written, for example on a full disk. After an error the old file is still there.
    """
    header = _header(metadata)
    for name, (_, dtype) in layout_of("arrays", arrays).items():
        check_storable("arrays", name, dtype)
        if name == HEADER:
            raise ValueError(f"arrays: expected another name than {HEADER!r}, which is that of the metadata")
    with replacing(check_path("path", path)) as file:
        write_archive(file, {**arrays, HEADER: header}, comment=bytes(DIGEST_LENGTH))
        _seal(file)


def load_arrays(
    path: str | os.PathLike[str],
    expected: Mapping[str, tuple[tuple[int, ...], DTypeLike]] | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays of any shape, by name, and the metadata that `save_arrays` wrote.

    - path: the file.
    - expected: shape and dtype of every array by its name; None accepts all arrays. Other arrays are refused by their
      headers, before any array takes memory, and the message lists every difference.

    Raises CheckpointError when the file is damaged, is no checkpoint, has a newer format or has other arrays; OSError
    when it cannot be opened.
    """
    with reading(path) as file:
        size = file.seek(0, os.SEEK_END)
        digest = _digest(file, max(size - DIGEST_LENGTH, 0))
        if file.read() != digest:
            raise CheckpointError("damaged or no checkpoint: the checksum at its end does not fit its content")
        with zipfile.ZipFile(file) as archive:
            layout = {name: _spec(name, header) for name, header in read_headers(archive, size).items()}
            metadata = _read_metadata(archive, layout.pop(HEADER, None))
            if expected is not None:
                wrong = differences(layout, {n: (tuple(s), np.dtype(d)) for n, (s, d) in expected.items()})
                if wrong:
                    raise CheckpointError(f"other arrays than expected: {wrong}")
            return {name: read_array(archive, name) for name in layout}, metadata


def _header(metadata: Mapping[str, Any]) -> Array:
    """Return the metadata as the bytes of a JSON object."""
    try:
        text = json.dumps({"format": FORMAT, "metadata": dict(metadata)}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata: expected what JSON can hold: {error}") from error
    return np.frombuffer(text.encode(), np.uint8)


def _seal(file: IO[bytes]) -> None:
    """Write the digest over the comment of the archive, which is the end of the file."""
    digest = _digest(file, file.seek(-DIGEST_LENGTH, os.SEEK_END))
    file.seek(-DIGEST_LENGTH, os.SEEK_END)
    file.write(digest)


def _digest(file: IO[bytes], end: int) -> bytes:
    """Return the SHA-256 of the first `end` bytes, in hexadecimal digits."""
    sha, left = hashlib.sha256(), end
    file.seek(0)
    while left and (block := file.read(min(left, 1 << 20))):
        sha.update(block)
        left -= len(block)
    return sha.hexdigest().encode()


def _spec(name: str, header: Header) -> Spec:
    """Return the shape and dtype of an array. Raise unless it is stored in the way of `save_arrays`."""
    if header.fortran_order or header.dtype != header.dtype.newbyteorder("<") or header.version != (1, 0):
        order = "Fortran" if header.fortran_order else "C"
        got = f"{order}, {header.dtype.str}, {header.version[0]}.{header.version[1]}"
        raise CheckpointError(f"array {name!r}: expected C order, little endian, version 1.0 of .npy, got {got}")
    return header.shape, header.dtype.newbyteorder("=")


def _read_metadata(archive: zipfile.ZipFile, spec: Spec | None) -> dict[str, Any]:
    """Return the metadata; `spec` is the shape and dtype of the member that has it, None if it is missing."""
    if spec is None:
        raise CheckpointError(f"no npattn checkpoint: member '{HEADER}.npy' is missing")
    shape, dtype = spec
    if dtype != np.uint8 or len(shape) != 1:
        raise CheckpointError(f"no npattn checkpoint: {HEADER!r} is {dtype} {shape}")
    content = json.loads(read_array(archive, HEADER).tobytes())
    if not isinstance(content, dict) or not isinstance(content.get("metadata"), dict):
        raise CheckpointError(f"no npattn checkpoint: {HEADER!r} holds no metadata")
    if content.get("format") != FORMAT:
        raise CheckpointError(f"expected format {FORMAT}, got {content.get('format')!r}: of a newer npattn?")
    return content["metadata"]
