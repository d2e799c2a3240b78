"""Fonts for labels with letters that matplotlib's own font does not have, such as Chinese."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

#: Fonts with Chinese letters of Linux, macOS and Windows. From Noto's collection, matplotlib before 3.11 reads only the
#: first font, the Japanese one.
CHINESE = (
    "Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Zen Hei", "PingFang SC", "Heiti SC", "Microsoft YaHei", "SimHei",
    "Noto Sans CJK JP",
)  # fmt: skip


def families() -> list[str]:
    """Return the font families for labels: those of matplotlib's settings, then installed ones with Chinese letters."""
    from matplotlib.font_manager import FontProperties, fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [*FontProperties().get_family(), *(name for name in CHINESE if name in installed)]


@contextmanager
def one_warning_for_missing_letters() -> Iterator[None]:
    """Replace matplotlib's warnings, one for each letter that no font has, by one warning that lists these letters."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    missing = ""
    for warning in caught:
        found = re.match(r"Glyph (\d+) .*missing from", str(warning.message))
        if found:
            missing += chr(int(found[1]))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if missing:
        letters = " ".join(dict.fromkeys(missing))
        text = f"no installed font has {letters}, drawn as boxes: install one that has, such as Noto Sans CJK"
        warnings.warn(text, stacklevel=4)
