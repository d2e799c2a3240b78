"""`npattn predict`: the outputs of a trained model for texts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TextIO

from npattn import plot
from npattn.cli.terminal import (
    MODEL_HELP,
    Console,
    Parser,
    UsageError,
    alignment,
    alignment_lines,
    draw_alignments,
    integer_from,
    model_name,
    nonempty_path,
    print_message,
    save_picture,
)
from npattn.runs.load import load_model
from npattn.runs.prediction import check_text, encode, quoted, unknown_symbols
from npattn.runs.trained import CHUNK, UNKNOWN, TrainedModel
from npattn.tasks import Codec

#: Texts that `--plot` draws, at most.
MAX_PLOTTED = 12

EXAMPLES = """\
The output is one line for each text, in the same order, and with
--show-attention or --per-head a picture in text below each line. An empty line
gives an empty line, and so does a text that cannot be read: it is named on
standard error, and the status is 1. Files and pipes are in UTF-8.

With --n-best K, a text gives up to K lines: the text, a target and its score,
separated by tabs; a picture is of the best. The higher the score, the better.
With --json each text gives one line: an object with "text", and "target" or
"targets" or "error".

examples:
  %(prog)s g2p knight thorough
  %(prog)s g2p knight --show-attention
  %(prog)s g2p attention --plot attention.png
  %(prog)s runs/dates "Monday, 28 July 2025"
  %(prog)s runs/g2p --beam 5 < words.txt > phonemes.txt
  %(prog)s g2p read --n-best 3
"""


class Text(NamedTuple):
    """A source text, what messages call it, and why it cannot be read: empty if it can."""

    name: str
    source: str
    error: str


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("predict", help="apply a trained model to texts", epilog=EXAMPLES, **kwargs)
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("model", metavar="RUN", type=model_name, help=MODEL_HELP)
    # With a default, argparse does not list TEXT among the arguments that are required.
    add("texts", metavar="TEXT", nargs="*", default=[], help="source texts (default: the lines of standard input)")
    add("--beam", metavar="K", type=integer_from(1), help="beam search with K hypotheses (default: greedy)")
    add("--n-best", metavar="K", type=integer_from(1), help="the K best targets of a beam search, with their scores")
    add("--json", action="store_true", help="one JSON object for each text")
    add("--show-attention", action="store_true", help="show in text which source symbols each target symbol attends to")
    add("--per-head", action="store_true", help="the same for every head instead of the mean of the heads")
    add("--plot", metavar="FILE", type=nonempty_path, help="draw it into a .png, .svg or .pdf (needs npattn[figures])")


def run(args: argparse.Namespace, console: Console) -> int:
    """Print what the model answers to every source text; return 1 if there is a text that it cannot read."""
    check_options(args)
    model = load_model(args.model)
    plotted: list[tuple[str, str]] = []
    interactive = not args.texts and sys.stdin.isatty()
    if interactive:
        print_message("type one text on each line; Ctrl-D ends the input")
    status = 0
    texts = numbered_texts(args.texts, model)
    while chunk := list(islice(texts, 1 if interactive else CHUNK)):
        for text, found in zip(chunk, answers(model, chunk, args), strict=True):
            status = 1 if text.error else status
            show(text, found, args, console)
            if found is None:
                continue
            target = found if args.n_best is None else found[0].text
            if args.plot is not None and target:
                plotted.append((text.source, target))
            if args.show_attention or args.per_head:
                A = alignment(model.transformer, model.codec, text.source, target)
                console.lines(alignment_lines(A, model.codec, text.source, target, per_head=args.per_head))
    if plotted:
        save_picture(draw_alignments(model.transformer, model.codec, plotted, per_head=args.per_head), args.plot)
    return status


def check_options(args: argparse.Namespace) -> None:
    """Raise a UsageError for options that do not fit together, before anything is computed."""
    if args.json and (args.show_attention or args.per_head):
        raise UsageError("--json: expected without --show-attention and --per-head, which print no JSON")
    if args.beam is not None and args.n_best is not None and args.n_best > args.beam:
        raise UsageError(f"--n-best: expected at most --beam {args.beam}, got {args.n_best}")
    if args.plot is not None:
        if not 0 < len(args.texts) <= MAX_PLOTTED:
            raise UsageError(f"--plot: expected 1 to {MAX_PLOTTED} texts, got {len(args.texts)}")
        plot.check_format(args.plot)


def numbered_texts(given: list[str], model: TrainedModel) -> Iterator[Text]:
    """Yield the given texts, or the lines of standard input. The error of a text that cannot be read is printed."""
    name = "text" if given else "standard input, line"
    for number, source in enumerate(given or read_lines(sys.stdin), 1):
        text = Text(f"{name} {number}", source, "")
        try:
            check_text(source, text.name)
            if source.strip():
                encode(model.transformer, model.codec, source, text.name)
        except ValueError as error:
            text = text._replace(error=str(error))
            print_message(text.error)
        yield text


def read_lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a stream."""
    for line in stream:
        yield line.rstrip("\r\n")


def answers(model: TrainedModel, chunk: list[Text], args: argparse.Namespace) -> Iterator[Any]:
    """Yield what the model answers to each text; None for an empty text, or one that cannot be read."""
    asked = [text.source for text in chunk if text.source.strip() and not text.error]
    warn_of_unknown(asked, model.codec)
    found = iter(model(asked, n_best=args.n_best, beam=args.beam, unknown=UNKNOWN))
    return (next(found) if text.source.strip() and not text.error else None for text in chunk)


def warn_of_unknown(texts: Iterable[str], codec: Codec) -> None:
    """List on standard error the symbols that are not in the model's vocabulary."""
    if unknown := unknown_symbols(codec, texts):
        print_message(f"not in the model's vocabulary, read as <unk>: {quoted(unknown)}")


def show(text: Text, found: Any, args: argparse.Namespace, console: Console) -> None:
    """Print the answer to a text: a target, or with --n-best a list of `Prediction`s."""
    if args.json:
        many = args.n_best is not None
        answer = {"targets": [each._asdict() for each in found or []]} if many else {"target": found or ""}
        answer = {"error": text.error} if text.error else answer
        console.data(json.dumps({"text": text.source, **answer}))   # in ASCII, with escapes for other letters
    elif found and args.n_best is not None:
        for target, _, score in found:
            console.data(f"{' '.join(text.source.split())}\t{target}\t{score:.4f}")
    else:
        console.data(found or "")
