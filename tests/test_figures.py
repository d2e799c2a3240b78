"""`npattn figures`: every script of the book draws, in both themes, and a run of one's own is drawn too."""

from __future__ import annotations

import configparser
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from command_line import TINY, Cli, write_pairs
from npattn import plot
from npattn.commands import figures
from npattn.models import load_model

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for path in (ROOT / "figures").glob("*.py") if not path.stem.startswith("_"))

#: What takes longest is drawn in one theme, or on smaller samples.
QUICK = {"why_scale": {"SAMPLES": 200, "PAIRS": 50, "DRAWS": 5}, "gradient_check": {"DIRECTIONS": 3}}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_every_script_draws_at_the_width_of_the_readme(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = figures.load(script)
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


def test_the_pictures_that_are_named_are_drawn_in_both_themes(run: Cli, tmp_path: Path) -> None:
    status, out, err = run("figures", "training", "--out", tmp_path / "new" / "folder")
    assert (status, err) == (0, "")
    assert [Path(line).name for line in out.splitlines()] == ["training-light.png", "training-dark.png"]
    assert all(Path(line).read_bytes().startswith(b"\x89PNG") for line in out.splitlines())


def test_without_names_all_are_drawn(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Script(NamedTuple):
        path: Path

        def draw(self, theme: plot.Theme) -> Any:
            return theme

    monkeypatch.setattr(figures, "load", Script)
    monkeypatch.setattr(plot, "save", lambda ax, path, **options: None)
    _, out, _ = run("figures", "--out", tmp_path)
    wanted = [f"{script.stem.replace('_', '-')}-{theme}.png" for script in SCRIPTS for theme in ("light", "dark")]
    assert [Path(line).name for line in out.splitlines()] == wanted


def test_a_run_of_ones_own_is_drawn(run: Cli, tmp_path: Path) -> None:
    assert run("train", write_pairs(tmp_path), "--run", tmp_path / "run", *TINY).status == 0
    status, out, _ = run("figures", "--run", tmp_path / "run", "--text", "abc", "--out", tmp_path)
    assert status == 0
    assert [Path(line).name for line in out.splitlines()] == ["learning-curve.png", "alignment.png"]


def test_wrong_requests_are_named(run: Cli, tmp_path: Path) -> None:
    assert "why-scal: no picture of the book; did you mean why-scale?" in run.fails("figures", "why-scal", status=2)
    assert "--text needs --run" in run.fails("figures", "--text", "abc", status=2)
    assert "expected --run or pictures" in run.fails("figures", "ladder", "--run", tmp_path, status=2)


def test_without_matplotlib_say_what_is_missing(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    line = run.fails("figures", "--out", tmp_path / "out")
    assert line == "npattn: drawing needs matplotlib: pip install npattn[figures]"
    assert not (tmp_path / "out").exists()


def test_an_installation_finds_the_scripts_by_its_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert setup["options.data_files"]["share/npattn/figures"] == "figures/*.py"
    shutil.copytree(ROOT / "figures", tmp_path / "share/npattn/figures")

    class File(metadata.PackagePath):
        def locate(self) -> Path:
            return tmp_path / re.sub(r"^(\.\./)+", "", self.as_posix())

    listed = [File("npattn/plot/__init__.py"), File("../../../share/npattn/figures/ladder.py")]
    monkeypatch.setattr(metadata, "files", lambda name: listed)
    assert figures.installed() == [tmp_path / "share/npattn/figures/ladder.py"]
    monkeypatch.setattr(figures.npattn, "__file__", str(tmp_path / "lib/npattn/__init__.py"))
    assert list(figures.scripts()) == ["ladder"]
    monkeypatch.setattr(metadata, "files", lambda name: None)
    with pytest.raises(FileNotFoundError, match="figures"):
        figures.scripts()
