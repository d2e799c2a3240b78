"""Named arrays and JSON metadata in one file that is either whole or refused.

**The file** is an `.npz`: a zip archive, without compression, of one `<name>.npy` for each array (C order,
little endian) and `__npattn__.npy`, the bytes of a JSON object {"format": 1, "metadata": …}. `np.load` reads
it. The comment of the archive, which is the end of the file, is the SHA-256 of all bytes before it.

**Writing** goes to a temporary file that takes the place of an old one when it is complete (`npattn._files`),
so that there is a whole checkpoint at the path whenever the process or the machine stops.

**Reading** trusts nothing. First the checksum: no flipped, missing or added byte passes it. It does not stop
a file made up by somebody who can compute it, so names, shapes, dtypes and sizes are read from the headers
and checked before an array is, no member may claim more bytes than the file has (an uncompressed file is no
zip bomb), and pickles are never loaded.

`CheckpointError` is for the content of a file. A file that cannot be opened or written raises the OSError of
the operating system (FileNotFoundError, PermissionError, no space left on device …), which names the path.

>>> import tempfile
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
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike

from npattn._files import replacing, write_text
from npattn._layout import Spec, differences, layout_of
from npattn._types import Array, Params

__all__ = ["CheckpointError", "load_arrays", "save_arrays", "write_text"]

FORMAT = 1
HEADER = "__npattn__"
DTYPES = {np.dtype(code).newbyteorder("<") for code in "?bBhHiIqQefd"}
DIGEST_LENGTH = 64  # hexadecimal digits of a SHA-256


class CheckpointError(ValueError):
    """A checkpoint file is damaged, or not what was expected; the message names the file and the cause."""


def save_arrays(path: str | os.PathLike[str], arrays: Params, metadata: Mapping[str, Any]) -> None:
    """Write `arrays` and `metadata` to `path`, exactly as named, replacing a file there wholly or not at all.

    Metadata is what JSON can hold: strings as keys, finite numbers (integers of any size, such as the state
    of a random generator), lists for tuples. TypeError or ValueError: a name, dtype or value that the file
    cannot hold. OSError: it cannot be written, the disk is full …; what was at `path` before is still there.
    """
    header = _header(metadata)
    for name, (_, dtype) in layout_of("arrays", arrays).items():
        if not isinstance(name, str) or not name.isprintable() or "\\" in name or name in ("", HEADER):
            raise ValueError(f"arrays: expected printable names without \\, not {HEADER!r}, got {name!r}")
        if dtype.newbyteorder("<") not in DTYPES:
            raise TypeError(f"arrays: {name!r}: expected numbers of up to 64 bits or booleans, got {dtype}")
    with replacing(Path(path)) as file:
        _write_archive(file, {**arrays, HEADER: header})
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
    path = Path(path)
    with open(path, "rb") as file:
        try:
            return _read_archive(file, expected)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        except Exception as error:  # a bad file makes zipfile, zlib, json and NumPy raise nine kinds
            raise CheckpointError(f"{path}: unreadable: {type(error).__name__}: {error}") from error


def _header(metadata: Mapping[str, Any]) -> Array:
    try:
        text = json.dumps({"format": FORMAT, "metadata": dict(metadata)}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata: expected what JSON can hold: {error}") from error
    return np.frombuffer(text.encode(), np.uint8)


def _write_archive(file: IO[bytes], arrays: Params) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = bytes(DIGEST_LENGTH)
        for name, array in arrays.items():
            little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, little, version=(1, 0), allow_pickle=False)


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
    end = max(size - DIGEST_LENGTH, 0)
    digest = _digest(file, end)
    if file.read() != digest:
        raise CheckpointError("damaged or no checkpoint: the checksum at its end does not fit its content")
    with zipfile.ZipFile(file) as archive:
        _check_members(archive, size)
        metadata = _read_metadata(archive)
        layout = {name: _spec(archive, name) for name in _names(archive)}
        if expected is not None:
            wrong = differences(layout, {n: (tuple(s), np.dtype(d)) for n, (s, d) in expected.items()})
            if wrong:
                raise CheckpointError(f"other arrays than expected: {wrong}")
        return {name: _read_array(archive, name) for name in layout}, metadata


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    """Let no member be compressed or there twice, nor all together be larger than the file."""
    names = set()
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"member {member.filename!r} is compressed")
        if not member.filename.endswith(".npy") or member.filename in names:
            raise CheckpointError(f"member {member.filename!r} is there twice, or no .npy file")
        names.add(member.filename)
    if sum(member.file_size for member in archive.infolist()) > size:
        raise CheckpointError("its members overlap")
    if f"{HEADER}.npy" not in names:
        raise CheckpointError(f"no npattn checkpoint: member '{HEADER}.npy' is missing")


def _names(archive: zipfile.ZipFile) -> list[str]:
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    return [name for name in names if name != HEADER]


def _spec(archive: zipfile.ZipFile, name: str) -> Spec:
    """Read the shape and dtype of an array from its header; the size they imply must be the member's."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        if npy.read_magic(file) != (1, 0):
            raise CheckpointError(f"array {name!r} is not in version 1.0 of the .npy format")
        shape, fortran_order, dtype = npy.read_array_header_1_0(file)
        start = file.tell()
    if dtype not in DTYPES or fortran_order:
        order = "Fortran" if fortran_order else "C"
        raise CheckpointError(f"array {name!r}: expected C order, little endian, got {order}, {dtype.str}")
    if any(n < 0 for n in shape) or start + math.prod(shape) * dtype.itemsize != member.file_size:
        raise CheckpointError(f"array {name!r}: {dtype} {shape} does not fit its {member.file_size} bytes")
    return shape, dtype.newbyteorder("=")


def _read_array(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(f"{name}.npy") as file:
        array: Array = npy.read_array(file, allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_metadata(archive: zipfile.ZipFile) -> dict[str, Any]:
    shape, dtype = _spec(archive, HEADER)
    if dtype != np.uint8 or len(shape) != 1:
        raise CheckpointError(f"no npattn checkpoint: {HEADER!r} is {dtype} {shape}")
    content = json.loads(_read_array(archive, HEADER).tobytes())
    if not isinstance(content, dict) or not isinstance(content.get("metadata"), dict):
        raise CheckpointError(f"no npattn checkpoint: {HEADER!r} holds no metadata")
    if content.get("format") != FORMAT:
        raise CheckpointError(f"expected format {FORMAT}, got {content.get('format')!r}: of a newer npattn?")
    metadata: dict[str, Any] = content["metadata"]
    return metadata
