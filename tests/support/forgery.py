"""Make damaged and forged checkpoints, for test_checkpoint_*.py and `tests/soak`."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from npattn import CheckpointError
from npattn._internal.checks import Array
from npattn._internal.files import load_arrays, save_arrays
from support.named_arrays import same

ARRAYS = {"W_K": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([0.5, -1.0]), "t": np.array(3)}
METADATA = {"step": 7}
EXPECTED = {name: (array.shape, array.dtype) for name, array in ARRAYS.items()}
Members = list[tuple[str, bytes]]


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(**content: Any) -> bytes:
    return npy(np.frombuffer(json.dumps({"format": 1, "metadata": {}} | content).encode(), np.uint8))


def sealed(content: bytes) -> bytes:
    """Replace the last 64 bytes by the right checksum of the content."""
    body = content[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def archive(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as writer:
        writer.comment = bytes(64)
        for name, content in members:
            writer.writestr(name, content)
    return sealed(file.getvalue())


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Return different content: some bytes are changed, cut off, inserted, removed or reversed."""
    kind, (i, j) = rng.integers(6), sorted(rng.integers(0, len(content), 2))
    damaged = bytearray(content)
    if kind == 0:
        damaged[i] ^= 1 << rng.integers(8)
    elif kind == 1:
        for place in rng.integers(0, len(content), rng.integers(1, 5)):
            damaged[place] = rng.integers(256)
    elif kind == 2:
        del damaged[i:]
    elif kind == 3:
        damaged[i:i] = rng.bytes(int(rng.integers(1, 99)))
    elif kind == 4:
        del damaged[i : j + 1]
    else:
        damaged[i:j] = damaged[i:j][::-1]
    return bytes(damaged) if damaged != content else damage(content, rng)


def forge(rng: np.random.Generator) -> bytes:
    """Return an archive with a right checksum and one change in the members of `ARRAYS`."""
    members = [(f"{name}.npy", npy(array)) for name, array in ARRAYS.items()]
    members.append(("__npattn__.npy", header(metadata=METADATA)))
    change = FORGERIES[rng.integers(len(FORGERIES))]
    methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    compression = methods[rng.integers(3)] if change is bomb else zipfile.ZIP_STORED
    name, array = list(ARRAYS.items())[rng.integers(len(ARRAYS))]
    place = [member for member, _ in members].index(f"{name}.npy")
    return archive(*change(members, place, array, rng), compression=compression)


def bomb(members: Members, place: int, array: Array, rng: np.random.Generator) -> Members:
    """Compress the archive, with zeros instead of an array, with zeros besides, or with the arrays alone."""
    zeros = npy(np.zeros(10**6 if rng.random() < 0.02 else 10**3))
    kind = rng.integers(3)
    if kind == 0:
        members[place] = (members[place][0], zeros)
    elif kind == 1:
        members.insert(0, ("zeros.npy", zeros))
    return members


def missing(members: Members, place: int, array: Array, rng: np.random.Generator) -> Members:
    del members[rng.integers(len(members))]
    return members


def extra(members: Members, place: int, array: Array, rng: np.random.Generator) -> Members:
    name = ("V.npy", "W_K", "../W_K.npy", "W_K.npy/", "b .npy", "__npattn__")[rng.integers(6)]
    members.insert(int(rng.integers(len(members))), (name, npy(array)))
    return members


def twice(members: Members, place: int, array: Array, rng: np.random.Generator) -> Members:
    members.insert(int(rng.integers(len(members))), (members[place][0], npy(array + 1)))
    return members


def another_array(members: Members, place: int, array: Array, rng: np.random.Generator) -> Members:
    """Replace an array by one with other bytes: order, pickle, dtype, shape, length or version of the format."""
    others: list[Callable[[], bytes]] = [
        lambda: npy(array.astype(array.dtype.newbyteorder(">"))),
        lambda: npy(np.asfortranarray(np.ones((2, 3), np.float32))),
        lambda: npy(np.array([{}, array], object), allow_pickle=True),
        lambda: npy(array.astype(("?", "i8", "f2", "c8", "S4", "M8[s]", "f4,f4")[rng.integers(7)])),
        lambda: npy(array[None]),
        lambda: npy(array)[:-1],
        lambda: npy(array).replace(b"'shape': (", b"'shape': (9" + b"9" * int(rng.integers(30))),
        lambda: npy(array).replace(b"NUMPY\x01", b"NUMPY" + rng.bytes(1)),
        lambda: npy(array).replace(b"{'descr'", b"{" + b"(" * 60 + b"'descr'"),
        lambda: rng.bytes(int(rng.integers(200))),
    ]
    members[place] = (members[place][0], others[rng.integers(len(others))]())
    return members


def another_header(members: Members, place: int, array: Array, rng: np.random.Generator) -> Members:
    others = (b'{"format": 2, "metadata": {}}', b'{"format": 1, "metadata": []}')
    contents = (b"[" * 10**5, b"{}", b"\xff", b"1e999", *others)
    members[-1] = ("__npattn__.npy", npy(np.frombuffer(contents[rng.integers(len(contents))], np.uint8)))
    return members


FORGERIES = (bomb, missing, extra, twice, another_array, another_header)


def fuzz(folder: Path, tries: int, rng: np.random.Generator) -> Counter[str]:
    """Load damaged and forged files, and count the results. Raises AssertionError if a wrong array is accepted.

    One third of the files is damaged, one third is damaged and has a right checksum, one third is forged. A refusal
    must be a CheckpointError that names the file. An accepted file must have the saved arrays, bit for bit.
    """
    path, counts = folder / "fuzzed.npz", Counter[str]()
    save_arrays(path, ARRAYS, METADATA)
    content = path.read_bytes()
    for number in range(tries):
        kind = ("damaged", "damaged and sealed", "forged")[number % 3]
        forged = forge(rng) if kind == "forged" else damage(content, rng)
        path.write_bytes(sealed(forged) if kind == "damaged and sealed" else forged)
        try:
            arrays, metadata = load_arrays(path, EXPECTED)
        except CheckpointError as error:
            assert str(error).startswith(f"{path}: "), error
            counts[f"{kind}, refused"] += 1
        else:
            assert kind != "damaged" and metadata == METADATA, (kind, metadata)
            assert same({name: arrays[name] for name in ARRAYS}, ARRAYS), arrays
            counts[f"{kind}, the same arrays"] += 1
    return counts
