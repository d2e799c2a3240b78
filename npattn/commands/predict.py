"""`npattn predict`: put texts through a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from npattn.commands.alignment import align_lines, alignment
from npattn.commands.arguments import Parser, whole
from npattn.commands.console import Console
from npattn.predicting import predict
from npattn.runs import load_run
from npattn.tasks import Codec
from npattn.transformer import Transformer

#: Lines of a file that go through the model together.
CHUNK = 1024

EXAMPLES = """\
Prints one line for each text, in their order, and nothing else on standard
output; an empty line stays empty.

examples:
  npattn predict runs/dates "Monday, 28 July 2025"
  npattn predict runs/g2p --beam 5 < words.txt > phonemes.txt
  npattn predict runs/dates "the 5th of July, 2025" --show-attention
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("predict", help="put texts through a trained model", epilog=EXAMPLES, **kwargs)
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of a run")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="source texts (default: lines of standard input)")
    parser.add_argument("--beam", metavar="K", type=whole(1), default=1, help="beam search (default: greedy)")
    parser.add_argument(
        "--show-attention", action="store_true", help="show what each target symbol looked at in the source"
    )
    parser.add_argument("--per-head", action="store_true", help="show that for every head instead of their mean")


def run(args: argparse.Namespace, console: Console) -> int:
    """Print a target text for every source text."""
    model, codec, _ = load_run(args.folder)
    interactive = not args.texts and sys.stdin.isatty()
    if interactive:
        print("npattn: a text on each line, please; Ctrl-D ends", file=sys.stderr)
    texts = iter(args.texts or read_lines(sys.stdin))
    while chunk := list(islice(texts, 1 if interactive else CHUNK)):
        warn_of_unknown(chunk, codec)
        for source, target in zip(chunk, predict_all(model, codec, chunk, args.beam), strict=True):
            console.line(target)
            if (args.show_attention or args.per_head) and source.strip():
                A = alignment(model, codec, source, target)
                console.lines(align_lines(A, codec, source, target, per_head=args.per_head))
    return 0


def predict_all(model: Transformer, codec: Codec, texts: list[str], beam: int) -> list[str]:
    """Return a target text for each text, empty for an empty one."""
    rows = [row for row, text in enumerate(texts) if text.strip()]
    targets = [""] * len(texts)
    for row, target in zip(rows, predict(model, codec, [texts[row] for row in rows], beam=beam), strict=True):
        targets[row] = target
    return targets


def read_lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a stream; raise a ValueError with the number of a line that is not text."""
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline()
        except UnicodeDecodeError as error:
            raise ValueError(f"standard input, near line {number}: expected text in {error.encoding}") from None
        if not line:
            return
        yield line.rstrip("\r\n")


def warn_of_unknown(texts: Iterable[str], codec: Codec) -> None:
    """Say on standard error which symbols the model has never seen."""
    symbols = dict.fromkeys(symbol for text in texts for symbol in codec.tokenize(text))
    unknown = [symbol for symbol in symbols if symbol not in codec.source_vocabulary]
    if unknown:
        shown = " ".join(unknown[:20]) + " …" * (len(unknown) > 20)
        print(f"npattn: unknown to this model, read as <unk>: {shown}", file=sys.stderr)
