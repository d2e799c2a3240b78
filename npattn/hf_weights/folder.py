"""Folders as Hugging Face keeps them: config.json, and weights in one or several files of the format safetensors.

Such a file holds the length of a header in 8 bytes, the header in JSON with dtype, shape and place of each tensor, and
the numbers. Several files have an index that names the file of each tensor. The numbers are read where they lie, and
what was read is dropped, so that memory holds the model alone.
"""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from npattn._internal.checks import Array, shown
from npattn._internal.files import CheckpointError, replacing, write_text
from npattn.hf_weights import encoder_decoders, language_models
from npattn.hf_weights.encoder_decoder_configs import is_encoder_decoder
from npattn.hf_weights.encoder_decoders import dump_transformer
from npattn.hf_weights.language_models import dump_language_model
from npattn.hf_weights.layouts import BUFFERS, nothing
from npattn.language_model import LanguageModel
from npattn.transformer import Transformer

#: NumPy's dtype for each dtype of the format.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "V2"}
WORDS = {np.dtype(np.float64): "F64", np.dtype(np.float32): "F32"}
SINGLE, INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"


def load_folder(path: str | os.PathLike[str]) -> LanguageModel | Transformer:
    """Return the model in a folder, as downloaded from Hugging Face or written by its `save_pretrained`.

    - path: the folder, with config.json and model.safetensors, or several files and their index.

    T5, Marian and BART are a Transformer, others a LanguageModel. Weights may be float64, float32, float16 or bfloat16;
    the last two become float32. Raises what `load_language_model` and `load_transformer` raise; CheckpointError, naming
    the file, for one that is damaged or of another format; OSError when a file is missing.

    >>> import tempfile
    >>> from npattn import LanguageModelConfig
    >>> model = LanguageModel(LanguageModelConfig(9, d_model=8, n_layers=1, n_heads=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_folder(folder, model)
    ...     load_folder(folder).params == model.params
    True
    """
    folder = folder_path(path)
    config = read_json(folder / "config.json")
    maps = {file: map_file(file) for file in files_of(folder)}
    state = {name: tensor for file, numbers in maps.items() for name, tensor in read_tensors(file, numbers).items()}

    def forget() -> None:
        for numbers in maps.values():
            numbers.madvise(mmap.MADV_DONTNEED)

    family = encoder_decoders if is_encoder_decoder(config) else language_models
    return family.load_and_forget(config, state, forget if hasattr(mmap, "MADV_DONTNEED") else nothing)   # no Windows


def save_folder(path: str | os.PathLike[str], model: LanguageModel | Transformer) -> None:
    """Write a model into a folder, as Hugging Face's `save_pretrained` does: config.json and model.safetensors.

    - path: the folder, which is made if it is not there. Files of these names are replaced, each as a whole.
    - model: what `dump_language_model` or `dump_transformer` takes.

    `AutoModelForCausalLM.from_pretrained` loads the one, `AutoModelForSeq2SeqLM.from_pretrained` the other; files of a
    tokenizer are not written. Raises what `dump_language_model` and `dump_transformer` raise; OSError when a file
    cannot be written. `load_folder` has an example.
    """
    folder = folder_path(path)
    config, state = dump_transformer(model) if isinstance(model, Transformer) else dump_language_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, array in state.items():
        place = [start, start + array.nbytes]
        header[name], start = {"dtype": WORDS[array.dtype], "shape": array.shape, "data_offsets": place}, place[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)                           # numbers begin at a multiple of 8 bytes
    with replacing(folder / SINGLE) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in state.values():
            file.write(array.astype(array.dtype.newbyteorder("<")).data)
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")


def folder_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a folder. "." is one, and an empty text, as an unset variable gives, is none."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: expected the path of a folder, got {shown(path)}")
    if not os.fspath(path):
        raise ValueError("path: expected the path of a folder, got ''")
    return Path(path)


def files_of(folder: Path) -> list[Path]:
    """Return the files of weights: one, or those that the index names."""
    index = folder / INDEX
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if not index.exists():
        hint = f"; {PICKLE} is a pickle, which can run any code" * (folder / PICKLE).exists()
        raise FileNotFoundError(f"{folder}: expected {SINGLE} or {INDEX}{hint}")
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) and is_plain(file) for file in places.values()):
        raise CheckpointError(f"{index}: expected a weight_map of names to files in this folder")
    return [folder / file for file in sorted(set(places.values()))]


def is_plain(file: str) -> bool:
    """Whether it is the name of a safetensors file, and no path to elsewhere."""
    return file.endswith(".safetensors") and not any(mark in file for mark in ("/", "\\", ":", "\0"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a file of JSON."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected a mapping, got {type(found).__name__}")
    return found


def map_file(path: Path) -> mmap.mmap:
    """Return the bytes of a file, which are read when they are used."""
    with open(path, "rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:                           # it is empty
            raise CheckpointError(f"{path}: no valid safetensors file ({error})") from error


def read_tensors(path: Path, numbers: mmap.mmap) -> dict[str, Array]:
    """Return the tensors of a safetensors file, as views of its bytes."""
    file = np.frombuffer(numbers, np.uint8)
    try:
        start = 8 + int.from_bytes(numbers[:8], "little")
        if start > len(file):
            raise ValueError(f"expected a header up to byte {start}, got {len(file)} bytes")
        header = json.loads(numbers[8:start])
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
