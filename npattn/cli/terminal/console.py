"""Plain text of at most 80 columns: styles and a line that is overwritten, where the terminal can show them."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TextIO

WIDTH = 80

#: ANSI's codes of the styles.
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}

#: What a stream that lacks a letter gets instead: shades, bars and signs, each of one column.
STAND_INS = dict(zip("░▒▓█▁▂▃▄▅▆▇▏▎▍▌▋▊▉─−–…·×→“”", ".:*#..::**#    ----...x>\"\"", strict=False))


class Console:
    """Writes to standard output, or to `stream`.

    A terminal gets styles, unless the variable NO_COLOR is set (https://no-color.org) or TERM is dumb; a file or a pipe
    gets none. `live` shows a line that the next line overwrites, on a terminal only. Letters that the encoding of the
    stream lacks become stand-ins or ?, and `missing` lists the latter. `data` never replaces a letter.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream if stream is not None else sys.stdout
        self.is_terminal = self.stream.isatty()
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self.has_styles = self.is_terminal and not plain
        self.missing: dict[str, None] = {}
        self._live = ""

    def data(self, text: str, end: str = "\n") -> None:
        """Write a line of results. Raises a ValueError if the encoding of the stream lacks one of its letters."""
        encoding = self.stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError as error:
            letter = error.object[error.start]
            raise ValueError(
                f"standard output: expected an encoding that has {letter!r}, got {encoding}; files and pipes get UTF-8"
            ) from None
        self.stream.write(text + end)
        self.stream.flush()

    def line(self, text: str = "") -> None:
        """Write a line."""
        if self._live:
            self.stream.write("\r" + " " * width(self._live) + "\r")
            self._live = ""
        self.stream.write(self._in_encoding(text.rstrip()) + "\n")
        self.stream.flush()

    def lines(self, lines: Iterable[str]) -> None:
        """Write several lines."""
        for text in lines:
            self.line(text)

    def heading(self, text: str) -> None:
        """Write a title with a rule below, an empty line before and after."""
        self.lines(("", self.style(text, "bold"), "─" * width(text), ""))

    def paragraph(self, text: str) -> None:
        """Write a text, wrapped to the width."""
        self.lines(textwrap.wrap(text, WIDTH))

    def live(self, text: str) -> None:
        """Show a line that the next one overwrites."""
        if self.is_terminal:
            columns = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH) - 1
            padding = " " * max(0, width(self._live) - width(text))
            self._live = self._in_encoding(text[:columns])
            self.stream.write("\r" + self._live + padding)    # a single write does not flicker
            self.stream.flush()

    def style(self, text: str, *names: str) -> str:
        """Return the text in these styles; unchanged where styles are not shown."""
        if not self.has_styles:
            return text
        return f"\033[{';'.join(STYLES[name] for name in names)}m{text}\033[0m"

    def _in_encoding(self, text: str) -> str:
        """Return the text with stand-ins for the letters that the encoding lacks; the stream treats bytes of a path."""
        encoding = self.stream.encoding or "utf-8"
        lacking = {c for c in set(text) if not c.encode(encoding, "ignore") and not "\udc80" <= c <= "\udcff"}
        self.missing |= dict.fromkeys(c for c in text if c in lacking and c not in STAND_INS)
        return "".join(STAND_INS.get(c, "?") if c in lacking else c for c in text)


def width(text: str) -> int:
    """Count the columns of a text: East Asian wide characters have two, combining marks none.

    >>> width("7月"), width("é"), width("e\u0301")
    (3, 1, 1)
    """
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def printable(text: str, kept: str = "") -> str:
    """Escape unprintable characters as Python does, but those in `kept`; a terminal could take them for control codes.

    >>> print(printable("attention \x1b[31m\x07"))
    attention \\x1b[31m\\x07
    """
    return "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in text)


def pad_right(text: str, columns: int) -> str:
    """Pad a text with spaces on its right."""
    return text + " " * (columns - width(text))


def shortened(text: str, columns: int) -> str:
    """Cut a text that is too wide, and mark the cut.

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


def counted(n: int, what: str) -> str:
    """Return a number of things: 1 step, 2 steps."""
    return f"{n:,} {what}{'s' * (n != 1)}"


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


def two_columns(pairs: Sequence[tuple[str, str]], indent: str = "  ") -> list[str]:
    """Set names and texts in two columns; long texts are wrapped in the second column.

    >>> two_columns([("data", "40,000 pairs"), ("model", "203,000 parameters")])
    ['  data   40,000 pairs', '  model  203,000 parameters']
    """
    columns = max(width(name) for name, _ in pairs) + 2
    lines = []
    for name, text in pairs:
        first = indent + pad_right(name, columns)
        lines += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * width(first))
    return lines
