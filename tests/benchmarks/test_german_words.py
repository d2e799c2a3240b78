"""benchmarks/german_words.py splits a file of pronunciations by word, and finds the test words without relatives."""

from __future__ import annotations

import doctest
import gzip
from pathlib import Path

import pytest

import german_words
from npattn.tasks import load_task


def test_its_examples() -> None:
    found = doctest.testmod(german_words)
    assert found.attempted == 3 and not found.failed


def test_the_files_are_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "pronunciations.txt.gz"
    words = [f"{a}{b}{c}" for a in "Bdf" for b in "aeou" for c in ("ch", "nnen")]
    with gzip.open(source, "wt", encoding="utf-8") as file:
        file.writelines(f"{word}\tˈ{word[0].lower()}aː{word[2]}|{word[0].lower()}a{word[2]}\n" for word in words)
    monkeypatch.setattr(german_words, "find_pronunciations", lambda: source)
    folder = tmp_path / "german"
    assert german_words.main([str(folder), "--pairs", "41"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "train: 17 words, 34 pairs", "validation: 1 words, 2 pairs", "test: 2 words, 4 pairs"
    ]  # fmt: skip
    files = {name: folder / f"{name}.tsv" for name in ("train", "validation", "test", "apart")}
    task = load_task(files["train"], target_unit="words", validation=files["validation"], test=files["test"])
    assert "aː" in task.codec.target_vocabulary and len(task.train) == 34 and len(task.test) == 2
    assert files["apart"].read_text(encoding="utf-8") == files["test"].read_text(encoding="utf-8")   # all differ early


def test_what_is_no_letter_is_left_out() -> None:
    assert german_words.phonemes("haːb(ə)n ‿ t\u035cs") == ["h", "aː", "b", "ə", "n", "t\u035cs"]
    lines = ["Weg\tveːk", "Weg\tvɛk", "leer\t", "halb\t|halp", "2x\tx"]
    assert german_words.parse(lines) == {"Weg": ["v eː k", "v ɛ k"], "halb": ["h a l p"]}


def test_the_error_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(german_words, "PACKAGE", "no-such-package")
    with pytest.raises(ModuleNotFoundError, match=r"^the pronunciations are missing: pip install no-such-package$"):
        german_words.find_pronunciations()
