"""Write and read `.npz` archives: zip files with one `<name>.npy` for each array.

Nothing is compressed. So a file is as large as its arrays, and a small file cannot fill the memory. Reading takes
names, shapes, dtypes and sizes from the headers and checks them before any array takes memory. Pickles are never
loaded. zipfile compares each member with its CRC-32.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from npattn._internal.checks import Array, Params, check_path

DTYPES = {np.dtype(code).newbyteorder("<") for code in "?bBhHiIqQefd"}

#: The most bytes of UTF-8 that a name in a zip file can have, with its suffix `.npy`.
LONGEST_NAME = 65_535


class CheckpointError(ValueError):
    """A checkpoint file is damaged or has unexpected content. The message names the file and the cause."""


class Header(NamedTuple):
    """The fields in the header of a `.npy` file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran_order: bool
    version: tuple[int, int]      # of the .npy format


@contextmanager
def reading(path: str | PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file. Any error in the block becomes a `CheckpointError` that names the file."""
    with open(check_path("path", path), "rb") as file:
        try:
            yield file
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        except Exception as error:  # for bad files zipfile, zlib, json and NumPy raise nine types of errors
            raise CheckpointError(f"{path}: unreadable: {type(error).__name__}: {error}") from error


def write_archive(file: IO[bytes], arrays: Params, comment: bytes = b"") -> None:
    """Write arrays in C order and little endian. `check_storable` must accept their names."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = comment
        for name, array in arrays.items():
            little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, little, version=(1, 0), allow_pickle=False)


def check_storable(what: str, name: object, dtype: np.dtype[np.generic]) -> None:
    """Raise a ValueError or TypeError unless an archive can store this name and dtype without a change."""
    if not isinstance(name, str) or not name or not name.isprintable() or "\\" in name:
        raise ValueError(f"{what}: expected printable names without \\, got {name!r}")
    if len(f"{name}.npy".encode()) > LONGEST_NAME:
        length = len(name.encode())
        raise ValueError(f"{what}: expected names of at most {LONGEST_NAME - 4:,} bytes, got one of {length:,} bytes")
    if dtype.newbyteorder("<") not in DTYPES:
        raise TypeError(f"{what}: {name!r}: expected numbers of up to 64 bits or booleans, got {dtype}")


def read_headers(archive: zipfile.ZipFile, size: int) -> Mapping[str, Header]:
    """Return the header of every array by its name, from an archive in a file of `size` bytes.

    Raises CheckpointError for a compressed member, for two members with one name, and when all members together are
    larger than the file.
    """
    names = set()
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"member {member.filename!r} is compressed, as np.savez and npattn leave none")
        if not member.filename.endswith(".npy") or member.filename in names:
            raise CheckpointError(f"member {member.filename!r} is there twice, or no .npy file")
        names.add(member.filename)
    if sum(member.file_size for member in archive.infolist()) > size:
        raise CheckpointError("its members overlap")
    return {name: _header(archive, name) for name in (member.removesuffix(".npy") for member in archive.namelist())}


def read_array(archive: zipfile.ZipFile, name: str) -> Array:
    """Return an array in C order and the byte order of the machine. Its header must be checked before."""
    with archive.open(f"{name}.npy") as file:
        array: Array = npy.read_array(file, allow_pickle=False)
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _header(archive: zipfile.ZipFile, name: str) -> Header:
    """Return a header. Raise unless its shape and dtype give the size of the member."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):   # (3, 0) is for dtypes with fields
            raise CheckpointError(f"array {name!r} is in version {version[0]}.{version[1]} of the .npy format")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = read(file)
        start = file.tell()
    if dtype.newbyteorder("<") not in DTYPES:
        raise CheckpointError(f"array {name!r}: expected numbers of up to 64 bits or booleans, got {dtype}")
    if any(n < 0 for n in shape) or start + math.prod(shape) * dtype.itemsize != member.file_size:
        raise CheckpointError(f"array {name!r}: {dtype} {shape} does not fit its {member.file_size} bytes")
    return Header(shape, dtype, fortran_order, version)
