"""Labels get the fonts that their letters need, and who has none installed is told so, once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import plot
from npattn.commands.pictures import save_picture
from npattn.plot import fonts

matplotlib = pytest.importorskip("matplotlib")
from matplotlib import font_manager  # noqa: E402

#: Letters that DejaVu Sans lacks; STIXGeneral, which also comes with matplotlib, has them.
CIRCLED = "ⒶⒷ"


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make some of matplotlib's own families the only ones on this machine."""

    def restrict(*names: str) -> None:
        own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname and font.name in names]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
        forget()

    def forget() -> None:
        font_manager.fontManager._findfont_cached.cache_clear()
        fonts._glyphs_of.cache_clear()

    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    yield restrict
    monkeypatch.undo()
    forget()


def drawn(labels: str) -> Any:
    return plot.attention_map(np.eye(len(labels)), list(labels), list(labels))


def test_matplotlibs_own_font_does_where_it_has_all_letters() -> None:
    assert fonts.families(["e", "é", "√D_Q", " \n\x07"]) == ["sans-serif"]


def test_letters_it_lacks_come_from_another_font(only: Callable[..., None], tmp_path: Path) -> None:
    only("DejaVu Sans", "STIXGeneral", "cmsy10")
    assert fonts.families(CIRCLED) == ["sans-serif", "STIXGeneral"]
    ax = drawn(CIRCLED)
    assert fonts.boxes(ax.figure) == ""
    plot.save(ax, tmp_path / "circled.png", dpi=40)           # a warning would be an error


def test_a_font_that_has_a_box_for_everything_does_not_count(only: Callable[..., None]) -> None:
    only("DejaVu Sans", "Last Resort High-Efficiency")
    assert fonts.families("日") == ["sans-serif"]


def test_preferred_fonts_come_first(only: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    only("DejaVu Sans", "DejaVu Sans Mono", "STIXGeneral")
    monkeypatch.setattr(fonts, "PREFERRED", ("PingFang SC", "STIXGeneral"))
    assert fonts.installed() == ["STIXGeneral", "DejaVu Sans", "DejaVu Sans Mono"]


def test_a_font_installed_after_matplotlib_looked_is_found(
    only: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stix = font_manager.findfont("STIXGeneral")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    only("DejaVu Sans")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "broken.ttf"), stix])
    assert fonts.families(CIRCLED) == ["sans-serif", "STIXGeneral"]


def test_boxes_are_told_in_one_warning(only: Callable[..., None], tmp_path: Path) -> None:
    only("DejaVu Sans")
    ax = drawn("a日月")
    plot.title(ax, "日 $D_Q$ 年")                             # a formula: matplotlib sets it in fonts of its own
    assert fonts.boxes(ax.figure) == "日月"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plot.title(ax, "星期")
        plot.save(ax, tmp_path / "boxes.png", dpi=40)
    (warning,) = caught
    assert str(warning.message) == fonts.advice("日星月期") and warning.filename == __file__
    assert (tmp_path / "boxes.png").stat().st_size > 0


def test_advice_is_short_and_fits_the_letters() -> None:
    assert fonts.advice("ሀ").startswith("no installed font has ሀ, drawn as boxes: ")
    assert "CJK" in fonts.advice("日") and "CJK" not in fonts.advice("ሀ")
    assert "日 …" not in fonts.advice("日" * 10) and "日 …" in fonts.advice("日" * 11)


def test_the_command_line_says_it_in_one_line(
    only: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only("DejaVu Sans")
    path = tmp_path / "boxes.svg"
    save_picture(drawn("日b"), path)
    assert capsys.readouterr() == ("", f"npattn: {path}: {fonts.advice('日')}\n")
    save_picture(drawn("ab"), tmp_path / "letters.png", colours=4)
    assert capsys.readouterr() == ("", "")
