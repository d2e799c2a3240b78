"""`npattn predict`: the outputs of a trained model for texts."""

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
    alignment,
    alignment_lines,
    draw_alignments,
    integer_from,
    nonempty_path,
    printable,
    save_picture,
)
from npattn.runs.load import load_model
from npattn.runs.prediction import predict
from npattn.tasks import Codec
from npattn.transformer import Transformer

#: Lines of standard input that the model processes together.
CHUNK = 1024

#: Texts that `--plot` draws, at most.
MAX_PLOTTED = 12

EXAMPLES = """\
The output is one line for each text, in the same order, and with
--show-attention or --per-head a picture in text below each line. An empty line
gives an empty line. Messages go to standard error.

examples:
  %(prog)s g2p knight thorough
  %(prog)s g2p knight --show-attention
  %(prog)s g2p attention --plot attention.png
  %(prog)s runs/dates "Monday, 28 July 2025"
  %(prog)s runs/g2p --beam 5 < words.txt > phonemes.txt
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("predict", help="apply a trained model to texts", epilog=EXAMPLES, **kwargs)
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("folder", metavar="RUN", type=nonempty_path, help="folder of a run, or g2p: the model in the package")
    add("texts", metavar="TEXT", nargs="*", help="source texts (default: the lines of standard input)")
    add("--beam", metavar="K", type=integer_from(1), default=1, help="beam search with K hypotheses (default: greedy)")
    add("--show-attention", action="store_true", help="show in text which source symbols each target symbol attends to")
    add("--per-head", action="store_true", help="the same for every head instead of the mean of the heads")
    add("--plot", metavar="FILE", type=nonempty_path, help="draw it into a .png, .svg or .pdf (needs npattn[figures])")


def run(args: argparse.Namespace, console: Console) -> int:
    """Print a target text for every source text."""
    if args.plot is not None and not 0 < len(args.texts) <= MAX_PLOTTED:
        raise UsageError(f"--plot: expected 1 to {MAX_PLOTTED} texts, got {len(args.texts)}")
    model, codec, _ = load_model(args.folder)
    plotted: list[tuple[str, str]] = []
    interactive = not args.texts and sys.stdin.isatty()
    if interactive:
        print("npattn: type one text on each line; Ctrl-D ends the input", file=sys.stderr)
    texts = iter(args.texts or read_lines(sys.stdin))
    while chunk := list(islice(texts, 1 if interactive else CHUNK)):
        warn_of_unknown(chunk, codec)
        for source, target in zip(chunk, predict_all(model, codec, chunk, args.beam), strict=True):
            console.line(target)
            if args.plot is not None and target:
                plotted.append((source, target))
            if (args.show_attention or args.per_head) and source.strip():
                A = alignment(model, codec, source, target)
                console.lines(alignment_lines(A, codec, source, target, per_head=args.per_head))
    if plotted:
        save_picture(draw_alignments(model, codec, plotted, per_head=args.per_head), args.plot)
    return 0


def predict_all(model: Transformer, codec: Codec, texts: list[str], beam: int) -> list[str]:
    """Return a target text for each text. The target of an empty text is empty; the model does not process it."""
    targets = iter(predict(model, codec, [text for text in texts if text.strip()], beam=beam))
    return [next(targets) if text.strip() else "" for text in texts]


def read_lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a stream. Raises ValueError with the number of a line that cannot be decoded."""
    number = 1
    try:
        for line in stream:
            yield line.rstrip("\r\n")
            number += 1
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input, near line {number}: expected text in {error.encoding}") from None


def warn_of_unknown(texts: Iterable[str], codec: Codec) -> None:
    """List on standard error the symbols that are not in the model's vocabulary."""
    symbols = dict.fromkeys(symbol for text in texts for symbol in codec.tokenize(text))
    unknown = [symbol for symbol in symbols if symbol not in codec.source_vocabulary]
    if unknown:
        shown = " ".join(map(printable, unknown[:20])) + " …" * (len(unknown) > 20)
        print(f"npattn: not in the model's vocabulary, read as <unk>: {shown}", file=sys.stderr)
