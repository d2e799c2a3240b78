"""Text for the models of Hugging Face's folders, with the package `tokenizers`: a folder's tokenizer.json."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from npattn._internal.files import CheckpointError
from npattn.hf_weights.folder import folder_path, load_folder
from npattn.language_model import LanguageModel
from npattn.transformer import Transformer

TOKENIZER = "tokenizer.json"


class TextModel(NamedTuple):
    """A model, and the tokenizer that turns text into its ids and back."""

    model: LanguageModel | Transformer
    tokenizer: Any

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, with those that the tokenizer adds, such as one of the beginning."""
        return list(self.tokenizer.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids. Ids of begin, end and pads have none; a part of a letter becomes �."""
        return str(self.tokenizer.decode(list(ids)))


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether it is a folder as Hugging Face keeps them: whether it has a config.json."""
    return (folder_path(path) / "config.json").exists()


def load_text_folder(path: str | os.PathLike[str]) -> TextModel:
    """Return the model in a folder as Hugging Face keeps them, with its tokenizer.

    - path: the folder, with what `load_folder` reads and tokenizer.json.

    Raises ModuleNotFoundError without the package `tokenizers`, CheckpointError for a tokenizer.json that it cannot
    read, and what `load_folder` raises.
    """
    try:
        tokenizers = import_module("tokenizers")
    except ModuleNotFoundError as error:
        message = 'text for a folder of Hugging Face needs the package tokenizers: pip install "npattn[hf]"'
        raise ModuleNotFoundError(message) from error
    file = folder_path(path) / TOKENIZER
    content = file.read_bytes()
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:                                # the package raises no other type
        raise CheckpointError(f"{file}: no valid tokenizer ({error})") from error
    return TextModel(load_folder(path), tokenizer)
