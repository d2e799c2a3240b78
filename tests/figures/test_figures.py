"""`python figures`: every script of the book draws, in both themes. `npattn figures` draws a run."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from npattn import plot
from npattn.runs.load import load_model
from support.command_line import TINY, Cli, write_pairs

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "figures").glob("*.py") if not path.stem.startswith("_"))

#: What takes longest is drawn in one theme, or on smaller samples.
QUICK = {"why_scale": {"SAMPLES": 200, "PAIRS": 50, "DRAWS": 5}, "gradient_check": {"DIRECTIONS": 3}}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_every_script_draws_at_the_width_of_the_readme(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(script.stem)
    assert module.__doc__
    for name, value in QUICK.get(script.stem, {}).items():
        monkeypatch.setattr(module, name, value)
    if script.stem == "heads_dates":                          # any model will do here, and that of dates takes minutes
        model, codec, _ = load_model("g2p")
        monkeypatch.setattr(module, "dates_model", lambda: (model, codec))
        monkeypatch.setattr(module, "DATE", "july")
    ax = module.draw("dark")
    figure = ax.figure
    assert figure.get_size_inches()[0] == pytest.approx(8.3)
    assert plot.palette_of(ax).page == "#0d1117"
    figure.canvas.draw()                                      # a letter without a glyph would warn, and so fail
    for each in figure.axes:
        ticks = [tick.get_text() for tick in (*each.get_xticklabels(), *each.get_yticklabels())]
        named = each.get_xlabel() or each.get_ylabel() or each.get_label() == "<colorbar>"
        assert named or not each.axison or not any(ticks)


def test_both_themes_of_every_picture_are_committed() -> None:
    wanted = {f"{script.stem.replace('_', '-')}-{theme}.png" for script in SCRIPTS for theme in ("light", "dark")}
    assert wanted <= {path.name for path in (ROOT / "figures").glob("*.png")}
    assert sum((ROOT / "figures" / name).stat().st_size for name in wanted) < 2e6


def figures(*argv: object) -> subprocess.CompletedProcess[str]:
    """Run `python figures` as a newcomer does, in the root of a checkout."""
    command = [sys.executable, "figures", *map(str, argv)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_the_pictures_that_are_named_are_drawn_in_both_themes(tmp_path: Path) -> None:
    done = figures("training", "--out", tmp_path / "new" / "folder")
    assert (done.returncode, done.stderr) == (0, "")
    assert [Path(line).name for line in done.stdout.splitlines()] == ["training-light.png", "training-dark.png"]
    assert all(Path(line).read_bytes().startswith(b"\x89PNG") for line in done.stdout.splitlines())


def test_an_unknown_picture_is_refused_by_name(tmp_path: Path) -> None:
    done = figures("why-scal", "--out", tmp_path / "out")
    assert done.returncode == 2 and "expected names among" in done.stderr and "why-scal" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_of_ones_own_is_drawn(run: Cli, tmp_path: Path) -> None:
    assert run("train", write_pairs(tmp_path), "--run", tmp_path / "run", *TINY).status == 0
    status, out, _ = run("figures", tmp_path / "run", "--text", "abc", "--out", tmp_path)
    assert status == 0
    assert [Path(line).name for line in out.splitlines()] == ["learning-curve.png", "alignment.png"]


def test_without_matplotlib_say_what_is_missing(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    line = run.fails("figures", "g2p", "--out", tmp_path / "out")
    assert line == "npattn: drawing needs matplotlib: pip install npattn[figures]"
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_run_is_named(run: Cli, tmp_path: Path) -> None:
    assert "expected the folder of a run" in run.fails("figures", tmp_path)
