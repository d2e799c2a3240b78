"""`npattn explain`: print the derivation of a layer and the code that computes it, both from the source."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from npattn.cli.explain import pages, topics
from npattn.cli.terminal import Console, Parser, UsageError, command_line, two_columns

DESCRIPTION = """\
Prints a page (foundations, autograd, glossary, cheat_sheet, models), or one
section or entry of it. Foundations derives every backward, from what a gradient
is. A term of the glossary that is no topic needs no page before it.
Prints the derivation of a layer, forward and backward, with its code below it:
the docstrings and the source of the package as they stand, up to 122 columns.
At the end stands what the code calls and does not show.
With two topics: what the second one changed, and the lines in which the code
of the two differs, without docstrings.
Without a topic: the list of pages and topics.
"""

EXAMPLES = """\
examples:
  %(prog)s foundations | less
  %(prog)s foundations F9           (foundations#F9 and F9 are the same)
  %(prog)s cotangent
  %(prog)s glossary softmax
  %(prog)s foundations --language zh
  %(prog)s v5
  %(prog)s v4 v5
  %(prog)s transformer
  %(prog)s layer_norm | less
"""

#: Styles of the lines of a difference, by their sign.
STYLES = {"+": "green", "-": "red"}


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "explain", help="print foundations, a derivation, its code", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    parser.add_argument("topics", metavar="TOPIC", nargs="*", help="foundations, v5, softmax … (default: list them)")
    parser.add_argument("--language", choices=["en", "zh", "zh-CN"], default="en", help="of the pages (default: en)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Print a page, explain one topic, compare two topics, or list them all."""
    language = args.language[:2]
    page = find_page(args.topics, language)
    if page is not None:
        show_page(page, console)
        return 0
    if len(args.topics) > 2:
        raise UsageError(f"expected at most two topics, got {len(args.topics)}")
    found = [find(name) for name in args.topics]
    if found and language != "en":
        raise UsageError(f"--language: {' '.join(args.topics)} is in English only; not so {', '.join(pages.PAGES)}")
    if not found:
        list_topics(console, language)
    elif len(found) == 1:
        show(found[0], console)
    else:
        compare(found[0], found[1], console)
    return 0


def find_page(words: list[str], language: str) -> str | None:
    """Return the page or part that the words name, None if they name none. Raises UsageError for an unknown part.

    A term of the glossary may stand alone if it is no topic.
    """
    try:
        page = pages.find(words, language)
    except KeyError as error:
        name, part, known = error.args
        otherwise = f"{command_line('explain', name)} prints all of it"
        reason = ", and a page cannot be compared with a topic" if topics.is_topic(part) else ""
        raise UsageError(f"{part}: not in {name}{reason}; {hint(part, known, otherwise)}") from None
    if page is None and not all(map(topics.is_topic, words)):
        with suppress(KeyError):
            return pages.find(["glossary", *words], language)
    return page


def show_page(text: str, console: Console) -> None:
    """Print a page; on a terminal what Markdown marks as bold and its headings are bold.

    Formulas and Chinese would be worthless with stand-ins for their letters, so it is printed as data.
    """
    if console.has_styles:
        bold = re.compile(r"^#+ ([^\n]*)|\*\*(.+?)\*\*", re.MULTILINE | re.DOTALL)
        blocks = (
            block if block.startswith("    ") else bold.sub(lambda m: console.style(m[1] or m[2], "bold"), block)
            for block in text.split("\n\n")
        )
        text = "\n\n".join(blocks)
    console.data(text.strip("\n"))


def find(name: str) -> topics.Topic:
    """Return the topic of that name. Raises UsageError, which suggests similar names, or says that it is a page."""
    try:
        return topics.find_topic(name)
    except KeyError:
        if find_page([name], "en") is not None:               # then there is a topic beside it
            printed = f"{command_line('explain', name)} prints it"
            raise UsageError(f"{name}: a page or a part of one cannot be compared with a topic; {printed}") from None
        known = [*pages.PAGES, *topics.names()]
        otherwise = f"{command_line('explain')} lists all topics"
        raise UsageError(f"{name}: unknown topic; {hint(name, known, otherwise)}") from None


def hint(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return a question with similar names, or `otherwise` if there are none."""
    similar = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=3)
    return f"did you mean {' or '.join(similar)}?" if similar else otherwise


def list_topics(console: Console, language: str) -> None:
    """Print the pages with their titles, then the name of every topic with the first sentence about it."""
    titles = pages.titles(language)
    rows = [(name, titles[name]) for name in pages.PAGES]
    for name, topic in topics.topics().items():
        title = topics.sections(topic)[0][1].partition("\n\n")[0]
        rows.append((name, " ".join(title.split()).partition(". ")[0].rstrip(".")))
    console.lines(two_columns(rows, indent=""))


def show(topic: topics.Topic, console: Console) -> None:
    """Print the sections of a topic, what its code calls, and the sections of foundations that they refer to.

    Forward and Backward are followed by their code. The code of other functions stands before the example.
    """
    console.line(console.style(topic.module.__name__, "dim"))
    members = iter(topic.members)
    for name, text in topics.sections(topic):
        if name in topics.EXAMPLES:
            show_code(members, console)
        show_section(name, text, console)
        if name == "Forward" and hasattr(topic.module, "SHAPES"):
            show_section("Shapes", str(topic.module.SHAPES), console)
        if name in ("Forward", "Backward"):
            show_code([next(members)], console)
    show_code(members, console)
    if called := topics.called(topic):
        show_section("Called above", "\n".join(two_columns(called, indent="")), console)
    sections = dict.fromkeys(re.findall(r"\bfoundations (F\d+)", topics.docstring_of(topic.module)))
    if sections:
        titles = pages.titles("en")
        show_section("Foundations", "\n".join(f"npattn explain {name}  {titles[name]}" for name in sections), console)


def compare(one: topics.Topic, other: topics.Topic, console: Console) -> None:
    """Print what the second topic says that it changed, and the lines in which the code differs."""
    changed = dict(topics.sections(other)).get("Changed")
    if changed:
        show_section("Changed", changed, console)
        console.line()
    for line in topics.difference(one, other):
        console.line(console.style(line, STYLES[line[0]]) if line[:1] in STYLES else line)


def show_section(name: str, text: str, console: Console) -> None:
    """Print a section below its name."""
    console.lines(("", *([console.style(name, "bold")] if name else []), *text.splitlines()))


def show_code(members: Iterable[Callable[..., Any]], console: Console) -> None:
    """Print the docstring and the code of each function."""
    for member in members:
        console.lines(("", *topics.docstring_of(member).splitlines(), ""))
        for line in topics.code_of(member).splitlines():
            body, mark, comment = line.partition("# ")
            console.line("  " + body + console.style(mark + comment, "dim"))
