"""Plain text of 80 columns for people: styles where they are welcome, a live line where it can be overwritten."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TextIO

WIDTH = 80

#: ANSI's codes for the few styles in use.
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}


class Console:
    """Writes to standard output, or to `stream`.

    Styles appear on a terminal alone, and not when the variable NO_COLOR is set (https://no-color.org) or TERM is dumb.
    `live` shows a line that the next one overwrites; it is silent unless the stream is a terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream if stream is not None else sys.stdout
        self.is_terminal = self.stream.isatty()
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self.has_styles = self.is_terminal and not plain
        self._live = ""

    def line(self, text: str = "") -> None:
        """Write a line."""
        self._erase()
        self.stream.write(text.rstrip() + "\n")
        self.stream.flush()

    def lines(self, lines: Iterable[str]) -> None:
        """Write several lines."""
        for text in lines:
            self.line(text)

    def heading(self, text: str) -> None:
        """Write a title with a rule below, an empty line before and after."""
        self.lines(("", self.style(text, "bold"), "─" * width(text), ""))

    def paragraph(self, text: str, indent: str = "") -> None:
        """Write a text, filled to the width."""
        self.lines(textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent))

    def live(self, text: str) -> None:
        """Show a line until something else is written."""
        if self.is_terminal:
            columns = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH) - 1
            padding = " " * max(0, width(self._live) - width(text))
            self._live = text[:columns]
            self.stream.write("\r" + self._live + padding)   # in one go, which does not flicker
            self.stream.flush()

    def style(self, text: str, *names: str) -> str:
        """Return the text in styles, where there are styles."""
        if not self.has_styles:
            return text
        return f"\033[{';'.join(STYLES[name] for name in names)}m{text}\033[0m"

    def _erase(self) -> None:
        if self._live:
            self.stream.write("\r" + " " * width(self._live) + "\r")
            self._live = ""


def width(text: str) -> int:
    """Count the columns that a text takes: East Asian wide characters take two, combining marks none.

    >>> width("7月"), width("é"), width("e\u0301")
    (3, 1, 1)
    """
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def visible(text: str) -> str:
    """Write what cannot be printed as Python does, since a terminal may take it for an order.

    >>> print(visible("attention \x1b[31m\x07"))
    attention \\x1b[31m\\x07
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def left(text: str, columns: int) -> str:
    """Fill a text up with spaces on its right."""
    return text + " " * (columns - width(text))


def shortened(text: str, columns: int) -> str:
    """Cut a text that is too wide, and show that it was cut.

    >>> shortened("attention", 6), shortened("七月二十八日", 6)
    ('atten…', '七月…')
    """
    if width(text) <= columns:
        return text
    while width(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def duration(seconds: float) -> str:
    """Write a time as minutes and seconds, or hours, minutes and seconds.

    >>> duration(62.4), duration(3725)
    ('1:02', '1:02:05')
    """
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def bar(share: float, columns: int = 10) -> str:
    """Draw a share from 0 to 1 as a bar of eighths.

    >>> bar(0.5, 4), bar(0.3, 4)
    ('██  ', '█▎  ')
    """
    full, eighths = divmod(round(min(max(share, 0.0), 1.0) * columns * 8), 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[eighths] * (eighths > 0)).ljust(columns)


def percent(share: float, decimals: int = 1) -> str:
    """Write a share as a percentage.

    >>> percent(0.302)
    '30.2 %'
    """
    return f"{100 * share:.{decimals}f} %"


def fields(pairs: Sequence[tuple[str, str]], indent: str = "  ") -> list[str]:
    """Set names and their texts in two columns, the texts filled to the width.

    >>> fields([("data", "40,000 pairs"), ("model", "203,000 parameters")])
    ['  data   40,000 pairs', '  model  203,000 parameters']
    """
    columns = max(width(name) for name, _ in pairs) + 2
    lines = []
    for name, text in pairs:
        first = indent + left(name, columns)
        lines += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * width(first))
    return lines
