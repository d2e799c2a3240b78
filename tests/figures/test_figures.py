"""`python figures` draws every picture in both themes, figures/README.md lists them, `npattn figures` draws a run."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from npattn import plot
from npattn.cli import program
from npattn.runs.load import load_model
from support.command_line import TINY, Cli, write_pairs

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "figures"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))

#: The target of a link in Markdown.
LINK = re.compile(r"\]\(([^)]+)\)")

#: Smaller samples for the slowest scripts.
QUICK = {
    "why_scale": {"SAMPLES": 200, "PAIRS": 50, "DRAWS": 5},
    "gradient_check": {"DIRECTIONS": 3},
    "adam": {"SEEDS": range(2)},
    "norm_placement": {"SEEDS": range(1), "DEPTHS": (2, 6), "LAYERS": 1, "STEPS": 20},
    "what_if": {"SEEDS": range(1), "STEPS": 40},
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.mark.parametrize(
    "script",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.long] * (path.stem != "ladder")) for path in SCRIPTS],
)
def test_every_script_draws_at_the_width_of_the_readme(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(script.stem)
    assert module.__doc__
    for name, value in QUICK.get(script.stem, {}).items():
        monkeypatch.setattr(module, name, value)
    if script.stem == "heads_dates":                          # the dates model takes minutes; the test needs any model
        model, codec, _ = load_model("g2p")
        monkeypatch.setattr(module, "dates_model", lambda: (model, codec))
        monkeypatch.setattr(module, "DATE", "july")
    clear_caches(module)
    ax = module.draw("dark")
    clear_caches(module)
    figure = ax.figure
    assert figure.get_size_inches()[0] == pytest.approx(8.3)
    assert plot.palette_of(ax).page == "#0d1117"
    figure.draw_without_rendering()                           # a warning about a missing letter would fail the test
    bars = [each for each in figure.axes if each.get_label() == "<colorbar>"]
    assert bool(bars) == any(each.get_images() for each in figure.axes)     # no map without a scale of its colours
    assert all(bar.get_xlabel() or bar.get_ylabel() for bar in bars)
    for each in figure.axes:
        ticks = [tick.get_text() for tick in (*each.get_xticklabels(), *each.get_yticklabels())]
        named = each.get_xlabel() or each.get_ylabel() or each.get_label() == "<colorbar>"
        assert named or not each.axison or not any(ticks)


def clear_caches(module: ModuleType) -> None:
    """Forget what a script has computed, as its sizes change."""
    for function in vars(module).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def test_both_themes_of_every_picture_are_committed() -> None:
    wanted = {f"{script.stem.replace('_', '-')}-{theme}.png" for script in SCRIPTS for theme in ("light", "dark")}
    assert wanted <= {path.name for path in FOLDER.glob("*.png")}
    sizes = [(FOLDER / name).stat().st_size for name in wanted]
    assert max(sizes) < 150e3 and sum(sizes) < 2e6


def table() -> dict[str, list[str]]:
    """Return the links in each row of the table in figures/README.md, by the name of the picture."""
    rows = re.findall(r"^\| (\[([\w-]+)\].*)", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {name: LINK.findall(row) for row, name in rows}


def test_the_table_lists_every_script_with_its_pictures() -> None:
    rows = table()
    assert sorted(rows) == sorted(script.stem.replace("_", "-") for script in SCRIPTS)
    for name, found in rows.items():
        script = f"{name.replace('-', '_')}.py"
        assert found[:3] == [f"{name}-light.png", f"{name}-dark.png", script]
        helpers = re.findall(r"^from (_[a-z]\w+) import", (FOLDER / script).read_text(encoding="utf-8"), re.MULTILINE)
        assert found[3:] == [f"{helper}.py" for helper in helpers]


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    found = LINK.findall((FOLDER / "README.md").read_text(encoding="utf-8"))
    assert len(found) > 30
    assert [target for target in found if not (FOLDER / target).is_file()] == []


def test_every_command_of_the_readme_is_understood() -> None:
    commands = re.findall(r"`(npattn [^`]+)`", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert len(commands) == 3
    assert all(program.parse(shlex.split(command)[1:]).run for command in commands)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_import_no_private_module_of_the_package(path: Path) -> None:
    assert not re.search(r"npattn[\w.]*\._", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["_architecture", "_matrix_formulas", "backward_flow"])
def test_the_examples_in_docstrings_are_right(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed


def figures(*argv: object, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run `python figures` in the root of the checkout; modules in `path` come first."""
    command = [sys.executable, "figures", *map(str, argv)]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join((str(path), str(ROOT)))}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables)


def test_the_help_lists_every_picture() -> None:
    text = "".join(figures("--help").stdout.split())          # argparse breaks lines at hyphens too
    assert ",".join(sorted(script.stem.replace("_", "-") for script in SCRIPTS)) in text


def test_a_named_picture_is_drawn_in_both_themes(tmp_path: Path) -> None:
    done = figures("training", "--out", tmp_path / "new" / "folder")
    assert (done.returncode, done.stderr) == (0, "")
    assert [Path(line).name for line in done.stdout.splitlines()] == ["training-light.png", "training-dark.png"]
    assert all(Path(line).read_bytes().startswith(b"\x89PNG") for line in done.stdout.splitlines())


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    done = figures("why-scal", "--out", tmp_path / "out")
    assert done.returncode == 2 and "expected names among" in done.stderr and "why-scal" in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_matplotlib_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise ModuleNotFoundError('No module named matplotlib')")
    done = figures("positions", "--out", tmp_path / "out", path=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'python figures: drawing needs matplotlib: pip install "npattn[figures]"\n'
    assert not (tmp_path / "out").exists()


def test_a_run_is_drawn(run: Cli, tmp_path: Path) -> None:
    assert run("train", write_pairs(tmp_path), "--run", tmp_path / "run", *TINY).status == 0
    status, out, _ = run("figures", tmp_path / "run", "--text", "abc", "--out", tmp_path)
    assert status == 0
    assert [Path(line).name for line in out.splitlines()] == ["learning-curve.png", "alignment.png"]


def test_npattn_figures_without_matplotlib_is_an_error_of_one_line(
    run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    line = run.fails("figures", "g2p", "--out", tmp_path / "out")
    assert line == 'npattn: drawing needs matplotlib: pip install "npattn[figures]"'
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_run_is_an_error(run: Cli, tmp_path: Path) -> None:
    assert "expected the folder of a run" in run.fails("figures", tmp_path)
