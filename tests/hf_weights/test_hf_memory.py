"""Weights are copied a few rows of the file at a time, and what was read of the file is dropped."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from npattn.hf_weights import load_folder, save_folder
from npattn.hf_weights.layouts import copy
from support.language_model_toys import toy_language_model


@pytest.mark.parametrize(("rows", "chunk", "wanted"), [
    (5, 24, [2, 4, 5]), (5, 35, [2, 4, 5]), (6, 36, [3, 6]), (3, 11, [1, 2, 3]), (3, 1, [1, 2, 3]), (3, 36, [3]),
])  # fmt: skip
@pytest.mark.parametrize("order", ["rows", "columns"])
def test_so_many_rows_of_the_file_at_a_time(
    monkeypatch: pytest.MonkeyPatch, rows: int, chunk: int, wanted: list[int], order: str
) -> None:
    """Three numbers of four bytes make a row of the file; the target of a transposed one gets columns."""
    monkeypatch.setattr("npattn.hf_weights.layouts.CHUNK", chunk)
    source = np.arange(1, 3 * rows + 1, dtype=np.float32).reshape(rows, 3)
    target = np.zeros((rows, 3) if order == "rows" else (3, rows))
    done: list[int] = []
    copy(target, source if order == "rows" else source.T, lambda: done.append(np.count_nonzero(target) // 3))
    assert done == wanted and np.array_equal(target, source if order == "rows" else source.T)


def test_a_stack_is_copied_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither order of a part of the columns is contiguous; its rows are those of the file."""
    monkeypatch.setattr("npattn.hf_weights.layouts.CHUNK", 1)
    source, target, done = np.ones((4, 9), np.float32)[:, 3:6], np.zeros((4, 3)), list[int]()
    copy(target, source, lambda: done.append(np.count_nonzero(target)))
    assert done == [3, 6, 9, 12]


def test_the_largest_numbers_of_bytes_at_a_time() -> None:
    done: list[int] = []
    copy(np.zeros((4, 2**15)), np.ones((4, 2**15), np.float32), lambda: done.append(1))
    assert len(done) == 2, "256 KiB"


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="there is no such advice here")
def test_pages_of_every_file_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Map(mmap.mmap):
        advice: list[int]

        def madvise(self, option: int, start: int = 0, length: int | None = None) -> None:
            self.advice.append(option)

    maps: list[Map] = []

    def map_file(path: Path) -> Map:
        with open(path, "rb") as file:
            maps.append(Map(file.fileno(), 0, access=mmap.ACCESS_READ))
        maps[-1].advice = []
        return maps[-1]

    monkeypatch.setattr("npattn.hf_weights.folder.map_file", map_file)
    model = toy_language_model("mistral")
    save_folder(tmp_path, model)
    assert load_folder(tmp_path).params == model.params
    (found,) = maps
    assert set(found.advice) == {mmap.MADV_DONTNEED} and len(found.advice) >= len(model.params)
    monkeypatch.delattr(mmap, "MADV_DONTNEED")
    assert load_folder(tmp_path).params == model.params and maps[1].advice == []
