"""The list of mutants that may survive names code as it stands, and the groups name files that exist."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MUTATION = ROOT / "tests" / "mutation"


def read(name: str) -> Any:
    return tomllib.loads((MUTATION / name).read_text(encoding="utf-8"))


ENTRIES = read("equivalents.toml")["equivalent"]


def source(function: str) -> str:
    """Return the code of a function, named with module and class, on one line and without comments."""
    parts = function.split(".")
    module = next(
        path
        for cut in range(len(parts) - 1, 0, -1)
        for path in (ROOT.joinpath(*parts[:cut]).with_suffix(".py"), ROOT.joinpath(*parts[:cut], "__init__.py"))
        if path.exists()
    )
    text = module.read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    names = parts[len(module.with_suffix("").relative_to(ROOT).parts) - (module.name == "__init__.py") :]
    for name in names:
        node = next(n for n in ast.iter_child_nodes(node) if getattr(n, "name", None) == name)
    assert isinstance(node, ast.FunctionDef)
    lines = text.split("\n")[node.lineno - 1 : node.end_lineno]
    return " ".join(line.partition("  #")[0].strip() for line in lines)


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["function"] for entry in ENTRIES])
def test_every_listed_line_is_still_there(entry: dict[str, Any]) -> None:
    """An edit of a line takes what is listed of it off the list: whether that still holds is to be seen again."""
    assert entry["line"] in source(entry["function"])
    assert entry["mutants"] and entry["line"] not in entry["mutants"]
    assert len(entry["reason"]) > 20


def test_every_module_of_the_mathematics_is_in_a_group() -> None:
    groups = read("groups.toml").values()
    covered = {path for group in groups for pattern in group["modules"] for path in ROOT.glob(pattern)}
    wanted = {ROOT / "npattn/_internal/checks" / name for name in ("arrays.py", "scalars.py", "shapes.py")}
    for folder in ("layers", "attention", "optim", "gradcheck", "transformer", "decoding"):
        wanted |= {path for path in (ROOT / "npattn" / folder).rglob("*.py") if path.name != "__init__.py"}
    assert wanted - covered == set()
    assert all((ROOT / test).exists() for group in groups for test in group["tests"])
