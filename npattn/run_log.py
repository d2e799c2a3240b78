"""The log of a run, `log.tsv`: a line for each validation, which any spreadsheet can read.

Its columns are step, minutes, loss, rate and then the scores of the task, the headline first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from npattn._files import write_text
from npattn.checkpoint import CheckpointError

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
    with open(folder / NAME, "a", encoding="utf-8") as log:
        log.write(f"{step}\t{seconds / 60:.2f}\t{loss:.4f}\t{rate:.3e}\t{values}\n")


def rewind_log(folder: Path, score_names: Sequence[str], step: int) -> None:
    """Drop what lies after `step`: a run that goes on from there will write it again.

    A line that a crash cut short is dropped as well; a log that is gone begins anew.
    """
    path = folder / NAME
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
    fields = len(COLUMNS) + len(score_names)
    _write(folder, score_names, [line for line in lines if _step(line) <= step and line.count("\t") == fields - 1])


def read_log(folder: Path) -> dict[str, list[float]]:
    """Return the columns of the log by name.

    Raises FileNotFoundError when there is none, CheckpointError that names the line when it is not ours.
    """
    path = folder / NAME
    if not path.exists():
        raise FileNotFoundError(f"{folder}: expected the folder of a run, found no {NAME}")
    head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
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
    head = "\t".join((*COLUMNS, *score_names))
    write_text(folder / NAME, "\n".join((head, *lines)) + "\n")


def _step(line: str) -> float:
    """The step of a line; infinite for a line that has none."""
    first = line.partition("\t")[0]
    return int(first) if first.isdecimal() else float("inf")
