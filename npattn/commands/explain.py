"""`npattn explain`: the derivation of a layer and the code that carries it out, from the source itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from npattn import explain
from npattn.commands.arguments import Parser, UsageError, close_to
from npattn.commands.console import WIDTH, Console, fields
from npattn.commands.fitting import fit_code, fit_text

DESCRIPTION = """\
Prints the derivation of a layer, forward and backward, with its code below it:
the docstrings and the source of the package as they stand.
Without a topic: the list of topics.
"""

EXAMPLES = """\
examples:
  npattn explain v5
  npattn explain layer_norm | less
  npattn explain adam
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "explain", help="derivations, with the code beside them", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    parser.add_argument("topic", metavar="TOPIC", nargs="?", help="v1 … v7, softmax, adam … (default: list them)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Explain a topic, or list them all."""
    if args.topic is None:
        list_topics(console)
        return 0
    try:
        topic = explain.find_topic(args.topic)
    except KeyError:
        hint = close_to(args.topic.lower().replace("-", "_"), explain.names(), f"{args.prog} explain lists them")
        raise UsageError(f"{args.topic}: no topic of ours; {hint}", f"{args.prog} explain") from None
    show(topic, console)
    return 0


def list_topics(console: Console) -> None:
    """Print the name of every topic with the first sentence about it."""
    rows = []
    for name, topic in explain.topics().items():
        title = explain.sections(topic)[0][1].partition("\n\n")[0]
        rows.append((name, " ".join(title.split()).partition(". ")[0].rstrip(".")))
    console.lines(fields(rows, indent=""))


def show(topic: explain.Topic, console: Console) -> None:
    """Print the sections of a topic, with the code of its forward and backward after those of that name."""
    left = list(topic.members)
    title = f"{topic.module.__name__}: {', '.join(member.__qualname__ for member in topic.members)}"
    console.line(console.style(title if len(title) <= WIDTH else topic.module.__name__, "dim"))
    examples = []
    for name, text in explain.sections(topic):
        if name in explain.EXAMPLES:
            examples.append((name, text))                     # after all code
            continue
        section(name, text, console)
        if name in ("Forward", "Backward") and len(topic.members) == 2:
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
    console.lines(fit_text(text))


def code(member: Callable[..., Any], console: Console) -> None:
    """Print what a function says of itself, and its code."""
    console.line()
    console.lines(fit_text(explain.summary_of(member)))
    console.line()
    for line in fit_code(explain.code_of(member), WIDTH - 2):
        body, mark, comment = line.partition("# ")
        console.line("  " + body + console.style(mark + comment, "dim"))
