"""Files of pairs and load_task: the error for a malformed file is one sentence with its name and line."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.tasks import load_task
from npattn.tasks.order import hash_order
from npattn.tasks.tsv import load_tsv, read_pairs, split_sources

TEXTS = st.text(string.ascii_letters + "é中 ", min_size=1, max_size=5).filter(str.strip)


def write_file(folder: Path, data: str | bytes) -> str:
    path = folder / "pairs.tsv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def test_a_file_is_read_by_characters(tmp_path: Path) -> None:
    path = write_file(tmp_path, "".join(f"{a}{b}\t{b}{a}\n" for a in "abcdef" for b in "uvwxy"))
    task = load_task(path)
    assert [len(part) for part in (task.train, task.validation, task.test)] == [25, 2, 3]
    assert task.name == path and task.title == "30 pairs from pairs.tsv"
    assert task.codec.source_unit == task.codec.target_unit == "characters"
    for item in (*task.validation, *task.test):
        assert item.references == (item.source[::-1],)
    assert task.score(["xa"], [task.test[0]]).keys() == {"exact match", "error rate"}
    assert load_task(path, **task.options) == task


def test_a_file_is_read_by_words_and_targets_by_their_own_unit(tmp_path: Path) -> None:
    path = write_file(tmp_path, "ab  ba\tB A\nab ba\tB A\ncd\tD C\nab ba\tA B\n")
    task = load_task(path, unit="words")
    assert {item.source for item in task.validation} < {"ab ba", "cd"}
    assert len(task.train) + sum(len(item.references) for item in task.validation) == 3
    mixed = load_task(path, unit="characters", target_unit="words")
    assert mixed.codec.tokenize("ab") == ["a", "b"] and mixed.codec.detokenize(["A", "B"]) == "A B"


def test_byte_order_mark_carriage_returns_and_blank_lines_are_dropped(tmp_path: Path) -> None:
    path = write_file(tmp_path, b"\xef\xbb\xbfa\tb\r\n\r\n  \n c d \t\xc3\xa9 \r\ne\x0bf\tg\n")
    assert read_pairs(path) == [("a", "b"), ("c d", "é"), ("e\x0bf", "g")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected lines of source, one tab, target, got an empty file"),
        (b"\n \r\n", "expected lines of source, one tab, target, got an empty file"),
        (b"a\tb\n\nab c\n", "line 3: expected source, one tab, target, got no tab in 'ab c'"),
        (b"x" * 99, "line 1: expected source, one tab, target, got no tab in '" + "x" * 39 + "…'"),
        (b"a\tb\tc\n", "line 1: expected source, one tab, target, got 2 tabs"),
        (b"a\tb\n\tb\n", "line 2: expected source, one tab, target, got an empty source"),
        (b"a\t \n", "line 1: expected source, one tab, target, got an empty target"),
        (b"a\tb\nc\t\xe9\n", "line 2: expected text in UTF-8, got the byte 0xe9 out of place"),
        (b"\xff\xfea\x00\t\x00b\x00", "line 1: expected text in UTF-8, got the byte 0xff out of place"),
        (b"a\tb\na\tc\n", "expected two or more different sources, to train and to validate, got one"),
    ],
)
def test_an_error_names_the_file_and_the_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = write_file(tmp_path, data)
    with pytest.raises(ValueError, match=re.escape(path) + "[:,] " + re.escape(message) + "$"):
        load_task(path)


def test_an_error_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.tsv: expected a file of lines of .*, found no such"):
        load_task(tmp_path / "nothing.tsv")


@pytest.mark.parametrize("option", ["unit", "target_unit"])
def test_an_error_names_the_unknown_unit(option: str, tmp_path: Path) -> None:
    path = write_file(tmp_path, "a\tb\nc\td\n")
    with pytest.raises(ValueError, match=f"^{option}: expected characters or words, got 'letters'"):
        load_tsv(path, **{option: "letters"})  # type: ignore[arg-type]


def test_the_error_for_an_unknown_task_lists_the_tasks() -> None:
    with pytest.raises(ValueError, match=r"expected dates, g2p or the path of a \.tsv file, got 'date'"):
        load_task("date")


def test_the_error_for_an_unknown_option_lists_the_options() -> None:
    with pytest.raises(TypeError, match="task dates: expected options among n_train, seed, got 'stress'"):
        load_task("dates", stress=True)


def test_the_path_is_not_an_option(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected options among unit, target_unit, got 'path'"):
        load_task(write_file(tmp_path, "a\tb\nc\td\n"), path="other.tsv")


def test_a_file_that_exists_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("a\tb\nc\td\n", encoding="utf-8")
    task = load_task(path)
    assert len(task.train) == len(task.validation) == 1 and not task.test


@given(st.sets(TEXTS, min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_the_order_of_the_sources(sources: set[str], random: object) -> None:
    shuffled = sorted(sources, key=lambda _: random.random())  # type: ignore[attr-defined]
    parts = split_sources(shuffled)
    assert parts == split_sources(sorted(sources))
    train, validation, test = parts
    assert train and validation
    assert sorted(train + validation + test) == sorted(sources)
    assert len(test) == len(sources) // 10


@given(st.sets(TEXTS, min_size=2, max_size=30), st.text("abc", min_size=1, max_size=3))
def test_a_new_text_does_not_change_the_order_of_the_others(texts: set[str], another: str) -> None:
    assert [t for t in hash_order(texts | {another}) if t != another] == hash_order(texts - {another})


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=4, max_size=40))
def test_no_source_is_in_two_splits_and_no_pair_is_lost(tmp_path_factory, pairs) -> None:  # type: ignore[no-untyped-def]
    path = write_file(tmp_path_factory.mktemp("tsv"), "".join(f"{s}\t{t}\n" for s, t in pairs))
    wanted = {(s.strip(), t.strip()) for s, t in pairs}
    if len({s for s, _ in wanted}) < 2:
        return
    task = load_task(path)
    source, target = task.codec.source_vocabulary, task.codec.target_vocabulary
    trained = [("".join(source.decode(p.source)), "".join(target.decode(p.target[1:-1]))) for p in task.train]
    held_out = [(item.source, r) for item in (*task.validation, *task.test) for r in item.references]
    assert sorted(trained + held_out) == sorted(wanted)
    assert not {s for s, _ in trained} & {s for s, _ in held_out}
