"""`npattn explain`: the derivation of a layer and the code that carries it out, from the source itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from npattn.cli.explain import topics
from npattn.cli.terminal import Console, Parser, UsageError, close_to, fields

DESCRIPTION = """\
Prints the derivation of a layer, forward and backward, with its code below it:
the docstrings and the source of the package as they stand, up to 120 columns.
With two topics: the lines in which their code differs, without docstrings.
Without a topic: the list of topics.
"""

EXAMPLES = """\
examples:
  npattn explain v5
  npattn explain v4 v5
  npattn explain transformer
  npattn explain layer_norm | less
"""

#: How lines of a difference are shown.
STYLES = {"+": "green", "-": "red"}


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "explain", help="derivations, with the code beside them", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    parser.add_argument("topics", metavar="TOPIC", nargs="*", help="v1 … v7, softmax, adam … (default: list them)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Explain a topic, compare two, or list them all."""
    prog = f"{args.prog} explain"
    if len(args.topics) > 2:
        raise UsageError(f"expected at most two topics, got {len(args.topics)}", prog)
    found = [find(name, prog) for name in args.topics]
    if not found:
        list_topics(console)
    elif len(found) == 1:
        show(found[0], console)
    else:
        for line in topics.difference(*found):
            console.line(console.style(line, STYLES[line[0]]) if line[:1] in STYLES else line)
    return 0


def find(name: str, prog: str) -> topics.Topic:
    """Return the topic of that name. Raises UsageError with the names that are close to it."""
    try:
        return topics.find_topic(name)
    except KeyError:
        hint = close_to(name.lower().replace("-", "_"), topics.names(), f"{prog} lists them")
        raise UsageError(f"{name}: no topic of ours; {hint}", prog) from None


def list_topics(console: Console) -> None:
    """Print the name of every topic with the first sentence about it."""
    rows = []
    for name, topic in topics.topics().items():
        title = topics.sections(topic)[0][1].partition("\n\n")[0]
        rows.append((name, " ".join(title.split()).partition(". ")[0].rstrip(".")))
    console.lines(fields(rows, indent=""))


def show(topic: topics.Topic, console: Console) -> None:
    """Print the sections of a topic, the code of its forward and backward after those of that name, then the rest."""
    left = list(topic.members)
    console.line(console.style(topic.module.__name__, "dim"))
    examples = []
    for name, text in topics.sections(topic):
        if name in topics.EXAMPLES:
            examples.append((name, text))                     # after all code
            continue
        section(name, text, console)
        if name == "Forward" and topics.shapes(topic):
            section("Shapes", topics.shapes(topic), console)
        if name in ("Forward", "Backward") and len(left) > 1:
            code(left.pop(0), console)
    for member in left:
        code(member, console)
    for name, text in examples:
        section(name, text, console)


def section(name: str, text: str, console: Console) -> None:
    """Print a section below its name."""
    console.line()
    if name:
        console.line(console.style(name, "bold"))
    console.lines(text.splitlines())


def code(member: Callable[..., Any], console: Console) -> None:
    """Print what a function says of itself, and its code."""
    console.line()
    console.lines(topics.summary_of(member).splitlines())
    console.line()
    for line in topics.code_of(member).splitlines():
        body, mark, comment = line.partition("# ")
        console.line("  " + body + console.style(mark + comment, "dim"))
