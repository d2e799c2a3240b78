"""Labels use a font that has their letters. One warning lists the letters that no font has."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from npattn import plot
from npattn.cli.terminal import save_picture
from npattn.plot import fonts

matplotlib = pytest.importorskip("matplotlib")
from matplotlib import font_manager  # noqa: E402

#: Letters that DejaVu Sans lacks; STIXGeneral, which also comes with matplotlib, has them.
CIRCLED = "ⒶⒷ"


@pytest.fixture(autouse=True)
def only_matplotlibs_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide all installed fonts except those that come with matplotlib, so that every machine has the same."""
    own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)


def drawn() -> matplotlib.axes.Axes:
    return plot.attention_map(np.eye(2), list(CIRCLED), list(CIRCLED))


def test_fonts_that_are_not_installed_are_left_out() -> None:
    assert fonts.families() == ["sans-serif"]


def test_installed_fonts_with_chinese_letters_follow_in_order_of_preference(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*reversed(fonts.CHINESE), "Comic Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [SimpleNamespace(name=name) for name in names])
    assert fonts.families() == ["sans-serif", *fonts.CHINESE]


def test_letters_come_from_the_font_that_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fonts, "CHINESE", ("no such font", "STIXGeneral"))
    plot.save(drawn(), tmp_path / "circled.png", dpi=40)      # a warning would fail the test


@pytest.mark.parametrize("colours", [None, 8])
def test_one_warning_lists_the_missing_letters(tmp_path: Path, colours: int | None) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plot.save(drawn(), tmp_path / "boxes.png", dpi=40, colours=colours)
    (warning,) = caught
    assert str(warning.message) == (
        "no installed font has Ⓐ Ⓑ, drawn as boxes: install one that has, such as Noto Sans CJK"
    )
    assert warning.category is UserWarning and warning.filename == __file__
    assert (tmp_path / "boxes.png").exists()


def test_other_warnings_are_kept() -> None:
    with pytest.warns(RuntimeWarning, match="another"), fonts.one_warning_for_missing_letters():
        warnings.warn("another", RuntimeWarning, stacklevel=1)


def test_the_command_line_prints_the_warning_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_picture(drawn(), tmp_path / "boxes.png")
    error = capsys.readouterr().err
    assert error.startswith(f"npattn: {tmp_path / 'boxes.png'}: no installed font has Ⓐ Ⓑ") and error.count("\n") == 1
