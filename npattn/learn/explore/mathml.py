"""Formulas of docstrings as MathML, which browsers show without a library."""

from __future__ import annotations

import html
import re

#: A letter or word, with an accent; it ends before a power.
NAME = r"(?:(?![ᵀ²])[^\W\d_])(?:(?![ᵀ²])[^\W_])*[\u0300-\u036f]?"

#: A name with its index and power, or a number, each perhaps under a root; else a sign.
INDEX = r"_(?:(?P<index>\w+?)|\{(?P<indices>[^}]*)\})"
ATOM = rf"(?:(?P<name>{NAME})(?:{INDEX})?|(?P<number>\d+))(?P<power>[ᵀ²])?(?!\w)"
TOKEN = re.compile(rf"(?P<root>√)?{ATOM}|(?P<sign>[+−]=|\S)(?P<above>[ᵀ²])?")
POWERS = {"ᵀ": "<mi>T</mi>", "²": "<mn>2</mn>"}
TIMES = "<mo>\u2062</mo>"


def mathml(formula: str) -> str:
    """Return a formula as MathML; an empty text for an empty formula.

    >>> mathml("K = X W_K").replace(TIMES, " ")
    '<math><mi>K</mi><mo>=</mo><mi>X</mi> <msub><mi>W</mi><mi>K</mi></msub></math>'
    """
    parts, was_atom = list[str](), False
    for token in TOKEN.finditer(formula):
        is_atom = token["sign"] is None
        parts += [TIMES] * (is_atom and was_atom)
        parts.append(atom(token) if is_atom else raised(f"<mo>{html.escape(token['sign'])}</mo>", token["above"]))
        was_atom = is_atom
    return f"<math>{''.join(parts)}</math>" if parts else ""


def atom(token: re.Match[str]) -> str:
    """Return a number, or a letter with its index and its power."""
    index = token["index"] or token["indices"]
    below = f"<mi>{html.escape(index.replace('_', ' '))}</mi>" if index else ""
    letter = f"<mn>{token['number']}</mn>" if token["number"] else f"<mi>{token['name']}</mi>"
    if below and token["power"]:
        found = f"<msubsup>{letter}{below}{POWERS[token['power']]}</msubsup>"
    else:
        found = f"<msub>{letter}{below}</msub>" if below else raised(letter, token["power"])
    return f"<msqrt>{found}</msqrt>" if token["root"] else found


def raised(base: str, power: str | None) -> str:
    return f"<msup>{base}{POWERS[power]}</msup>" if power else base
