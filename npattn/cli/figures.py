"""`npattn figures`: draw the learning curve of a run, and the attention of its model to a text.

The pictures of the README are drawn by `python figures` in a checkout of the repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from npattn import plot
from npattn.cli.predict.command import warn_of_unknown
from npattn.cli.terminal import MODEL_HELP, Console, Parser, draw_alignments, model_name, nonempty_path, save_picture
from npattn.runs.load import folder_of, load_model
from npattn.runs.log import read_log
from npattn.runs.trained import UNKNOWN

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
    add("model", metavar="RUN", type=model_name, help=MODEL_HELP)
    add("--text", metavar="TEXT", help="draw the attention to this text")
    add("--out", metavar="DIR", type=nonempty_path, default=Path("pictures"), help="folder (default: pictures)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Draw the pictures and print the names of their files."""
    with folder_of(args.model) as folder:
        log = read_log(folder)
    pictures = {"learning-curve.png": plot.learning_curve(log, list(log)[4])}   # 0 to 3: step, minutes, loss, rate
    if args.text is not None:
        model = load_model(args.model)
        pairs = [(args.text, model(args.text, unknown=UNKNOWN))]
        warn_of_unknown([args.text], model.codec)
        pictures["alignment.png"] = draw_alignments(model.transformer, model.codec, pairs, per_head=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, ax in pictures.items():
        save_picture(ax, args.out / name)
        console.line(str(args.out / name))
    return 0
