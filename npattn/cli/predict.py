"""`npattn predict`: put texts through a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TextIO

from npattn.cli.terminal import (
    Console,
    Parser,
    UsageError,
    align_lines,
    alignment,
    draw_alignments,
    path,
    save_picture,
    visible,
    whole,
)
from npattn.runs.load import load_model
from npattn.runs.prediction import predict
from npattn.tasks import Codec
from npattn.transformer import Transformer

#: Lines of a file that go through the model together.
CHUNK = 1024

#: Texts that `--plot` draws, at most.
DRAWN = 12

EXAMPLES = """\
Prints one line for each text, in their order, and nothing else on standard
output; an empty line stays empty.

examples:
  npattn predict g2p knight thorough                  the model that comes along
  npattn predict g2p attention --plot attention.png   needs npattn[figures]
  npattn predict runs/dates "Monday, 28 July 2025"
  npattn predict runs/g2p --beam 5 < words.txt > phonemes.txt
  npattn predict runs/dates "the 5th of July, 2025" --show-attention
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("predict", help="put texts through a trained model", epilog=EXAMPLES, **kwargs)
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="RUN", type=path, help="the folder of a run, or g2p, which comes with npattn")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="source texts (default: lines of standard input)")
    parser.add_argument("--beam", metavar="K", type=whole(1), default=1, help="beam search (default: greedy)")
    parser.add_argument(
        "--show-attention", action="store_true", help="show what each target symbol looked at in the source"
    )
    parser.add_argument("--per-head", action="store_true", help="show that for every head instead of their mean")
    parser.add_argument("--plot", metavar="FILE", type=path, help="draw it as a picture: .png, .svg, .pdf …")


def run(args: argparse.Namespace, console: Console) -> int:
    """Print a target text for every source text."""
    if args.plot is not None and not 0 < len(args.texts) <= DRAWN:
        raise UsageError(f"--plot: expected 1 to {DRAWN} texts, got {len(args.texts)}", f"{args.prog} predict")
    model, codec, _ = load_model(args.folder)
    pairs: list[tuple[str, str]] = []                         # what --plot draws
    interactive = not args.texts and sys.stdin.isatty()
    if interactive:
        print("npattn: a text on each line, please; Ctrl-D ends", file=sys.stderr)
    texts = iter(args.texts or read_lines(sys.stdin))
    while chunk := list(islice(texts, 1 if interactive else CHUNK)):
        warn_of_unknown(chunk, codec)
        for source, target in zip(chunk, predict_all(model, codec, chunk, args.beam), strict=True):
            console.line(target)
            if args.plot is not None and target:
                pairs.append((source, target))
            if (args.show_attention or args.per_head) and source.strip():
                A = alignment(model, codec, source, target)
                console.lines(align_lines(A, codec, source, target, per_head=args.per_head))
    if pairs:
        save_picture(draw_alignments(model, codec, pairs, per_head=args.per_head), args.plot)
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
        shown = " ".join(map(visible, unknown[:20])) + " …" * (len(unknown) > 20)
        print(f"npattn: unknown to this model, read as <unk>: {shown}", file=sys.stderr)
