"""The package as others meet it: what an import loads, what the metadata promises, what the README says first."""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import npattn

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_importing_npattn_loads_numpy_and_the_standard_library_only() -> None:
    script = """if True:
        import sys, numpy
        before = set(sys.modules)
        import npattn
        for name, module in sys.modules.items():
            if name not in before and getattr(module, "__file__", None):  # NumPy's random also makes some without
                print(name.partition(".")[0])
    """
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    foreign = set(loaded.stdout.split()) - {"npattn", "numpy"} - set(sys.stdlib_module_names)
    assert "npattn" in loaded.stdout and foreign == set()


def test_no_module_imports_more_than_its_extras_provide() -> None:
    """Read the imports instead of running them: some stand inside functions."""
    allowed = {"npattn", "numpy", *sys.stdlib_module_names}
    optional = {
        "_internal/files/state_files.py": {"safetensors"}, "_internal/system/blas_threads.py": {"threadpoolctl"},
        "plot/canvas.py": {"matplotlib", "PIL"}, "plot/fonts.py": {"matplotlib"}, "training/ranks.py": {"mpi4py"},
    }  # fmt: skip
    for path in (ROOT / "npattn").rglob("*.py"):
        imported = _imported(ast.parse(path.read_text(encoding="utf-8")))
        name = path.relative_to(ROOT / "npattn").as_posix()
        assert imported <= allowed | optional.get(name, set()), name


def _imported(tree: ast.AST) -> set[str]:
    """Return the top-level names of what is imported, but for type checking alone."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING":
        return set()
    if isinstance(tree, ast.Import):
        return {alias.name.partition(".")[0] for alias in tree.names}
    if isinstance(tree, ast.ImportFrom) and tree.module and not tree.level:
        return {tree.module.partition(".")[0]}
    return set().union(*map(_imported, ast.iter_child_nodes(tree)))


def test_numpy_is_the_only_requirement(setup_cfg: configparser.ConfigParser) -> None:
    assert setup_cfg["options"]["install_requires"].split() == ["numpy>=2.0"]
    assert setup_cfg["options"]["python_requires"] == ">=3.11"


def test_the_tests_can_be_run_with_their_extra(setup_cfg: configparser.ConfigParser) -> None:
    extras = setup_cfg["options.extras_require"]
    assert {"fast", "figures", "g2p", "test", "bench", "lint", "dev"} <= set(extras)
    assert not any("torch" in requirements for requirements in extras.values())
    for name in ("hypothesis", "matplotlib", "threadpoolctl"):
        assert importlib.util.find_spec(name), name


def test_one_version_everywhere(setup_cfg: configparser.ConfigParser) -> None:
    assert setup_cfg["metadata"]["version"] == "attr: npattn.__version__"
    version = re.escape(npattn.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    assert re.search(rf"^## {version}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)


def test_the_version_is_a_literal() -> None:
    """Then the build reads it without importing the package, and so without NumPy."""
    tree = ast.parse((ROOT / "npattn" / "__init__.py").read_text(encoding="utf-8"))
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__version__" for t in node.targets)
    ]
    assert [ast.literal_eval(value) for value in values] == [npattn.__version__]


def test_the_installed_metadata() -> None:
    try:
        installed = importlib.metadata.distribution("npattn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("npattn is not installed: the tests run from the checkout")
    assert installed.version == npattn.__version__
    assert "npattn.cli:main" in {point.value for point in installed.entry_points}


def test_the_command_can_be_called(setup_cfg: configparser.ConfigParser) -> None:
    name, _, target = setup_cfg["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = target.partition(":")
    assert name == "npattn" and callable(getattr(importlib.import_module(module), function))
    assert (ROOT / "npattn" / "__main__.py").exists()


def test_types_are_announced(setup_cfg: configparser.ConfigParser) -> None:
    assert (ROOT / "npattn" / "py.typed").exists()
    assert setup_cfg["options.package_data"]["npattn"] == "py.typed, README.md"


def test_every_public_name_is_there_and_documented() -> None:
    for name in npattn.__all__:
        assert getattr(npattn, name).__doc__, name


def test_the_readme_opens_with_two_commands() -> None:
    block = re.search(r"^```[^\n]*\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert block
    commands = block[1].splitlines()
    assert len(commands) == 2
    assert commands[0].endswith("python -m npattn") and commands[1].endswith("python -m pytest")
    assert all(command.startswith("pip install -e ") for command in commands)
