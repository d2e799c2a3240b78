"""Fonts for letters that matplotlib's own font lacks, Chinese ones among them.

matplotlib draws an empty box for a letter that none of a text's fonts has. So labels get the fonts that their letters
need, as far as they are installed, and `boxes` tells which letters are left.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Fonts to be taken first where they are installed: the simplified Chinese forms, of Linux, macOS and Windows.
#: Matplotlib before 3.11 knows only the first face of Noto's collection, the Japanese one.
PREFERRED = (
    "Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Zen Hei", "PingFang SC", "Heiti SC", "Microsoft YaHei", "SimHei",
    "Noto Sans CJK JP",
)  # fmt: skip

#: It has a box with the number of its block for every letter there is.
LAST_RESORT = "Last Resort"


def families(texts: Iterable[str]) -> list[str]:
    """Return the font families to draw texts with: those of matplotlib's settings, then what these lack letters of.

    >>> families(["e", "√D_Q"])
    ['sans-serif']
    """
    from matplotlib.font_manager import FontProperties

    chosen = list(FontProperties().get_family())
    lacking = letters(texts) - glyphs(chosen)
    for search in (installed, newly_installed):
        for name in search() if lacking else ():
            if lacking & glyphs([name]):
                chosen.append(name)
                lacking -= glyphs([name])
    return chosen


def boxes(figure: Figure) -> str:
    """Return the letters of a figure's texts that none of their fonts has; formulas have fonts of their own."""
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and "$" not in text.get_text()]
    lacking = (letters([text.get_text()]) - glyphs(text.get_fontfamily()) for text in texts)
    return "".join(map(chr, sorted(set().union(*lacking))))


def advice(lacking: str) -> str:
    """Say in a sentence which letters are drawn as boxes, and what helps.

    >>> advice("日月")
    'no installed font has 日 月, drawn as boxes: install one that has, such as Noto Sans CJK'
    """
    chinese = any(unicodedata.east_asian_width(letter) in "WF" for letter in lacking)
    shown = " ".join(lacking[:10]) + " …" * (len(lacking) > 10)
    font = "Noto Sans CJK" if chinese else "one of the Noto fonts"
    return f"no installed font has {shown}, drawn as boxes: install one that has, such as {font}"


def letters(texts: Iterable[str]) -> set[int]:
    """Return the code points of texts, without spaces and controls."""
    return {ord(letter) for text in texts for letter in text if letter.isprintable() and not letter.isspace()}


def glyphs(names: Sequence[str]) -> set[int]:
    """Return the code points for which one of the families has a glyph; a family that is not installed has none."""
    return set().union(*(_glyphs_of(name) for name in names))


def installed() -> list[str]:
    """Return the families that matplotlib knows, the preferred ones first."""
    from matplotlib.font_manager import fontManager

    known = sorted({font.name for font in fontManager.ttflist})
    return [name for name in PREFERRED if name in known] + [name for name in known if name not in PREFERRED]


def newly_installed() -> list[str]:
    """Return the families that were installed since matplotlib last looked, which are made known to it."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    before = set(installed())
    known = {font.fname for font in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            with contextlib.suppress(OSError, RuntimeError):  # a font that FreeType cannot read
                fontManager.addfont(path)
    _glyphs_of.cache_clear()
    return [name for name in installed() if name not in before]


@cache
def _glyphs_of(name: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(_file_of(name))
    except (ValueError, OSError, RuntimeError):               # not installed, or none that FreeType can read
        return frozenset()
    usable = font.scalable and not name.startswith(LAST_RESORT)
    return frozenset(font.get_charmap()) if usable else frozenset()


def _file_of(name: str) -> str:
    """Return the file of a family, upright and of normal weight as far as there is one; ValueError if it is missing."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    faces = [font for font in fontManager.ttflist if font.name == name]
    if not faces:                                             # a name for several, such as sans-serif
        return findfont(FontProperties(family=[name]), fallback_to_default=False)
    # Not findfont, which logs a line about every family that has no normal weight.
    return min(faces, key=lambda f: (f.style != "normal", fontManager.score_weight("normal", f.weight))).fname
