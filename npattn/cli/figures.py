"""`npattn figures`: draw the learning curve of a run, and the attention of its model to a text.

The pictures of the README are drawn by `python figures` in a checkout of the repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from npattn import plot
from npattn.cli.terminal import Console, Parser, draw_alignments, nonempty_path, save_picture
from npattn.runs.load import find_shipped, load_model
from npattn.runs.log import read_log
from npattn.runs.prediction import predict

DESCRIPTION = """\
Draws the learning curve of a run (learning-curve.png) and, with --text, the
attention of each head of its model to a text (alignment.png). It needs
npattn[figures]. The pictures of the README are drawn by `python figures` in a
checkout of the repository.
"""

EXAMPLES = """\
examples:
  %(prog)s runs/dates
  %(prog)s g2p --text knight --out pictures
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("figures", help="draw a run", description=DESCRIPTION, epilog=EXAMPLES, **kwargs)
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("folder", metavar="RUN", type=nonempty_path, help="folder of a run, or g2p: the model in the package")
    add("--text", metavar="TEXT", help="draw the attention to this text")
    add("--out", metavar="DIR", type=nonempty_path, default=Path("pictures"), help="folder (default: pictures)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Draw the pictures and print the names of their files."""
    log = read_log(find_shipped(args.folder) or args.folder)
    pictures = {"learning-curve.png": plot.learning_curve(log, list(log)[4])}   # 0 to 3: step, minutes, loss, rate
    if args.text is not None:
        model, codec, _ = load_model(args.folder)
        target = predict(model, codec, [args.text])[0]
        pictures["alignment.png"] = draw_alignments(model, codec, [(args.text, target)], per_head=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, ax in pictures.items():
        save_picture(ax, args.out / name)
        console.line(str(args.out / name))
    return 0
