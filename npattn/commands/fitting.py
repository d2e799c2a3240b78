"""Fit docstrings and source, written for 120 columns, into the 80 of a terminal, without losing their alignment."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from npattn.commands.console import WIDTH

#: Comments beside code start here, or right after longer code.
COMMENTS = 40

#: … and those beside an example's lines here.
EXAMPLE = 20


def fit_text(text: str, columns: int = WIDTH) -> list[str]:
    """Fill paragraphs, and break formulas, tables and examples where they leave room for it.

    >>> print("\\n".join(fit_text("For one row:\\n\\n    y = a x + b    dx = a dy,  da = x dy", 39)))
    For one row:
    <BLANKLINE>
        y = a x + b    dx = a dy,
                       da = x dy
    """
    lines: list[str] = []
    for block in text.split("\n\n"):
        lines += [""] * bool(lines) + list(_fit_block(block.strip("\n").splitlines(), columns))
    return lines


def fit_code(code: str, columns: int = WIDTH) -> list[str]:
    """Break lines that are too long, and set the comments beside the code, below one another.

    >>> print("\\n".join(fit_code("    y = x @ W                                           # (N, D)", 60)))
        y = x @ W                           # (N, D)
    """
    return [part for line in code.splitlines() for part in _fit_line(line, columns)]


def _fit_block(block: list[str], columns: int) -> Iterator[str]:
    if block and block[0].startswith(">>>"):
        for line in block:
            is_code = line.startswith((">>>", "..."))
            yield from _fit_line(line, columns, EXAMPLE) if is_code else _wrap(line, columns, "")
    elif all(line.startswith("    ") for line in block):
        for line in block:
            yield from fit_formula(line, columns)
    elif any(re.match(r"[|=]|- ", line) for line in block):
        for line in block:
            yield from _wrap(line, columns, "  ")
    else:
        paragraph = [line for line in block if not line.startswith("    ")]
        yield from textwrap.wrap(" ".join(paragraph), columns, break_long_words=False, break_on_hyphens=False)
        for line in block[len(paragraph) :]:
            yield from fit_formula(line, columns)


def fit_formula(line: str, columns: int) -> list[str]:
    """Break a line of columns, which three spaces or more set apart, so that what follows stays below the second.

    A column that is too long itself is broken between its formulas, which two spaces set apart, and then its words.
    """
    if len(line) <= columns:
        return [line]
    first, *others = [(match.start(), match[0]) for match in re.finditer(r"\S+(?: {1,2}\S+)*", line)]
    below = first[0] if first[0] > 8 or not others else others[0][0]
    below = min(below, columns // 2)
    lines = [" " * first[0] + part for part in _fit_cell(first[1], columns - first[0])]
    for start, cell in others:
        if len(lines) == 1 and start + len(cell) <= columns:
            lines[0] = lines[0].ljust(start) + cell
            continue
        parts = _fit_cell(cell, columns - below)
        if len(lines) == 1 and len(lines[0]) < below:
            lines[0] = lines[0].ljust(below) + parts.pop(0)
        lines += [" " * below + part for part in parts]
    return lines


def _fit_cell(cell: str, columns: int) -> list[str]:
    parts = [""]
    for formula in cell.split("  "):
        joined = f"{parts[-1]}  {formula}" if parts[-1] else formula
        parts[-1:] = [joined] if len(joined) <= columns else [*filter(None, parts[-1:]), formula]
    return [line for part in parts for line in _wrap(part, columns, "    ")]


def _fit_line(line: str, columns: int, comments: int = COMMENTS) -> list[str]:
    """Fit one line of code, with its comment from column `comments` on."""
    code, mark, comment = line.partition("  # ")
    code = code.rstrip()
    if not mark or not code:
        return _wrap(line, columns, _indent(line) + "        ")
    if len(code) > comments and len(f"{code}  # {comment}") > columns:
        above = _wrap(f"{_indent(code)}# {comment}", columns, f"{_indent(code)}# ")
        return [*above, *_wrap(code, columns, _indent(code) + "        ")]
    start = f"{code}  ".ljust(comments)
    beside = textwrap.wrap(comment, max(columns - len(start) - 2, 20), break_on_hyphens=False)
    return [f"{start}# {beside[0]}", *(f"{' ' * len(start)}# {part}" for part in beside[1:])]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _wrap(line: str, columns: int, indent: str) -> list[str]:
    """Break a line between words, keeping the spaces inside it; what follows is indented."""
    if len(line) <= columns:
        return [line]
    start = _indent(line)
    parts = textwrap.wrap(
        line.strip(), columns - len(start), subsequent_indent=" " * max(len(indent) - len(start), 0),
        break_long_words=False, break_on_hyphens=False, drop_whitespace=True,
    )  # fmt: skip
    if indent.endswith("# "):
        parts = [parts[0], *(part.replace("  ", "# ", 1) if i else part for i, part in enumerate(parts[1:]))]
    return [start + part for part in parts]
