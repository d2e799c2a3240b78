r"""From the formulas of docstrings and pages to LaTeX: `dE = A ⊙ (dA − rowsum(A ⊙ dA))` becomes `dE = A \odot …`.

A text is cut into tokens. Neighbouring tokens that a formula is made of are a run, and a run that holds a symbol is a
formula. So formulas are found in the middle of a sentence too, where nothing marks them.

>>> prose_in_latex("Each row of A sums to 1, so dE_ik = A_ik (dA_ik − Σ_j A_ij dA_ij).")
'Each row of $A$ sums to 1, so $dE_{ik} = A_{ik} (dA_{ik} - \\sum_{j} A_{ij}\\, dA_{ij})$.'
>>> prose_in_latex("A score `E` is a number: K_pastᵀ and 1/√D_Q.")
'A score `E` is a number: $K_{\\mathrm{past}}^{\\top}$ and $1/\\sqrt{D_{Q}}$.'
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

#: Letters and signs, and what LaTeX calls them.
SIGNS = {
    "−": "-", "·": r"\cdot", "⊙": r"\odot", "×": r"\times", "√": r"\sqrt", "Σ": r"\sum", "∂": r"\partial",
    "←": r"\leftarrow", "→": r"\to", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "∞": r"\infty",
    "∈": r"\in", "<": r"\lt", ">": r"\gt", "|": r"\vert", "…": r"\ldots", "⌊": r"\lfloor", "⌋": r"\rfloor",
    "±": r"\pm", "‖": r"\Vert", "⟨": r"\langle", "⟩": r"\rangle", "ℓ": r"\ell", "{": r"\{", "}": r"\}",
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon", "η": r"\eta", "θ": r"\theta",
    "λ": r"\lambda", "μ": r"\mu", "π": r"\pi", "σ": r"\sigma", "φ": r"\varphi", "Φ": r"\Phi",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅜": r"\frac{3}{8}",
}  # fmt: skip
FRACTIONS = "½⅓¼¾⅜"
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵗ", "0123456789-t", strict=True)) | {"ᵀ": r"\top"}
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉ᵢ", "0123456789i", strict=True))
ACCENTS = {"\u0302": r"\hat", "\u0303": r"\tilde"}

#: Functions that LaTeX knows, and those before an argument without brackets.
KNOWN = ("exp", "log", "ln", "sin", "cos", "tanh", "max", "min", "lim")
FUNCTIONS = (*KNOWN, "lse", "Im")
#: Variables of several letters. They belong to a formula where an operator is beside them.
NAMES = ("logits", "dlogits", "bias", "dbias", "sinks", "dsinks", "ids", "src", "tgt", "base", "lr", "offset")
#: Subscripts that are words.
WORDS = ("past", "chosen", "last")

GREEK = "".join(sign for sign in SIGNS if sign.isalpha() and sign not in "Σ")
RELATIONS = "=≤≥≠≈∈<>←→"
SUBSCRIPT = rf"(?:_(?:\{{[^}}]*\}}|[A-Za-z0-9]+(?:,[a-z]\b)?|[{GREEK}](?:\([a-z]\))?)|[{''.join(LOWERED)}])+"

TOKEN = re.compile(
    rf"""(?P<space>\s+)
    | (?P<kept>`[^`]*`|!?\[[^\]]*\]\([^)\s]*\)|<[/a-z][^<>]*>|https?://\S+|\*+)
    | (?P<call>(?:en|de)coder\ layers(?=\()|[A-Za-z]+_[a-z]{{4,}}(?=\())
    | (?P<word>arXiv:\S+|[A-Za-z]\w*(?:\.\w+)+|e\.g\.|i\.e\.|[A-Za-z]+="[^"]*"|"[^"]*"|[A-Za-z]+'(?:t|re)\b|do\b
        |[A-Za-z0-9]+(?:[-–/][A-Za-z]{{2,}})+(?:-[A-Za-z]+)*|[A-Za-z]+-\d+\w*|\d-[dD]\b|[A-Za-z]{{2,}}\d\w*|[FvV]\d+
        |[A-Za-z]+(?:_(?!(?:{"|".join(WORDS)})(?![A-Za-z0-9]))[a-z]{{4,}}[A-Za-z0-9_]*)+(?!\())
    | (?P<possessive>'s\b)
    | (?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)
    | (?P<symbol>(?:d(?=[A-Za-z{GREEK}][\u0302\u0303]?(?![A-Za-z])))?(?:[{GREEK}]|[A-Za-z](?![A-Za-z]))[\u0302\u0303]?)
    | (?P<letters>[A-Za-z]+)
    | (?P<sub>{SUBSCRIPT})
    | (?P<raised>[{"".join(RAISED)}]+|'+(?![A-Za-z0-9]))
    | (?P<sign>[-+=/^{re.escape("".join(sign for sign in SIGNS if sign not in GREEK + "{}⌊⌋⟨⟩"))}])
    | (?P<open>[(\[⌊⟨]) | (?P<close>[)\]⌋⟩]) | (?P<comma>[,;])
    | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A piece of a text. `kind` is the name of its group in TOKEN, or `function`, `name` or `word` for letters."""

    kind: str
    text: str


class Piece(NamedTuple):
    """A piece of a text that is one formula, or none."""

    is_formula: bool
    text: str


def tokens(text: str) -> list[Token]:
    """Cut a text into tokens.

    >>> [token.text for token in tokens("dX_ni = mθ_i split(Q)ᵀ") if token.kind != "space"]
    ['dX', '_ni', '=', 'm', 'θ', '_i', 'split', '(', 'Q', ')', 'ᵀ']
    """
    found: list[Token] = []
    for match in TOKEN.finditer(text):
        kind, word = str(match.lastgroup), match[0]
        if kind in ("letters", "call"):
            is_function = kind == "call" or word in FUNCTIONS or re.match(r"'?\(", text[match.end() :])
            kind = "function" if is_function else "name" if word in NAMES else "word"
        if kind in ("sub", "raised") and (not found or found[-1].kind not in ATTACHED):
            kind = "other"
        found.append(Token(kind, word))
    return found


#: What may carry a subscript or a superscript, and what a formula is made of.
ATTACHED = ("symbol", "function", "name", "close", "number", "sub", "raised", "sign")
FACTORS = ("symbol", "name", "number", "sub", "raised")
MATHEMATICS = ("number", "symbol", "function", "name", "sub", "raised", "sign", "open", "close")


def pieces(text: str) -> list[Piece]:
    """Cut a text into formulas and what stands between them."""
    found: list[Piece] = []
    run: list[Token] = []
    depth = 0
    before = ""
    for token in [*tokens(text), Token("end", "")]:
        if token.kind in MATHEMATICS or token.kind == "space" or (token.kind == "comma" and depth > 0):
            depth += (token.kind == "open") - (token.kind == "close")
            run.append(token)
            continue
        if any(each.kind != "space" for each in run):
            found += _formulas(run, token, before.strip()[-1:] in ".:!?*")
        else:
            found += (Piece(False, each.text) for each in run)
        run, depth, before = [], 0, token.text
        found.append(Piece(False, token.text))
    joined: list[Piece] = []
    for piece in found:
        if joined and not piece.is_formula and not joined[-1].is_formula:
            joined[-1] = Piece(False, joined[-1].text + piece.text)
        elif piece.text:
            joined.append(piece)
    return joined


def _formulas(run: Sequence[Token], after: Token, begins: bool) -> Iterator[Piece]:
    """Yield the formulas of a run, which ends at a bracket without partner, and what is left of it."""
    start = 0
    for cut in [*_without_partner(run), len(run)]:
        yield from _trimmed(list(run[start:cut]), after if cut == len(run) else run[cut], begins and not start)
        if cut < len(run):
            yield Piece(False, run[cut].text)
        start = cut + 1


def _without_partner(run: Sequence[Token]) -> list[int]:
    open_, found = [], []
    for place, token in enumerate(run):
        if token.kind == "open":
            open_.append(place)
        elif token.kind == "close" and not (open_ and open_.pop() >= 0):
            found.append(place)
    return found + open_                                      # in order: what is open here was opened last


def _trimmed(run: list[Token], after: Token, begins: bool) -> Iterator[Piece]:
    """Yield a run without what belongs to the sentence at its ends: spaces, an article, a name that is a word there."""
    first, last = 0, len(run)
    while first < last and _is_prose_at_start(run[first:last]):
        first += 1
    while first < last and _is_prose_at_end(run[first:last]):
        last -= 1
    middle = run[first:last]
    text = "".join(token.text for token in middle)
    goes_on = after.kind == "word" and all(token.kind == "space" for token in run[last:])
    is_english = after.text < "\u2e80"                        # Chinese has no article
    is_article = last < len(run) and ((text == "a" and is_english) or (text == "A" and goes_on and begins))
    is_formula = any(token.kind in ("symbol", "function", "sub") for token in middle) and not is_article
    is_formula |= any(token.kind == "sign" and token.text in "√Σ∞" for token in middle)
    is_formula |= any(token.kind == "raised" for token in middle) or _is_equation(middle)
    yield Piece(False, "".join(token.text for token in run[:first]))
    yield Piece(is_formula, text)
    yield Piece(False, "".join(token.text for token in run[last:]))


def _is_equation(run: Sequence[Token]) -> bool:
    return len(run) > 2 and any(token.text in "=+·≤≥≈−" for token in run if token.kind == "sign")


def _is_prose_at_start(run: Sequence[Token]) -> bool:
    token, *rest = run
    following = next((other for other in rest if other.kind != "space"), None)
    spaced = bool(rest) and rest[0].kind == "space"
    if token.text == "a":
        return spaced and following is not None and following.kind not in ("sign", "raised", "comma")
    if token.kind == "function":
        return following is None or (spaced and following.kind not in ("sign", "symbol", "number", "name"))
    if token.kind == "name":
        return following is None or (spaced and following.kind != "sign")
    return token.kind in ("space", "comma") or (token.kind == "sign" and token.text in "/=→←<>+")


def _is_prose_at_end(run: Sequence[Token]) -> bool:
    token, before = run[-1], run[-2] if len(run) > 1 else None
    if token.kind == "name":                                  # a word, unless an operator stands before it
        earlier = next((other for other in reversed(run[:-1]) if other.kind != "space"), None)
        return earlier is None or earlier.kind not in ("sign", "raised", "function")
    if token.text == "a" and before is not None and before.kind == "space":
        earlier = next((other for other in reversed(run[:-1]) if other.kind != "space"), None)
        return earlier is None or earlier.kind != "sign"
    return token.kind in ("space", "comma") or (token.kind == "sign" and token.text not in "…∞|" + FRACTIONS)


def formula_in_latex(text: str) -> str:
    r"""Return a formula in LaTeX.

    >>> formula_in_latex("q̂_t = q_t/√(|q_t|² + ε)")
    '\\hat{q}_{t} = q_{t}/\\sqrt{\\vert q_{t}\\vert^{2} + \\varepsilon}'
    >>> formula_in_latex("P[n, 2i] = sin(n / 10000^(2i/D))")
    'P[n, 2i] = \\sin(n / 10000^{2i/D})'
    """
    return _spaced(_latex(tokens(text)))


def _spaced(parts: Sequence[str]) -> str:
    """Join pieces of LaTeX, with a space between a command and a letter that follows it."""
    text = ""
    for part in parts:
        text += " " * bool(re.search(r"\\[A-Za-z]+$", text) and part[:1].isalpha()) + part
    return text


def _latex(found: list[Token]) -> list[str]:
    """Return the pieces of LaTeX for the tokens of a formula."""
    parts: list[str] = []
    place = 0
    while place < len(found):
        kind, text = found[place]
        place += 1
        if text in ("√", "^"):
            content, place = _argument(found, place)
            parts.append((r"\sqrt" if text == "√" else "^") + f"{{{_spaced(_latex(content))}}}")
        elif kind == "symbol":
            is_gradient = len(text.rstrip("\u0302\u0303")) == 2
            letter = SIGNS.get(text[is_gradient], text[is_gradient])
            accent = ACCENTS.get(text[-1], "")
            parts.append(_spaced(["d" * is_gradient, f"{accent}{{{letter}}}" if accent else letter]))
        elif kind == "function":
            name = text.replace("_", r"\_").replace(" ", r"\ ")
            parts.append(f"\\{text}" if text in KNOWN else rf"\operatorname{{{name}}}")
        elif kind in ("name", "word"):
            parts.append(rf"\mathrm{{{text}}}")
        elif kind == "sub":
            parts.append(_subscript(text))
        elif kind == "raised":
            parts.append(text if text[0] == "'" else f"^{{{''.join(RAISED[sign] for sign in text)}}}")
        elif kind == "number" and "e" in text:
            number = r"{} \cdot 10^{{{}}}".format(*text.split("e")).removeprefix(r"1 \cdot ")
            parts.append(f"{{{number}}}" if place < len(found) and found[place].kind == "raised" else number)
        elif kind == "space":
            parts.append(r"\, " if _is_product(found[: place - 1], found[place]) else " ")
        elif text in ("+", "−") and place < len(found) and found[place].text == "=":
            parts.append(rf"\mathrel{{{SIGNS.get(text, text)}}}")
        elif text in FRACTIONS and place < len(found) and found[place].kind == "raised":
            parts.append(f"({SIGNS[text]})")                  # all of it is raised
        else:
            parts.append(SIGNS.get(text, text))
    return parts


def _is_product(before: Sequence[Token], after: Token) -> bool:
    """Whether a space stands between two factors, where a thin space is set. `\\sum_n x` has its own."""
    is_sum = len(before) > 1 and before[-1].kind == "sub" and before[-2].text in ("Σ", "max", "lim")
    return before[-1].kind in (*FACTORS, "close") and not is_sum and (after.kind in FACTORS or after.text in ("∂", "√"))


def _argument(found: list[Token], start: int) -> tuple[list[Token], int]:
    """Return the tokens under a root or in an exponent, without brackets around them, and the place after them."""
    if start < len(found) and found[start].kind == "open":
        depth = 0
        for end in range(start, len(found)):
            depth += (found[end].kind == "open") - (found[end].kind == "close")
            if depth == 0:
                return found[start + 1 : end], end + 1
    end = start + 1
    while end < len(found) and found[end].kind in ("sub", "raised"):
        end += 1
    if found[start:] and found[start].text == "Σ":            # the sum has a summand behind a space
        end = _argument(found, end + 1)[1]
    return found[start:end], end


def _subscript(text: str) -> str:
    """Return subscripts in LaTeX: of `_R_past`, `_{n−C+1}` and `₁`, all in one pair of braces."""
    if text[0] in LOWERED:
        return f"_{{{''.join(LOWERED[sign] for sign in text)}}}"
    if text[1] == "{":
        return f"_{{{formula_in_latex(text[2:-1])}}}".replace(r"\mathrm{in}", r"\ \mathrm{in}\ ")
    parts = [rf"\mathrm{{{part}}}" if part in WORDS else part for part in text[1:].split("_")]
    return f"_{{{','.join(part if part.isascii() else formula_in_latex(part) for part in parts)}}}"


def prose_in_latex(text: str) -> str:
    """Return a text with its formulas in LaTeX, between dollar signs; code and links stay as they are."""
    return "".join(f"${formula_in_latex(p.text)}$" if p.is_formula else _escaped(p.text) for p in pieces(text))


def _escaped(text: str) -> str:
    return re.sub(r"<(?=\w+>)(?!/?(?:a|details|summary)\b)", r"\\<", text)


def blocks_in_latex(text: str) -> str:
    """Return the prose and the formulas of a page or a docstring as Markdown with LaTeX; no code is in it.

    An indented block is one of formulas: it becomes a table if there are words in it, else one display.
    """
    return "\n\n".join(map(_block, re.split(r"\n\s*\n", text.strip("\n"))))


def _block(block: str) -> str:
    if not block.startswith("    "):
        joined = re.sub(r"\n(?!- |\d+\. |\||#)\s*", " ", block)
        parts = re.findall(r"^(- |\d+\. |#+ |)(.*)$", joined, re.MULTILINE)
        return "\n".join(mark + prose_in_latex(line) for mark, line in parts)
    rows = _columns(block.split("\n"))
    return _table(rows) if any(_has_words(cell) for row in rows for cell in row) else _display(rows)


def _has_words(cell: str) -> bool:
    return any(re.search(r"[^\W\d_]", re.sub(r"\bF\d+\b", "", p.text)) for p in pieces(cell) if not p.is_formula)


#: Where a column ends: not after a comma or a similar sign, nor beside an equals sign, an arrow or the word "or".
GAP = re.compile(r"(?<=[^\s,;.:=→])(?<!\bor)\s{2,}(?=[^\s=→])(?!or\b)")

#: The number of a line of formulas.
NUMBER = re.compile(r"\(\d+\)")


def _columns(lines: Sequence[str]) -> list[list[str]]:
    """Cut the lines of a block into cells, at wide spaces, and where most lines have a column."""
    starts = [[len(line) - len(line.lstrip()), *(gap.end() for gap in GAP.finditer(line))] for line in lines]
    second = [each[1] for each in starts if len(each) > 1]
    common = max(set(second), key=lambda start: (second.count(start), -start), default=0)
    rows = []
    for line, places in zip(lines, starts, strict=True):
        if common and line[common - 1 : common] == " " and line[common : common + 1].strip() and common not in places:
            goes_on = line[:common].rstrip()[-1:] in ",;.:=→"
            is_column = second.count(common) > 1 and not goes_on
            places = sorted([*places, common]) if is_column else places
        cells = [line[a:b].strip() for a, b in zip(places, [*places[1:], None], strict=True)]
        rows.append([""] * (places[0] > 12 and places[0] >= common > 0) + cells)
    return rows


def _table(rows: Sequence[Sequence[str]]) -> str:
    width = max(map(len, rows))
    head = f"|{' |' * width}\n|{':--|' * width}\n"
    lines = [" | ".join([*map(_table_cell, row), *[""] * (width - len(row))]) for row in rows]
    return head + "\n".join(f"| {line} |" for line in lines)


def _table_cell(cell: str) -> str:
    return prose_in_latex(cell).replace("|", r"\|")           # in a formula it is \vert


def _display(rows: Sequence[Sequence[str]]) -> str:
    width = max(map(len, rows))
    filled = [[*row[:-1], *[""] * (width - len(row)), row[-1]] if NUMBER.fullmatch(row[-1]) else row for row in rows]
    lines = [" && ".join(map(_cell, row)) for row in filled]
    if len(rows) == 1 and len(rows[0]) == 1:
        return f"$$\n{_cell(rows[0][0])}\n$$"
    body = " \\\\\n".join(f"& {line}" for line in lines)
    return f"$$\n\\begin{{aligned}}\n{body}\n\\end{{aligned}}\n$$"


def _cell(cell: str) -> str:
    """Return a cell in LaTeX; a number in brackets at the end of a line, and what is no formula, is text."""
    if NUMBER.fullmatch(cell):
        return rf"\qquad\text{{{cell}}}"
    parts = [formula_in_latex(p.text) if p.is_formula else _text(p.text) for p in pieces(cell)]
    return r"\qquad " * cell.startswith(("=", "→")) + _spaced(parts)


def _text(text: str) -> str:
    wide = re.sub(r"(?<=[,;])\s{2,}", r"\\quad ", text)
    return wide if re.fullmatch(r"[\s,;=]*(?:\\quad )?[\s,;=]*", wide) else rf"\text{{{text}}}"
