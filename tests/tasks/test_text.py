"""The task text: files are split, cut into rows and read through windows; each byte of a held-out file counts once."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn.tasks import BEGIN, Bytes, load_task, load_text
from npattn.tasks.text import TextBatches, library, split, windows


def write(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"{i}.txt" for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def loaded(folder: Path, *contents: bytes, **options: Any) -> Any:
    return load_text(files=write(folder, *contents), **options)


class TestCodec:
    def test_every_byte_comes_back(self) -> None:
        text = "\r\n\tné 七\x00"
        assert Bytes().encode(text)[0] == BEGIN == 256
        assert bytes(Bytes().encode(text)[1:]) == text.encode()
        assert Bytes().decode(Bytes().encode(text)) == text
        assert Bytes().decode([0xE4, 65, BEGIN, 66]) == "\ufffdAB"

    def test_a_byte_of_the_command_line_that_is_no_utf_8(self) -> None:
        assert Bytes().encode(os.fsdecode(b"a\xff")) == [BEGIN, 97, 255]

    def test_json(self) -> None:
        assert isinstance(Bytes.from_json(Bytes().to_json()), Bytes)
        with pytest.raises(ValueError, match=r"^codec: expected \{'unit': 'bytes'\}, got \{'unit': 'words'\}$"):
            Bytes.from_json({"unit": "words"})


class TestSplit:
    def test_twenty_files_are_held_out_as_wholes(self) -> None:
        contents = [bytes([i]) * (i + 1) for i in range(40)]
        train, validation, test = split(contents)
        assert [len(part) for part in (train, validation, test)] == [34, 2, 4]
        assert sorted(train + validation + test) == sorted(contents)
        assert split(reversed(contents)) == (train, validation, test)
        assert train != sorted(train)

    def test_fewer_files_are_cut(self) -> None:
        contents = [bytes(range(100 * i % 250, 100 * i % 250 + n)) for i, n in enumerate((100, 40, 5))]
        train, validation, test = split(contents)
        assert sorted(map(len, train)) == [4, 34, 85]
        assert sorted(map(len, validation)) == [1, 2, 5]
        assert sorted(map(len, test)) == [4, 10]              # a tenth of 5 is none
        for n, content in zip((85, 34, 4), contents, strict=True):
            assert content[:n] in train
        assert [len(part) for part in split([bytes([i]) for i in range(19)])] == [0, 19, 0]
        assert [len(part) for part in split([bytes([i]) for i in range(20)])] == [17, 1, 2]

    def test_equal_files_count_once_and_empty_ones_not_at_all(self) -> None:
        assert split([b"ab", b"", b"ab"]) == split([b"ab"]) == ([b"a"], [b"b"], [])
        assert split([b"", b""]) == ([], [], [])
        nineteen = [bytes([i]) for i in range(19)]
        assert split([*nineteen, b"", nineteen[0]]) == split(nineteen)   # not yet twenty files

    def test_the_order_does_not_follow_size_or_name(self, tmp_path: Path) -> None:
        """The hash decides, so the same files are split alike under any names."""
        contents = [f"file {i}".encode() for i in range(20)]
        one = load_text(files=write(tmp_path, *contents))
        other = load_text(files=write(tmp_path, *reversed(contents)))
        assert one.parts == other.parts and one.fingerprint == other.fingerprint


class TestFiles:
    def test_bytes_stay_as_they_are(self, tmp_path: Path) -> None:
        content = bytes(range(256)) + b"\r\n\xef\xbb\xbf\r\n"
        train, validation, test = loaded(tmp_path, content).parts
        assert train[0] + validation[0] + test[0] == content

    def test_a_line_of_20_000_letters(self, tmp_path: Path) -> None:
        task = loaded(tmp_path, b"a" * 20_000)
        assert [len(part[0]) for part in task.parts] == [17_000, 1_000, 2_000]
        assert task.batches(8, 0)[0][0].shape == (8, 257)

    def test_two_bytes_are_enough(self, tmp_path: Path) -> None:
        task = loaded(tmp_path, b"ab")
        (ids,) = task.batches(8, 0)[5]
        assert ids.tolist() == [[BEGIN, 97]] and task.test == []
        assert [window.ids.tolist() for window in task.validation] == [[BEGIN, 98]]

    @pytest.mark.parametrize("contents", [[b"a"], [b""], [b"", b""]])
    def test_too_few_bytes(self, tmp_path: Path, contents: list[bytes]) -> None:
        found = "2 files" if len(contents) == 2 else "0.txt"
        message = f"files: expected two bytes or more, to train and to validate on, got {found} without them"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            loaded(tmp_path, *contents)

    def test_wrong_files(self, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError) as folder:
            load_text(files=[tmp_path])
        assert str(folder.value) == f"{tmp_path}: expected a file of text, got a folder; give its files one by one"
        with pytest.raises(FileNotFoundError) as missing:
            load_text(files=[tmp_path / "none"])
        assert str(missing.value) == f"{tmp_path / 'none'}: expected a file of text, found no such file"
        for files, got in ((str(tmp_path), repr(str(tmp_path))), ([], "[]")):
            with pytest.raises(ValueError) as caught:
                load_text(files=files)
            assert str(caught.value) == f"files: expected the paths of one file or more, got {got}"
        with pytest.raises(TypeError, match=r"^files: expected the path of a file, got 3$"):
            load_text(files=[3])  # type: ignore[list-item]

    @pytest.mark.parametrize(("context", "error"), [(0, "expected 1 or more, got 0"),
                                                    (4097, "expected at most 4,096, got 4,097")])  # fmt: skip
    def test_wrong_contexts(self, tmp_path: Path, context: int, error: str) -> None:
        with pytest.raises(ValueError, match=f"^context: {error}$"):
            loaded(tmp_path, b"abc", context=context)
        assert loaded(tmp_path, b"abc", context=4096).context == 4096

    def test_the_task_is_loaded_again_in_any_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (path,) = write(tmp_path, b"0123456789")
        monkeypatch.chdir(tmp_path)
        task = load_task("text", files=[path.name], context=7)
        assert task.options == {"files": [str(path)], "context": 7} and task.title == "0.txt"
        monkeypatch.chdir("/")
        again = load_task("text", **task.options)
        assert again.fingerprint == task.fingerprint and again.parts == task.parts

    def test_the_fingerprint_depends_on_every_part(self, tmp_path: Path) -> None:
        prints = {
            loaded(tmp_path, content, context=context).fingerprint
            for content in (b"0123456789" * 2, b"0123456789" * 3, b"1123456789" * 2, b"0123456789" * 2 + b"0")
            for context in (4, 5)
        }
        assert len(prints) == 8 and all(re.fullmatch("[0-9a-f]{16}", each) for each in prints)
        one, other = b"0123456789" * 2, bytearray(b"0123456789" * 2)
        other[-1] = 65                                        # a byte of the test set
        assert loaded(tmp_path, one).fingerprint != loaded(tmp_path, bytes(other)).fingerprint


class TestBatches:
    def test_each_epoch_reads_the_stream_once(self) -> None:
        batches = TextBatches(np.arange(1, 25, dtype=np.uint16), 5, 3, seed=4)
        assert len(batches) == 2                              # 4 rows of 5
        for epoch in range(3):
            rows = [row for step in range(2) for row in batches[2 * epoch + step][0]]
            assert [len(batches[2 * epoch + step][0]) for step in range(2)] == [3, 1]
            assert sorted(row[0] for row in rows) == list(range(min(row[0] for row in rows), 24, 5))[:4]
            assert all((np.diff(row) == 1).all() and row.dtype == np.int64 and len(row) == 6 for row in rows)
        begins = {min(row[0] for step in (2 * e, 2 * e + 1) for row in batches[step][0]) for e in range(40)}
        assert begins == {1, 2, 3, 4}                         # every place from which 4 rows fit

    def test_a_batch_depends_on_seed_and_step_alone(self) -> None:
        stream = np.arange(99)
        wanted = [TextBatches(stream, 5, 3, seed=4)[step][0].tolist() for step in range(20)]
        backwards = TextBatches(stream, 5, 3, seed=4)
        assert [backwards[step][0].tolist() for step in reversed(range(20))] == wanted[::-1]
        assert TextBatches(stream, 5, 3, seed=5)[0][0].tolist() != wanted[0]

    def test_files_follow_each_other_after_a_mark(self, tmp_path: Path) -> None:
        task = loaded(tmp_path, b"a" * 20, b"b" * 20, context=1000)
        (ids,) = task.batches(2, 0)[0]
        assert ids.shape == (1, 36) and sorted(ids[0, [0, 18]].tolist()) == [BEGIN, BEGIN]
        assert ids[0].tolist() in [[BEGIN, *[x] * 17, BEGIN, *[y] * 17] for x, y in ((97, 98), (98, 97))]


class TestWindows:
    @pytest.mark.parametrize("context", [1, 2, 3, 4, 7, 50])
    @pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 12, 13])
    def test_each_byte_counts_once_with_half_a_window_before_it(self, context: int, n: int) -> None:
        content, counted = bytes(range(n)), []
        for window in windows(content, context):
            assert 2 <= len(window.ids) <= context + 1
            targets = window.ids[1:]
            counted += targets[window.first :].tolist()
            at = content.index(bytes([targets[window.first]]))
            assert window.first >= min(at, context - max(context // 2, 1))
            assert [BEGIN, *content][at + 1 - window.first - 1 :][: len(window.ids)] == window.ids.tolist()
        assert counted == list(content)

    def test_a_file_that_just_fits_has_one_window(self) -> None:
        assert [len(list(windows(bytes(n), 8))) for n in (7, 8, 9, 12, 13)] == [1, 1, 2, 2, 3]

    def test_windows_are_in_a_fixed_random_order(self, tmp_path: Path) -> None:
        content = bytes(i % 251 for i in range(4000))
        one, other = (loaded(tmp_path, content, context=8) for _ in range(2))
        begins = [window.ids.tolist() for window in one.test]
        assert begins == [window.ids.tolist() for window in other.test]
        in_order = [window.ids.tolist() for window in windows(one.parts[2][0], 8)]
        assert begins != in_order and sorted(begins) == sorted(in_order)
        assert sum(len(w.ids) - 1 - w.first for w in one.validation) == len(one.parts[1][0]) == 200


def test_scores_weigh_every_byte_alike(tmp_path: Path) -> None:
    task = loaded(tmp_path, b"abc")
    assert task.score([(12.0, 3, 4), (2.0, 1, 1)]) == {"bits per byte": 14 / 5, "byte error rate": 4 / 5}
    assert list(task.score([(0.0, 0, 1)])) == list(task.score_names)
    assert task.is_better([1.0, 0.5], than=[1.1, 0.1]) and task.is_better([1.0, 0.4], than=[1.0, 0.5])
    assert not task.is_better([1.0, 0.5], than=[1.0, 0.5]) and not task.is_better([1.1, 0.1], than=[1.0, 0.5])


def test_the_standard_library_without_tests_and_tables(tmp_path: Path) -> None:
    for name in (
        "a.py", "re/b.py", "test/c.py", "re/tests/d.py", "encodings/e.py", "pydoc_data/f.py", "g.txt",
        "site-packages/h.py", "idlelib/idle_test/i.py", "_sysconfigdata_x.py", "dist-packages/j.py",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in library(tmp_path)] == ["a.py", "re/b.py"]
    folder = Path(sysconfig.get_paths()["stdlib"])
    names = {path.relative_to(folder).as_posix() for path in library(folder)}
    assert {"argparse.py", "json/decoder.py"} < names and not any("site-packages" in name for name in names)


def test_without_files_the_task_is_the_standard_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [f"print({i})\n".encode() for i in range(20)]
    for i, content in enumerate(contents):
        (tmp_path / f"m{i}.py").write_bytes(content)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    task = load_text()
    assert task.title == f"Python {sysconfig.get_python_version()}'s standard library"
    assert task.parts == split(contents) and task.options == {"files": None, "context": 256}
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"^files: expected two bytes or more, .*standard library without them$"):
        load_text()
