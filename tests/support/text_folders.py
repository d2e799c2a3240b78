"""A language model that writes a known text, in a folder as Hugging Face keeps them, and a tokenizer of bytes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from npattn import LanguageModel, LanguageModelConfig
from npattn.hf_weights import save_folder

#: The model writes this again and again; 256 is the id of the end, which follows a full stop.
TEXT, END = "né 中\n", 256


def repeating_model(**options: Any) -> LanguageModel:
    """Each byte of `TEXT` is followed by the next, the last by the first, and every other id by the end."""
    text = list(TEXT.encode())
    N = len(text)
    config = LanguageModelConfig(257, d_model=N + 1, n_layers=1, n_heads=1, d_head=2, d_ff=1, eos_id=END, **options)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in config.shapes().items()}
    arrays["norm.gamma"][:] = 1
    places = np.full(257, N)                                  # which column is 1 in the row of each id
    places[text] = range(N)
    arrays["embedding.W_E"][range(257), places] = 1
    arrays["output.W"][range(N + 1), [*text[1:], text[0], END]] = 1
    return LanguageModel.from_arrays(config, arrays)


def repeating_folder(path: Path, **options: Any) -> Path:
    save_folder(path, repeating_model(**options))
    (path / "tokenizer.json").write_text("bytes")
    return path


class ByteTokenizer:
    """Stands for the class of the package `tokenizers`: ids are bytes, and `END` has no text."""

    @classmethod
    def from_buffer(cls, content: bytes) -> ByteTokenizer:
        if content != b"bytes":
            raise Exception("expected value at line 1")       # as the package does
        return cls()

    def encode(self, text: str) -> Any:
        return SimpleNamespace(ids=list(text.encode()))

    def decode(self, ids: list[int]) -> str:
        return bytes(i for i in ids if i != END).decode(errors="replace")
