"""Folders as Hugging Face keeps them: config.json, and weights in one or several files of the format safetensors.

Such a file holds the length of a header in 8 bytes, the header in JSON with dtype, shape and place of each tensor, and
the numbers. Several files have an index that names the file of each tensor. The numbers are read where they lie, so
that memory holds the model alone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from npattn._internal.checks import Array, check_path
from npattn._internal.files import CheckpointError
from npattn.hf_weights.language_models import load_language_model
from npattn.hf_weights.layouts import BUFFERS
from npattn.language_model import LanguageModel

#: NumPy's dtype for each dtype of the format.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "V2"}
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def load_folder(path: str | os.PathLike[str]) -> LanguageModel:
    """Return the model in a folder, as downloaded from Hugging Face or written by its `save_pretrained`.

    - path: the folder, with config.json and model.safetensors, or several files and their index.

    Weights may be float64, float32, float16 or bfloat16; the last two become float32. Raises what
    `load_language_model` raises; CheckpointError, naming the file, for one that is damaged or of another format;
    OSError when a file is missing.

    >>> import tempfile
    >>> from npattn import LanguageModelConfig
    >>> from npattn.hf_weights import dump_language_model
    >>> config, state = dump_language_model(LanguageModel(LanguageModelConfig(9, d_model=8, n_layers=1, n_heads=2)))
    >>> header, start = {}, 0
    >>> for name, array in state.items():
    ...     place = {"dtype": "F32", "shape": array.shape, "data_offsets": (start, start + array.nbytes)}
    ...     header[name], start = place, start + array.nbytes
    >>> text = json.dumps(header).encode()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text(json.dumps(config))
    ...     numbers = b"".join(array.tobytes() for array in state.values())
    ...     _ = Path(folder, "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + numbers)
    ...     load_folder(folder).config.d_model
    8
    """
    folder = check_path("path", path)
    config = read_json(folder / "config.json")
    if not (folder / INDEX).exists():
        return load_language_model(config, read_tensors(folder / SINGLE))
    places, state = read_json(folder / INDEX).get("weight_map"), dict[str, Array]()
    if not isinstance(places, dict) or not all(isinstance(file, str) and is_plain(file) for file in places.values()):
        raise CheckpointError(f"{folder / INDEX}: expected a weight_map of names to files in this folder")
    for file in sorted(set(places.values())):
        state |= read_tensors(folder / file)
    return load_language_model(config, state)


def is_plain(file: str) -> bool:
    """Whether it is the name of a safetensors file, and no path to elsewhere."""
    return file.endswith(".safetensors") and not any(mark in file for mark in ("/", "\\", ":", "\0"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a file of JSON."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected a mapping, got {type(found).__name__}")
    return found


def read_tensors(path: Path) -> dict[str, Array]:
    """Return the tensors of a safetensors file, as views of the file."""
    try:
        file = np.asarray(np.memmap(path, np.uint8, "r"))     # a ValueError when it is empty
        start = 8 + int.from_bytes(file[:8].tobytes(), "little")
        if start > len(file):
            raise ValueError(f"expected a header up to byte {start}, got {len(file)} bytes")
        header = json.loads(file[8:start].tobytes())
        return {
            name: tensor_of(file[start:], **entry)
            for name, entry in header.items()
            if name != "__metadata__" and not BUFFERS.fullmatch(name)
        }
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no valid safetensors file ({error})") from error


def tensor_of(numbers: Array, dtype: str, shape: list[int], data_offsets: list[int]) -> Array:
    """Return one tensor, a view of the numbers of a file."""
    if dtype not in DTYPES:
        raise ValueError(f"expected one of {', '.join(DTYPES)}, got {dtype}")
    start, stop = data_offsets
    if not 0 <= start <= stop <= len(numbers) or any(size < 0 for size in shape):
        raise ValueError(f"a tensor lies outside of the file, at {start} … {stop}")
    return numbers[start:stop].view(DTYPES[dtype]).reshape(shape)
