"""The log of a run, `log.tsv`: a line for each validation, which any spreadsheet can read.

Its columns are step, minutes, loss, rate and then the scores of the task, the headline first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from npattn._internal.files import CheckpointError, write_text

NAME = "log.tsv"
COLUMNS = ("step", "minutes", "loss", "rate")


def start_log(folder: Path, score_names: Sequence[str]) -> None:
    """Begin the log with the names of its columns."""
    _write(folder, score_names, [])


def append_to_log(
    folder: Path, step: int, seconds: float, loss: float, rate: float, scores: Sequence[float]
) -> None:
    """Add the line of a validation."""
    values = "\t".join(f"{score:.4f}" for score in scores)
    path = folder / NAME
    try:
        with open(path, "a", encoding="utf-8") as log:
            log.write(f"{step}\t{seconds / 60:.2f}\t{loss:.4f}\t{rate:.3e}\t{values}\n")
            log.flush()
            os.fsync(log.fileno())  # the checkpoint of this step must not be on the disk without it
    except OSError as error:
        raise OSError(error.errno, f"cannot write: {error.strerror}", str(path)) from error


def rewind_log(folder: Path, score_names: Sequence[str], step: int) -> None:
    """Drop what lies after `step`: a run that goes on from there will write it again.

    So is a line that a crash cut short, or that is no line of this log; a log that is gone begins anew.
    """
    path = folder / NAME
    text = path.read_bytes().decode("utf-8", errors="replace") if path.exists() else ""
    *lines, _ = text.split("\n")
    kept = [line for line in lines[1:] if _step(line, len(COLUMNS) + len(score_names)) <= step]
    if not text.endswith("\n") or lines != [_head(score_names), *kept]:
        _write(folder, score_names, kept)


def read_log(folder: Path) -> dict[str, list[float]]:
    """Return the columns of the log by name.

    Raises FileNotFoundError when there is none, CheckpointError that names the line when it is not ours.
    """
    path = folder / NAME
    if not path.exists():
        raise FileNotFoundError(f"{folder}: expected the folder of a run, found no {NAME}")
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: expected text in UTF-8 ({error})") from error
    names = head.split("\t")
    if tuple(names[: len(COLUMNS)]) != COLUMNS:
        raise CheckpointError(f"{path}: expected the columns {', '.join(COLUMNS)} …, got {', '.join(names)}")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for number, line in enumerate(lines, start=2):
        try:
            for name, field in zip(names, line.split("\t"), strict=True):
                columns[name].append(float(field))
        except ValueError as error:
            raise CheckpointError(f"{path}, line {number}: expected {len(names)} numbers, got {line!r}") from error
    return columns


def _write(folder: Path, score_names: Sequence[str], lines: Sequence[str]) -> None:
    write_text(folder / NAME, "\n".join((_head(score_names), *lines)) + "\n")


def _head(score_names: Sequence[str]) -> str:
    return "\t".join((*COLUMNS, *score_names))


def _step(line: str, columns: int) -> float:
    """The step of a line; infinite for a line that is not whole."""
    try:
        step, *others = map(float, line.split("\t"))
    except ValueError:
        return math.inf
    return step if len(others) == columns - 1 else math.inf
