"""The pages of npattn.learn: foundations, glossary, cheat sheet and others. Each is a file in Markdown.

A section of foundations has the name that its heading begins with, F9; an entry of the glossary is named by its term.

>>> find(["foundations", "F9"], "en").splitlines()[0]
'## F9. The softmax Jacobian'
>>> find(["glossary#kink"], "zh")
'- **kink**（折点）：函数没有导数的地方，例如 relu 在 0 处。F7'
>>> find(["glossary", "kronecker"], "en").splitlines()[0]
"- **Kronecker's delta** (克罗内克 δ): δ_jk is 1 for j = k, else 0. δX, with one"
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from importlib.resources import files

from npattn import learn
from npattn.cli.terminal.console import WIDTH, width

#: The ending of a page's file by language. The cheat sheet has one edition for all.
ENDINGS = {"en": ".md", "zh": ".zh-CN.md"}
PAGES = ("foundations", "autograd", "glossary", "cheat_sheet", "models")

#: The first line of a section or an entry: its name, or else its title.
PART = re.compile(r"^(?:## (?:(F\d+)\. )?|- \*\*)([^*\n]+)", re.MULTILINE)

LINK = re.compile(r"\[([^\]]+)\]\((?:https?:[^)]+|#\w+|[\w./-]+(?:\.md|\.py|/)(?:#\w+)?)\)")
FENCED = re.compile(r"^```\w*\n(.*?)\n*^```$", re.MULTILINE | re.DOTALL)

#: What stays on one line: words joined by operators, or a Chinese character, with the punctuation beside it.
TOKEN = re.compile(r"\s+|[（“]*(?:(?:[^\s\u2e80-\uffef]| [=<>≈≠+−·⊙/] )+|.)[，。；：、）？！”]*")


def find(words: Sequence[str], language: str) -> str | None:
    """Return a page or a part of it, as plain text; None if the words name no page.

    - words: `foundations`, `foundations F9`, `foundations#F9` or `F9`; likewise a term of the glossary, or a piece of
      one term only.
    - language: "en" or "zh".

    Raises KeyError for a part that the page lacks: the page, the part, and the parts that there are.
    """
    page, _, part = " ".join(words).replace("#", " ").lower().partition(" ")
    if re.fullmatch(r"f\d+", page):
        page, part = "foundations", f"{page} {part}".strip()
    page = page.replace("-", "_")
    if page not in PAGES:
        return None
    text = plain(markdown(page, language))
    found = parts(text)
    if not part or part in found:
        return found[part] if part else text
    matches = {body for name, body in found.items() if part in name}
    if len(matches) != 1:
        raise KeyError(page, part, list(found))
    return matches.pop()


def markdown(page: str, language: str) -> str:
    """Return a page as its file has it."""
    ending = ENDINGS["en" if page == "cheat_sheet" else language]
    return files(learn).joinpath("pages", page + ending).read_text(encoding="utf-8")


def plain(text: str) -> str:
    r"""Return Markdown without what is noise in a terminal: anchors, links, and fences of code, which is indented.

    >>> plain("## <a id='f1'></a>F1. [Loss](a.md#b)\n\n```python\nx = f[0](y.z)\n\n```\n\nEnd.")
    '## F1. Loss\n\n    x = f[0](y.z)\n\nEnd.'
    """
    text = LINK.sub(r"\1", re.sub(r"<a id=\S+></a>", "", text)).replace("English | 中文\n\n", "")
    text = FENCED.sub(lambda match: textwrap.indent(match[1], "    "), text)
    return "\n".join(line if line.startswith(("    ", "|")) else wrapped(line) for line in text.split("\n"))


def wrapped(line: str) -> str:
    """Break a long line of prose. Chinese may be broken anywhere, but not before punctuation."""
    lines = [""]
    for token in TOKEN.findall(line):
        if width(lines[-1] + token.rstrip()) > WIDTH:
            lines.append("  " if line.startswith("- ") else "")
            token = token.lstrip()
        lines[-1] += token
    return "\n".join(line.rstrip() for line in lines)


def parts(text: str) -> dict[str, str]:
    """Return the sections or entries of a page by name, in lower case; "PER, WER" are two names of one entry."""
    matches = list(PART.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    return {
        name.lower(): text[match.start() : end].strip()
        for match, end in zip(matches, ends, strict=True)
        for name in (match[1] or match[2]).split(", ")
    }


def titles(language: str) -> dict[str, str]:
    """Return the title of every page and of every section of foundations."""
    found = {page: markdown(page, language).partition("\n")[0].removeprefix("# ") for page in PAGES}
    return found | {match[1]: match[2] for match in PART.finditer(plain(markdown("foundations", language)))}
