"""`npattn figures`: pictures of the tour's example, of positions, and of a run of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npattn import plot, sinusoidal_positions
from npattn.commands.alignment import alignment
from npattn.commands.arguments import Parser, UsageError
from npattn.commands.console import Console
from npattn.commands.example import WORDS, examples
from npattn.predicting import predict
from npattn.run_log import read_log
from npattn.runs import load_run
from npattn.tasks.codec import tokenize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DESCRIPTION = """\
Draws the attention weights of the tour's sentence (attention.png) and the
sinusoidal positions (positions.png); of a run its learning curve
(learning-curve.png) and, for a text, what the model looked at (alignment.png).
"""

EXAMPLES = """\
examples:
  npattn figures
  npattn figures --run runs/dates --text "28 July 2025" --out pictures
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "figures", help="draw attention, positions, learning curves", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("figures"), help="where to (default: figures)")
    parser.add_argument("--run", dest="folder", metavar="RUN", type=Path, help="draw the learning curve of this run")
    parser.add_argument("--text", metavar="TEXT", help="draw what the model of that run looks at in this text")


def run(args: argparse.Namespace, console: Console) -> int:
    """Draw everything there is to draw, and name the files."""
    if args.text is not None and args.folder is None:
        raise UsageError("--text needs --run, the model that shall read it", f"{args.prog} figures")
    drawn = {"attention.png": draw_example(), "positions.png": plot.positions(sinusoidal_positions(64, 64))}
    if args.folder is not None:
        drawn["learning-curve.png"] = draw_learning_curve(args.folder)
    if args.text is not None:
        drawn["alignment.png"] = draw_alignment(args.folder, args.text)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, ax in drawn.items():
        plot.save(ax, args.out / name)
        console.line(str(args.out / name))
    return 0


def draw_example() -> Axes:
    """Draw the weights of the last two versions on the tour's sentence: one map, and one for each head."""
    maps = []
    for version, arrays, options, queries in examples()[-2:]:
        _, cache = version.module.forward(*arrays.values(), **options)
        heads = cache.A.reshape(-1, *cache.A.shape[-2:])
        titles = [version.name] if len(heads) == 1 else [f"head {h + 1} of {len(heads)}" for h in range(len(heads))]
        maps += [(A, queries, title) for A, title in zip(heads, titles, strict=True)]
    axes = plot.panels(len(maps))
    for (A, queries, title), ax in zip(maps, axes, strict=True):
        plot.attention_map(A, queries, WORDS, ax=ax).set_title(title)
    return axes[0]


def draw_learning_curve(folder: Path) -> Axes:
    """Draw the headline score of a run against minutes."""
    log = read_log(folder)
    headline = list(log)[4]                                   # step, minutes, loss, rate and then the scores
    return plot.learning_curve(log, headline)


def draw_alignment(folder: Path, text: str) -> Axes:
    """Draw the cross-attention with which the model reads a text."""
    model, codec, _ = load_run(folder)
    target = predict(model, codec, [text])[0]
    A = alignment(model, codec, text, target).mean(0)
    return plot.attention_map(A, tokenize(target, codec.target_unit), codec.tokenize(text))
