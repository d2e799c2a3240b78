"""The log of a run, `log.tsv`: one line for each validation. Any spreadsheet can read it.

Its columns are step, minutes, loss, rate and then the scores of the task, the main score first. The loss is the mean of
the last 100 steps.
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
    write_text(folder / NAME, _text(score_names, []))


def append_to_log(
    folder: Path, step: int, seconds: float, loss: float, rate: float, scores: Sequence[float]
) -> None:
    """Add the line of a validation."""
    values = "\t".join(f"{score:.4f}" for score in scores)
    path = folder / NAME
    try:
        with open(path, "a", encoding="utf-8", newline="\n") as log:   # Windows would write \r\n
            log.write(f"{step}\t{seconds / 60:.2f}\t{loss:.4f}\t{rate:.3e}\t{values}\n")
            log.flush()
            os.fsync(log.fileno())  # the line must be on the disk before the checkpoint of this step
    except OSError as error:
        raise OSError(error.errno, f"cannot write: {error.strerror}", str(path)) from error


def rewind_log(folder: Path, score_names: Sequence[str], step: int) -> None:
    """Drop the lines after `step`: a run that continues from there writes them again.

    Lines that are incomplete (after a crash) or do not belong to this log are dropped too, and a missing log begins
    anew. If there is nothing to drop, the file is not written.
    """
    path = folder / NAME
    text = path.read_bytes().decode("utf-8", errors="replace") if path.exists() else ""
    lines = text.split("\n")[1:-1]
    kept = _text(score_names, [line for line in lines if _step(line, len(COLUMNS) + len(score_names)) <= step])
    if text != kept:
        write_text(path, kept)


def read_log(folder: str | os.PathLike[str]) -> dict[str, list[float]]:
    """Return the columns of the log of a run, by name.

    - folder: the folder of the run.

    Raises FileNotFoundError when it holds no log, CheckpointError, naming the line, when the log is damaged.

    >>> from npattn.runs.load import FOLDER
    >>> log = read_log(FOLDER / "g2p")
    >>> list(log), log["step"][-1]
    (['step', 'minutes', 'loss', 'rate', 'WER', 'PER'], 36000.0)
    """
    path = Path(folder, NAME)
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


def _text(score_names: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join(("\t".join((*COLUMNS, *score_names)), *lines)) + "\n"


def _step(line: str, columns: int) -> float:
    """Return the step of a line; infinity for an incomplete line."""
    try:
        step, *others = map(float, line.split("\t"))
    except ValueError:
        return math.inf
    return step if len(others) == columns - 1 else math.inf
