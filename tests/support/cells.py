"""Run the cells of a notebook without Jupyter, in one namespace, as a kernel would."""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from npattn.learn.notebook import Cell


def namespace() -> dict[str, Any]:
    """Return the namespace of a new kernel."""
    return vars(ModuleType("__main__"))


def run(cells: Iterable[Cell], names: dict[str, Any]) -> list[str]:
    """Run the cells of code and return what each prints and shows: the repr of its last expression, if it has one."""
    return [_shown(cell.text, names) for cell in cells if cell.kind == "code"]


def _shown(code: str, names: dict[str, Any]) -> str:
    path = f"<cell {hash(code)}>"
    linecache.cache[path] = (len(code), None, code.splitlines(keepends=True), path)   # so that functions have a source
    tree, last = ast.parse(code), None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = tree.body.pop()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, path, "exec"), names)
        value = eval(compile(ast.Expression(last.value), path, "eval"), names) if isinstance(last, ast.Expr) else None
    return printed.getvalue() + (repr(value) if value is not None else "")
