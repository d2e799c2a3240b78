"""Named arrays and JSON metadata in one file that is either whole or refused.

**The file** is an `.npz`: a zip archive, without compression, of one `<name>.npy` for each array (C order,
little endian) and `__npattn__.npy`, the bytes of a JSON object {"format": 1, "metadata": …}. `np.load` reads
it. The comment of the archive, which is the end of the file, is the SHA-256 of all bytes before it.

**Writing** goes to a temporary file that takes the place of an old one when it is complete (`npattn._internal.files.whole`),
so that there is a whole checkpoint at the path whenever the process or the machine stops.

**Reading** trusts nothing. First the checksum: no flipped, missing or added byte passes it. It does not stop
a file made up by somebody who can compute it, so names, shapes, dtypes and sizes are read from the headers
and checked before an array is, no member may claim more bytes than the file has (an uncompressed file is no
zip bomb), and pickles are never loaded.

`CheckpointError` is for the content of a file. A file that cannot be opened or written raises the OSError of
the operating system (FileNotFoundError, PermissionError, no space left on device …), which names the path.

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
    check_writable,
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
    """Write `arrays` and `metadata` to `path`, exactly as named, replacing a file there wholly or not at all.

    Metadata is what JSON can hold: strings as keys, finite numbers (integers of any size, such as the state
    of a random generator), lists for tuples. TypeError or ValueError: a name, dtype or value that the file
    cannot hold. OSError: it cannot be written, the disk is full …; what was at `path` before is still there.
    """
    header = _header(metadata)
    for name, (_, dtype) in layout_of("arrays", arrays).items():
        check_writable("arrays", name, dtype)
        if name == HEADER:
            raise ValueError(f"arrays: expected another name than {HEADER!r}, which is that of the metadata")
    with replacing(check_path("path", path)) as file:
        write_archive(file, {**arrays, HEADER: header}, comment=bytes(DIGEST_LENGTH))
        _seal(file)


def load_arrays(
    path: str | os.PathLike[str],
    expected: Mapping[str, tuple[tuple[int, ...], DTypeLike]] | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and the metadata that `save_arrays` wrote to `path`.

    With `expected`, from names to shape and dtype, the file must hold exactly these arrays; if not, its
    headers suffice to refuse it, before any array takes memory, and every difference is named.
    CheckpointError: the file is damaged, no checkpoint, of a newer format, or holds other arrays. OSError: it
    cannot be opened.
    """
    with reading(path) as file:
        return _read_archive(file, expected)


def _header(metadata: Mapping[str, Any]) -> Array:
    try:
        text = json.dumps({"format": FORMAT, "metadata": dict(metadata)}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata: expected what JSON can hold: {error}") from error
    return np.frombuffer(text.encode(), np.uint8)


def _seal(file: IO[bytes]) -> None:
    """Put the digest of all that stands before the comment of the archive into the comment."""
    end = file.seek(-DIGEST_LENGTH, os.SEEK_END)
    digest = _digest(file, end)
    file.seek(end)
    file.write(digest)


def _digest(file: IO[bytes], end: int) -> bytes:
    """Return the SHA-256 of the first `end` bytes, in hexadecimal digits."""
    sha, left = hashlib.sha256(), end
    file.seek(0)
    while left and (block := file.read(min(left, 1 << 20))):
        sha.update(block)
        left -= len(block)
    return sha.hexdigest().encode()


def _read_archive(
    file: IO[bytes], expected: Mapping[str, tuple[tuple[int, ...], DTypeLike]] | None
) -> tuple[dict[str, Array], dict[str, Any]]:
    size = file.seek(0, os.SEEK_END)
    digest = _digest(file, max(size - DIGEST_LENGTH, 0))
    if file.read() != digest:
        raise CheckpointError("damaged or no checkpoint: the checksum at its end does not fit its content")
    with zipfile.ZipFile(file) as archive:
        headers = read_headers(archive, size)
        layout = {name: _spec(name, header) for name, header in headers.items()}
        metadata = _read_metadata(archive, layout.pop(HEADER, None))
        if expected is not None:
            wrong = differences(layout, {n: (tuple(s), np.dtype(d)) for n, (s, d) in expected.items()})
            if wrong:
                raise CheckpointError(f"other arrays than expected: {wrong}")
        return {name: read_array(archive, name) for name in layout}, metadata


def _spec(name: str, header: Header) -> Spec:
    """Return shape and dtype of an array that is stored as `save_arrays` stores it, or refuse it."""
    if header.fortran_order or header.dtype != header.dtype.newbyteorder("<") or header.version != (1, 0):
        order = "Fortran" if header.fortran_order else "C"
        got = f"{order}, {header.dtype.str}, {header.version[0]}.{header.version[1]}"
        raise CheckpointError(f"array {name!r}: expected C order, little endian, version 1.0 of .npy, got {got}")
    return header.shape, header.dtype.newbyteorder("=")


def _read_metadata(archive: zipfile.ZipFile, spec: Spec | None) -> dict[str, Any]:
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
    metadata: dict[str, Any] = content["metadata"]
    return metadata
