"""Files of pairs and load_task: the error for a malformed file is one sentence with its name and line."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.tasks import load_task, tsv
from npattn.tasks.codec import Codec, build_codec
from npattn.tasks.order import hash_order
from npattn.tasks.task import Item
from npattn.tasks.tsv import load_tsv, read_pairs, split_sources
from npattn.tasks.vocabulary import BOS, EOS, UNK

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
        (b" \tb\n", "line 1: expected source, one tab, target, got an empty source"),
        (b"a\tb\nc\t\xe9\n", "line 2: expected text in UTF-8, got the byte 0xe9 out of place"),
        (b"\xff\xfea\x00\t\x00b\x00", "line 1: expected text in UTF-8, got the byte 0xff out of place"),
        (b"a\tb\na\tc\n", "expected two or more different sources, to train and to validate, got one"),
        (b"a\tb\n" + b"x" * 4001 + b"\tb\n", "line 2: expected at most 4,000 characters on a side, got 4,001"),
        (b"a\t" + b"x" * 20_000 + b"\n", "line 1: expected at most 4,000 characters on a side, got 20,000"),
    ],
)
def test_an_error_names_the_file_and_the_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = write_file(tmp_path, data)
    with pytest.raises(ValueError, match=re.escape(path) + "[:,] " + re.escape(message) + "$"):
        load_task(path)


def test_the_longest_line(tmp_path: Path) -> None:
    """The limit counts symbols: letters here, words in a file of words."""
    path = write_file(tmp_path, f"a\tb\n{'x' * 4000}\t{'y' * 4000}\nc\td\n")
    assert [len(source) for source, _ in read_pairs(path)] == [1, 4000, 1] and load_task(path).train
    assert len(read_pairs(write_file(tmp_path, f"{'x' * 9000}\t{'y' * 9000}\n"), ("words", "words"))) == 1


@pytest.mark.parametrize("name", ["nothing.tsv", "nothing.csv", "folder/nothing", "folder/"])
def test_an_error_names_the_missing_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match=r"(nothing.*|folder): expected a file of lines of .*, found no such"):
        load_task(f"{tmp_path}/{name}")


def test_both_spellings_of_a_letter_are_one_word(tmp_path: Path) -> None:
    """é is one character or two; they look the same. A word must not be in two splits under two spellings."""
    words = [f"caf{letter}{i}" for i in range(40) for letter in ("\u00e9", "e\u0301")]
    task = load_task(write_file(tmp_path, "".join(f"{word}\t{word}\n" for word in words)))
    assert task.title.startswith("40 pairs")
    assert [len(part) for part in (task.train, task.validation, task.test)] == [34, 2, 4]
    assert "\u0301" not in task.codec.source_vocabulary and "\u0301" not in task.codec.target_vocabulary
    for item in task.test:
        assert task.score([item.references[0].replace("\u00e9", "e\u0301")], [item])["exact match"] == 1
    assert task.codec.encode_source("e\u0301") == task.codec.encode_source("\u00e9") != [UNK]


def test_an_accent_that_has_no_composed_letter(tmp_path: Path) -> None:
    """The open o of phonetics with a tilde is two characters in both spellings; é beside it is still one."""
    path = write_file(tmp_path, "b\u0254\u0303\t\u00e9\nc\u0254\u0303\te\u0301\nd\u0254\u0303\t\u00e9\n")
    codec = load_task(path).codec
    assert "\u0303" in codec.source_vocabulary and codec.target_vocabulary.to_list() == ["\u00e9"]
    again = Codec.from_json(codec.to_json())
    assert again == codec and again.encode_target("e\u0301") == again.encode_target("\u00e9")


def test_an_empty_target(tmp_path: Path) -> None:
    """A silent letter: the decoder learns to end at once."""
    lines = "".join(f"{letter}\t{'' if letter in 'aeiou' else letter}\n" for letter in string.ascii_lowercase)
    task = load_task(write_file(tmp_path, lines))
    assert sum(pair.target == [BOS, EOS] for pair in task.train) + sum(
        item.references == ("",) for item in (*task.validation, *task.test)
    ) == 5
    assert task.score(["", "x", ""], [Item("a", ("",)), Item("e", ("",)), Item("b", ("b",))]) == {
        "exact match": 1 / 3, "error rate": 2.0
    }  # fmt: skip


@pytest.mark.parametrize("word", ["<pad>", "<bos>", "<eos>"])
def test_words_that_npattn_adds_itself(word: str, tmp_path: Path) -> None:
    path = write_file(tmp_path, f"a b\tc\n\na {word}\tc\n")
    with pytest.raises(ValueError, match=rf"pairs\.tsv, line 3: expected no word '{word}' in the data, npattn adds it"):
        load_task(path, unit="words")
    path = write_file(tmp_path, f"a b\tc\nd\tc {word}\n")
    with pytest.raises(ValueError, match=r"pairs\.tsv, line 2: expected no word "):
        load_task(path, target_unit="words")
    task = load_task(path)                                    # by characters it is a text like any other
    assert UNK not in [i for pair in task.train for i in (*pair.source, *pair.target)]
    with pytest.raises(ValueError, match="expected no word"):
        build_codec([("a", "b")], "words", "words").encode_pair("a", f"b {word}")


def test_an_unknown_word_in_the_data_stays_unknown(tmp_path: Path) -> None:
    task = load_task(write_file(tmp_path, "<unk>\t<unk>\na\t<unk>\n"), unit="words")
    assert task.train[0].target == [BOS, UNK, EOS]


@pytest.mark.parametrize("option", ["unit", "target_unit"])
def test_an_error_names_the_unknown_unit(option: str, tmp_path: Path) -> None:
    path = write_file(tmp_path, "a\tb\nc\td\n")
    with pytest.raises(ValueError, match=f"^{option}: expected characters or words, got 'letters'"):
        load_tsv(path, **{option: "letters"})  # type: ignore[arg-type]


def test_the_error_for_an_unknown_task_lists_the_tasks() -> None:
    with pytest.raises(ValueError, match=r"expected dates, g2p, text or the path of a \.tsv file, got 'date'"):
        load_task("date")


def test_the_error_for_an_unknown_option_lists_the_options() -> None:
    with pytest.raises(TypeError, match="task dates: expected options among n_train, seed, got 'stress'"):
        load_task("dates", stress=True)


def test_the_path_is_not_an_option(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"expected options among unit, target_unit, .*, got 'path'"):
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


@pytest.fixture
def split(tmp_path: Path) -> dict[str, Path]:
    """Three files of pairs. The sources of the first are a0 … a39."""
    files = {}
    for name, letter, n in (("train", "a", 40), ("validation", "b", 30), ("test", "c", 20)):
        files[name] = tmp_path / f"{name}.tsv"
        files[name].write_text("".join(f"{letter}{i}\t{i}\n{letter}{i}\t{i}!\n" for i in range(n)), encoding="utf-8")
    return files


@pytest.mark.parametrize(("given", "sizes"), [
    ((), (34, 2, 4)), (("validation",), (40, 30, 0)), (("test",), (38, 2, 20)), (("validation", "test"), (40, 30, 20)),
])  # fmt: skip
def test_validation_and_test_in_files_of_their_own(
    split: dict[str, Path], given: tuple[str, ...], sizes: tuple[int, int, int]
) -> None:
    task = load_task(split["train"], **{name: split[name] for name in given})
    assert (len(task.train) // 2, len(task.validation), len(task.test)) == sizes
    assert task.title == f"{2 * (40 + 30 * ('validation' in given) + 20 * ('test' in given))} pairs from train.tsv"
    for name, letter in (("validation", "b"), ("test", "c")):
        sources = [item.source for item in getattr(task, name)]
        assert sources == hash_order(sources)                 # so that the first n are a fair sample
        if name in given:
            assert set(sources) == {f"{letter}{i}" for i in range(sizes[1 + (name == "test")])}
            assert all(item.references == (item.source[1:], item.source[1:] + "!") for item in getattr(task, name))
        assert task.options[name] == (str(split[name].absolute()) if name in given else None)
    assert set(task.codec.source_vocabulary.to_list()) == set("a0123456789")   # held-out letters are not learnt
    assert load_task(split["train"], **task.options) == task


@pytest.mark.parametrize(("files", "n", "first"), [(("train",), 1, "a7"), (("test", "validation"), 2, "c1")])
def test_a_source_in_two_files_is_an_error(split: dict[str, Path], files: tuple[str, ...], n: int, first: str) -> None:
    with open(split["validation"], "a", encoding="utf-8") as file:
        file.write("a7\t1\n" if n == 1 else "c1\t2\nc3\t4\n")
    words = re.escape(f"got {n} that are, the first is '{first}'")
    with pytest.raises(ValueError, match=f"expected sources that are not in .*, {words}$"):
        load_task(split["train"], validation=split["validation"], test=split["test"])
    with pytest.raises(ValueError, match="got 20 that are"):
        load_task(split["train"], validation=split["test"], test=split["test"])


def test_one_source_is_enough_beside_files_for_the_rest(tmp_path: Path, split: dict[str, Path]) -> None:
    path = write_file(tmp_path, "x\ty\n")
    assert len(load_task(path, validation=split["validation"]).train) == 1
    with pytest.raises(ValueError, match="expected two or more different sources"):
        load_task(path, test=split["test"])


def test_sources_in_lower_case(tmp_path: Path) -> None:
    path = write_file(tmp_path, "Read\tR EH D\nread\tR IY D\nZOË\tZoë\nCafe\u0301\tx\n")
    task = load_task(path, lowercase=True)
    items = {each.source: each.references for each in (*task.validation, *task.test)}
    assert len(task.train) + sum(map(len, items.values())) == 4
    assert {*items, *(task.codec.detokenize(task.codec.source_vocabulary.decode(p.source)) for p in task.train)} == {
        "read", "zoë", "café"}  # fmt: skip
    assert task.codec.lowercase and task.codec.tokenize("READ") == list("read")
    assert task.options["lowercase"] is True and load_task(path, **task.options) == task
    assert load_task(path).options["lowercase"] is False and not load_task(path).codec.lowercase
    with pytest.raises(TypeError, match="lowercase"):
        load_task(path, lowercase=1)


def test_sizes_and_steps_follow_the_training_pairs(tmp_path: Path) -> None:
    assert [tsv.defaults_for(n)["d_model"] for n in (1, 999, 1_000, 10**6)] == [64, 64, 128, 128]
    assert [tsv.defaults_for(n)["steps"] for n in (1, 40, 999, 4_000, 16_000)] == [300, 300, 1_500, 3_000, 6_000]
    assert all(found["d_ff"] == 4 * found["d_model"] for found in map(tsv.defaults_for, (1, 1_000)))
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{i}\t{i}\n{i}\t{i + 1}\n" for i in range(700)), encoding="utf-8")
    task = load_tsv(path)
    assert len(task.train) == 1190                            # they count, not all pairs of the file
    assert task.defaults == tsv.defaults_for(1190)
