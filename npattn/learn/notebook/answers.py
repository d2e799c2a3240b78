"""Check an exercise that was solved in a cell of a notebook."""

from __future__ import annotations

import inspect
import linecache
import tempfile
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
    end = "All is right." if result.verdict == RIGHT else "Not right yet. The hints are below."
    return Answer("\n".join([*result.lines(WIDTH), end]))
