"""The file of a notebook: cells of Markdown and of code as plain JSON, in the format 4.5 of Jupyter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """A cell: its kind, "markdown" or "code", and its text."""

    kind: str
    text: str


def markdown(*blocks: str) -> Cell:
    """Return a cell of Markdown; an empty line stands between its blocks, and empty blocks are left out."""
    return Cell("markdown", "\n\n".join(block.strip("\n") for block in blocks if block.strip()))


def code(text: str) -> Cell:
    """Return a cell of Python."""
    return Cell("code", text.strip("\n"))


def notebook(cells: Iterable[Cell]) -> str:
    r"""Return the text of a notebook. Code has no outputs; the same cells give the same text.

    A cell's id is a hash of its text and of how often the text came before, so it stays when other cells change.

    >>> text = notebook([markdown("# Climb"), code("1 + 1"), code("1 + 1")])
    >>> [(cell["id"], cell["source"]) for cell in json.loads(text)["cells"]]
    [('d12ca2d0a3', ['# Climb']), ('653c34633a', ['1 + 1']), ('e96c0cc6fd', ['1 + 1'])]
    """
    seen: dict[Cell, int] = {}
    found: list[dict[str, Any]] = []
    for cell in cells:
        seen[cell] = seen.get(cell, 0) + 1
        name = hashlib.sha256(f"{seen[cell]} {cell.kind}\n{cell.text}".encode()).hexdigest()[:10]
        lines = cell.text.splitlines(keepends=True)
        found.append({"cell_type": cell.kind, "id": name, "metadata": {}, "source": lines})
        if cell.kind == "code":
            found[-1] |= {"execution_count": None, "outputs": []}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": found, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
