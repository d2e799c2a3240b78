"""The house: what lives where, who may import whom, and one list of public names. Read from the code's own imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

import npattn

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "npattn"
FILES = sorted(PACKAGE.rglob("*.py"))

PUBLIC = [
    "Adam", "CheckpointError", "GradientError", "GradientReport", "Hypothesis", "LanguageModel", "LanguageModelConfig",
    "Parameters", "RanksDiffer", "TrainedModel", "Trainer", "Transformer", "TransformerConfig", "__version__",
    "attention", "beam_search", "causal_mask", "check_gradients", "check_layer", "clip_gradients", "conformance",
    "explore", "generate", "gradcheck", "greedy_search", "hf_weights", "keep_memory", "language_model", "layers",
    "load_model", "noam_rate", "optim", "padding_mask", "plot", "return_memory", "runs", "scaled_dot_product_attention",
    "scaled_dot_product_attention_backward", "sinusoidal_positions", "tasks", "tiled_attention",
    "tiled_attention_backward", "torch_weights", "trace", "transformer",
]  # fmt: skip


def module_of(path: Path) -> str:
    """Return the dotted name of a file; a folder's __init__ is the folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imports(tree: ast.AST) -> set[str]:
    """Return the modules of npattn that code imports when it is loaded or called, but for type checking alone."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, "imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        found |= imports(node)
    return {name for name in found if name in MODULES}


def graph() -> dict[str, set[str]]:
    return {name: imports(ast.parse(path.read_text(encoding="utf-8"))) - {name} for name, path in MODULES.items()}


def folder_of(module: str) -> str:
    """Return the folder of the package that a module is in; nothing for the package itself."""
    return module.split(".")[1] if module.count(".") and module != "npattn.__main__" else ""


def layers_of_the_map() -> dict[str, set[str]]:
    """Read which folder may import which from the table in npattn/README.md."""
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    return {folder: set(re.findall(r"`(\w+)`", allowed)) for folder, allowed in rows}


def test_nothing_is_loose_at_the_top_of_the_package() -> None:
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "py.typed", "README.md"}


def test_the_map_names_every_folder() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert layers_of_the_map().keys() == folders


def test_folders_import_only_what_the_map_allows() -> None:
    allowed = layers_of_the_map()
    found = {
        (folder_of(name), folder_of(other)) for name, others in graph().items() for other in others if folder_of(name)
    }
    assert {(a, b) for a, b in found if b and a != b and b not in allowed[a]} == set()
    used = {folder: {b for a, b in found if a == folder} for folder in allowed}
    assert {folder: others - used[folder] for folder, others in allowed.items() if others - used[folder]} == {}


def test_the_map_lists_folders_from_the_ground_up() -> None:
    """No folder is imported from below: each may import only folders that stand before it in the table."""
    allowed, seen = layers_of_the_map(), set[str]()
    for folder, others in allowed.items():
        assert others <= seen, folder
        seen.add(folder)


def test_no_file_is_imported_in_a_circle() -> None:
    order = list(TopologicalSorter(graph()).static_order())   # raises CycleError
    assert len(order) == len(FILES)


def test_a_circle_would_be_found() -> None:
    with pytest.raises(ValueError, match="cycle"):
        list(TopologicalSorter(graph() | {"npattn._internal.checks.types": {"npattn.cli"}}).static_order())


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=str)
def test_a_folder_says_what_lives_there(folder: Path) -> None:
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    assert len((ast.get_docstring(tree) or "").split()) > 10


def test_tests_mirror_the_package() -> None:
    """A folder of tests for each folder of the package, and no tests loose beside them."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    others = {"benchmarks", "contracts", "figures", "golden", "mutation", "project", "soak", "support"}
    assert folders - others == {name.removeprefix("_") for name in layers_of_the_map()}
    assert [path.name for path in (ROOT / "tests").glob("*.py")] == ["conftest.py"]


def test_no_test_imports_from_a_test() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        code = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) (\w+\.)*test_\w+", code, re.MULTILINE), path


def test_the_public_names() -> None:
    assert npattn.__all__ == PUBLIC and dir(npattn) == PUBLIC
    assert all(getattr(npattn, name) is not None for name in PUBLIC)
    with pytest.raises(AttributeError, match="has no attribute 'chek_gradients'"):
        npattn.chek_gradients  # type: ignore[attr-defined]  # noqa: B018


FIRST_USE = """
import sys, numpy
for name in sys.argv[1:]:
    for module in [module for module in sys.modules if module.split(".")[0] == "npattn"]:
        del sys.modules[module]
    import npattn
    before = len(sys.modules)
    getattr(npattn, name)
    print(name, before < len(sys.modules))
"""


@pytest.mark.long
def test_a_public_name_is_loaded_when_it_is_first_used() -> None:
    """Each name works right after `import npattn`, with nothing else of the package imported."""
    names = [name for name in PUBLIC if name != "__version__" and (name != "plot" or find_spec("matplotlib"))]
    command = [sys.executable, "-c", FIRST_USE, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == [f"{name} True" for name in names]


def test_the_typed_program_uses_every_public_name() -> None:
    """mypy checks it in .ci/run; a name that is misspelt there, or here, is an error."""
    code = (Path(__file__).parent / "typed_program.py").read_text(encoding="utf-8")
    used = set(re.findall(r"\bnpattn\.(\w+)", code))
    assert set(PUBLIC) - used == set() and used - set(PUBLIC) == {"chek_gradients"}


def checks(function: ast.FunctionDef) -> list[ast.stmt]:
    """Return the statements of a function that do nothing but check its arguments."""
    calls = [s for s in function.body if re.match(r"(\w+(, \w+)* = )?(SHAPES\.)?check\w*\(", ast.unparse(s))]
    return [*calls, *(s for s in function.body if re.match(r"if .*:\n    raise", ast.unparse(s)))]


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name in ("layers", "attention", "tiled")], ids=str)
def test_a_public_function_has_one_line_of_checking_at_most(path: Path) -> None:
    if path.name in ("alibi.py", "masks.py", "positions.py", "rotary_frequencies.py"):
        return                                                # they take numbers, which they check one by one
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert len(checks(node)) <= 1, f"{path.name}: {node.name}"


def test_the_forward_of_version_7_reads_like_its_formula() -> None:
    path = PACKAGE / "attention" / "v7_multi_head.py"
    forward = next(n for n in ast.parse(path.read_text("utf-8")).body if getattr(n, "name", "") == "forward")
    assert isinstance(forward, ast.FunctionDef)
    assert len(forward.body) - 1 <= 9                         # without its docstring
    assert len(checks(forward)) == 1


def test_the_reference_of_the_transformer_has_at_most_250_lines() -> None:
    assert len((PACKAGE / "transformer" / "reference.py").read_text(encoding="utf-8").splitlines()) <= 250
