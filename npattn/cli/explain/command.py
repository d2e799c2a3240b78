"""`npattn explain`: print the derivation of a layer and the code that computes it, both from the source."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable
from typing import Any

from npattn.cli.explain import topics
from npattn.cli.terminal import Console, Parser, UsageError, command_line, two_columns

DESCRIPTION = """\
Prints the derivation of a layer, forward and backward, with its code below it:
the docstrings and the source of the package as they stand, up to 122 columns.
With two topics: what the second one changed, and the lines in which the code
of the two differs, without docstrings.
Without a topic: the list of topics.
"""

EXAMPLES = """\
examples:
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
        "explain", help="print a derivation and its code", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    parser.add_argument("topics", metavar="TOPIC", nargs="*", help="v1 … v7, softmax, adam … (default: list them)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Explain one topic, compare two topics, or list all topics."""
    if len(args.topics) > 2:
        raise UsageError(f"expected at most two topics, got {len(args.topics)}")
    found = [find(name) for name in args.topics]
    if not found:
        list_topics(console)
    elif len(found) == 1:
        show(found[0], console)
    else:
        compare(found[0], found[1], console)
    return 0


def find(name: str) -> topics.Topic:
    """Return the topic of that name. Raises UsageError, which suggests similar names."""
    try:
        return topics.find_topic(name)
    except KeyError:
        similar = difflib.get_close_matches(name.lower().replace("-", "_"), topics.names(), n=3)
        hint = f"did you mean {' or '.join(similar)}?" if similar else f"{command_line('explain')} lists all topics"
        raise UsageError(f"{name}: unknown topic; {hint}") from None


def list_topics(console: Console) -> None:
    """Print the name of every topic with the first sentence about it."""
    rows = []
    for name, topic in topics.topics().items():
        title = topics.sections(topic)[0][1].partition("\n\n")[0]
        rows.append((name, " ".join(title.split()).partition(". ")[0].rstrip(".")))
    console.lines(two_columns(rows, indent=""))


def show(topic: topics.Topic, console: Console) -> None:
    """Print the sections of a topic.

    Forward and Backward are followed by their code. The code of other functions stands before the example, at the end.
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
