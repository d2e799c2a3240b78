"""The log of a run: written line by line, rewound when the run resumes, and read."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from npattn._internal.files import CheckpointError
from npattn.runs import log as log_module
from npattn.runs.log import append_to_log, read_log, rewind_log, start_log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    start_log(tmp_path, ("WER", "PER"))
    for step in (10, 20, 30):
        append_to_log(tmp_path, step, 6.0 * step, 1 / step, 1e-3, (0.5, 0.25))
    return tmp_path


def test_read_log_returns_the_written_numbers(folder: Path) -> None:
    log = read_log(folder)
    assert list(log) == ["step", "minutes", "loss", "rate", "WER", "PER"]
    assert log["step"] == [10, 20, 30] and log["minutes"] == [1, 2, 3] and log["PER"] == [0.25] * 3


def test_a_resumed_run_writes_its_last_lines_once(folder: Path) -> None:
    with open(folder / "log.tsv", "a") as log:
        log.write("40\t4.0\t0.1")  # incomplete, as after a crash
    rewind_log(folder, ("WER", "PER"), 25)
    assert read_log(folder)["step"] == [10, 20]
    append_to_log(folder, 30, 180, 0.1, 1e-3, (0.5, 0.25))
    rewind_log(folder, ("WER", "PER"), 30)
    assert read_log(folder)["step"] == [10, 20, 30]
    rewind_log(folder, ("WER", "PER"), 0)
    assert read_log(folder)["step"] == []
    (folder / "log.tsv").unlink()
    rewind_log(folder, ("WER", "PER"), 30)
    assert read_log(folder)["PER"] == []


@pytest.mark.parametrize(
    "damage", [b"25\t\xff\xfe\t1\t1\t1\t1\n", b"x\n", b"\0\0", b"nan\t1\t1\t1\t1\t1\n", b"21\t1\t1\t1\t1\t1"]
)
def test_damaged_lines_are_dropped(folder: Path, damage: bytes) -> None:
    with open(folder / "log.tsv", "ab") as log:
        log.write(damage)
    rewind_log(folder, ("WER", "PER"), 25)
    assert read_log(folder)["step"] == [10, 20]


def test_an_intact_log_is_not_written(folder: Path) -> None:
    """A finished run can then be loaded from a read-only folder."""
    before = (folder / "log.tsv").stat()
    rewind_log(folder, ("WER", "PER"), 30)
    after = (folder / "log.tsv").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_error_of_a_full_disk_names_the_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write: No space left on device: .*log\.tsv"):
        append_to_log(folder, 40, 1.0, 0.1, 1e-3, (0.5, 0.25))


def test_the_error_of_a_damaged_log_names_the_line(folder: Path, tmp_path: Path) -> None:
    path = folder / "log.tsv"
    text = path.read_text()
    for damaged, words in [
        (text + "40\tx\t1\t1\t1\t1\n", "line 5: expected 6 numbers, got '40\\tx"),
        (text + "40\t1\n", "line 5: expected 6 numbers"),
        ("", "expected the columns step, minutes, loss, rate"),
        ("a\tb\n", "got a, b"),
        ("\udcff\udcfe", "expected text in UTF-8 ('utf-8' codec can't decode byte 0xff"),
    ]:
        path.write_bytes(damaged.encode(errors="surrogateescape"))
        with pytest.raises(CheckpointError) as error:
            read_log(folder)
        assert words in str(error.value) and str(path) in str(error.value)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"found no log\.tsv"):
        read_log(folder)


def test_all_lines_end_alike_on_windows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a text file turns each line feed into two characters unless it is opened with a `newline`."""

    def windows(file: Any, mode: str = "r", *, newline: str | None = None, **options: Any) -> Any:
        return open(file, mode, newline=newline or "\r\n", **options)

    monkeypatch.setattr(log_module, "open", windows, raising=False)
    append_to_log(folder, 40, 240, 0.1, 1e-3, (0.5, 0.25))
    data = (folder / "log.tsv").read_bytes()
    assert data.endswith(b"40\t4.00\t0.1000\t1.000e-03\t0.5000\t0.2500\n") and b"\r" not in data
