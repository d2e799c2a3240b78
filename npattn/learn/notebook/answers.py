"""Check an exercise that was solved in a cell of a notebook."""

from __future__ import annotations

import inspect
import linecache
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from npattn._internal.checks import shown
from npattn.learn.exercises import RIGHT, grade, read

WIDTH = 100


class Answer(str):
    """The words of a check. A notebook shows them without quotes."""

    def __repr__(self) -> str:
        return str(self)


def check(name: str, function: Callable[..., Any]) -> Answer:
    """Check the cell that defines a function as the answer to an exercise, and return in words what is wrong.

    - name: of the exercise, as `npattn exercise` lists them.
    - function: what the cell defines; the whole cell is run again, alone.

    Raises KeyError for an unknown name, TypeError for what is no function, and ValueError for one that is not from a
    cell.
    """
    exercise = read(name)
    if not inspect.isfunction(function):
        raise TypeError(f"function: expected one that a cell defines, got {shown(function)}")
    source = "".join(linecache.getlines(function.__code__.co_filename))
    if not source or function.__module__ != "__main__":
        raise ValueError(f"function: expected one that a cell defines, got {function.__module__}.{function.__name__}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.py")
        path.write_text(source, encoding="utf-8")
        result = grade(exercise, path)
    lines = [result.printed.rstrip()] if result.printed else []
    for verdict, words in dict.fromkeys((row.verdict, row.words) for row in result.rows):
        rows = [row for row in result.rows if (row.verdict, row.words) == (verdict, words)]
        text = ": ".join(filter(None, (", ".join(row.name for row in rows), verdict, words)))
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
        lines += [f"  {row.name}: {row.where}" for row in rows if row.where]
    if result.line:
        lines.append(f"The first wrong gradient is made in {result.line}")
    lines.append("All is right." if result.verdict == RIGHT else "Not right yet. The hints are below.")
    return Answer("\n".join(lines))
