"""Text for a folder: its tokenizer.json, read by the package `tokenizers` or by what stands for it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from npattn import CheckpointError
from npattn.hf_weights.text import is_folder, load_text_folder
from support.text_folders import END, ByteTokenizer, repeating_folder, repeating_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "tokenizers", SimpleNamespace(Tokenizer=ByteTokenizer))
    return repeating_folder(tmp_path)


@pytest.mark.parametrize("kind", [str, Path])
def test_the_model_and_its_text(folder: Path, kind: type) -> None:
    loaded = load_text_folder(kind(folder))
    assert loaded.model.params == repeating_model().params
    ids = loaded.encode("né")
    assert ids == [110, 195, 169] and loaded.decode((*ids, END)) == "né"


def test_what_a_folder_is(folder: Path) -> None:
    assert is_folder(folder) and is_folder(str(folder))
    (folder / "config.json").unlink()
    assert not is_folder(folder) and not is_folder(folder / "nowhere")


def test_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    wanted = 'text for a folder of Hugging Face needs the package tokenizers: pip install "npattn[hf]"'
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(wanted)}$"):
        load_text_folder(folder)


def test_a_damaged_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text("{")
    wanted = f"{file}: no valid tokenizer (expected value at line 1)"
    with pytest.raises(CheckpointError, match=f"^{re.escape(wanted)}$"):
        load_text_folder(folder)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        load_text_folder(folder)
    with pytest.raises(TypeError, match=r"^path: expected the path of a folder, got 3$"):
        load_text_folder(3)  # type: ignore[arg-type]


def test_the_package(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    folder = repeating_folder(tmp_path)
    letters = tokenizers.pre_tokenizers.ByteLevel
    made = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(sorted(letters.alphabet()))}, []))
    made.pre_tokenizer, made.decoder = letters(add_prefix_space=False), tokenizers.decoders.ByteLevel()
    made.add_special_tokens(["<end>"])
    made.save(str(folder / "tokenizer.json"))
    loaded = load_text_folder(folder)
    ids = loaded.encode("né 中<end>")
    assert len(ids) == 8 and ids[-1] == END
    assert [loaded.decode(ids[:n]) for n in (1, 2, 3, 5, 8)] == ["n", "n�", "né", "né �", "né 中"]
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: no valid tokenizer \(.+\)$"):
        load_text_folder(folder)
