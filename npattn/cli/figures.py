"""`npattn figures`: draw a run: its learning curve, and what its model attends to in a text.

The pictures of the book are drawn in a checkout of the repository, by `python figures`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npattn import plot
from npattn.cli.terminal import Console, Parser, alignment, path, save_picture
from npattn.runs.load import find_shipped, load_model
from npattn.runs.log import read_log
from npattn.runs.prediction import predict
from npattn.tasks.codec import tokenize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DESCRIPTION = """\
Draws the learning curve of a run (learning-curve.png) and, for a text, what
each head of its model attends to (alignment.png). The pictures of the README
are drawn in a checkout of the repository, by `python figures`.
"""

EXAMPLES = """\
examples:
  npattn figures runs/dates
  npattn figures g2p --text knight --out pictures
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "figures", help="draw a run", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="RUN", type=path, help="the folder of a run, or g2p, which comes with npattn")
    parser.add_argument("--text", metavar="TEXT", help="draw what the model attends to in this text")
    parser.add_argument("--out", metavar="DIR", type=path, default=Path("figures"), help="where to (default: figures)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Draw everything that was asked for, and name the files."""
    for name, ax in of_run(args.folder, args.text):
        args.out.mkdir(parents=True, exist_ok=True)
        save_picture(ax, args.out / name)
        console.line(str(args.out / name))
    return 0


def of_run(folder: Path, text: str | None) -> Iterator[tuple[str, Axes]]:
    """Yield the learning curve of a run and, for a text, the cross-attention with which its model reads it."""
    log = read_log(find_shipped(folder) or folder)
    yield "learning-curve.png", plot.learning_curve(log, list(log)[4])   # step, minutes, loss, rate and the scores
    if text is not None:
        model, codec, _ = load_model(folder)
        target = predict(model, codec, [text])[0]
        A = alignment(model, codec, text, target)
        yield "alignment.png", plot.heads(A, tokenize(target, codec.target_unit), codec.tokenize(text))[0]
