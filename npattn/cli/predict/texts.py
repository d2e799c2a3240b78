"""The texts that a model is asked: arguments, or the lines of standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple, TextIO

from npattn.cli.terminal import print_message
from npattn.runs.prediction import check_text


class Text(NamedTuple):
    """A source text, what messages call it, and why it cannot be read: empty if it can."""

    name: str
    source: str
    error: str


def numbered_texts(given: list[str], check: Callable[[str, str], object]) -> Iterator[Text]:
    """Yield the given texts, or the lines of standard input. The error of a text that cannot be read is printed.

    `check` raises it as a ValueError; it gets each text with its name.
    """
    if is_typed(given):
        print_message("type one text on each line; Ctrl-D ends the input")
    name = "text" if given else "standard input, line"
    for number, source in enumerate(given or read_lines(sys.stdin), 1):
        text = Text(f"{name} {number}", source, "")
        try:
            check_text(source, text.name)
            if source.strip():
                check(source, text.name)
        except ValueError as error:
            text = text._replace(error=str(error))
            print_message(text.error)
        yield text


def is_typed(given: list[str]) -> bool:
    """Whether the texts come from a keyboard."""
    return not given and sys.stdin.isatty()


def read_lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a stream."""
    for line in stream:
        yield line.rstrip("\r\n")
