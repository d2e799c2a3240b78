"""`npattn figures`: redraw the pictures of the book, or draw a run of one's own.

Each picture of the book is a script of the repository's folder figures/, whose `draw(theme)` returns Axes. A checkout
has them beside the package, an installation under share/npattn, where the package's metadata find them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import npattn
from npattn import plot
from npattn.commands.alignment import alignment
from npattn.commands.arguments import Parser, UsageError, close_to, path
from npattn.commands.console import Console
from npattn.commands.pictures import save_picture
from npattn.models import find, load_model
from npattn.plot.canvas import PALETTES
from npattn.predicting import predict
from npattn.run_log import read_log
from npattn.tasks.codec import tokenize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DESCRIPTION = """\
Redraws the pictures of the book, each in a light and a dark theme, or those
that are named; heads-dates trains its model unless runs/dates holds it.

With --run instead: the learning curve of a run (learning-curve.png) and, for a
text, what each head of the model looks at (alignment.png).
"""

EXAMPLES = """\
examples:
  npattn figures
  npattn figures why-scale ladder --out pictures
  npattn figures --run runs/dates --text "28 July 2025" --out pictures
"""

#: Drawings of few colours and many lines: as many colours as a small .png can have.
COLOURS = 128


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "figures", help="redraw the book's pictures, draw runs", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    parser.add_argument("names", metavar="NAME", nargs="*", help="a picture of the book (default: all)")
    parser.add_argument("--out", metavar="DIR", type=path, default=Path("figures"), help="where to (default: figures)")
    parser.add_argument("--run", dest="folder", metavar="RUN", type=path, help="draw this run, or the model g2p")
    parser.add_argument("--text", metavar="TEXT", help="draw what the model of that run looks at in this text")


def run(args: argparse.Namespace, console: Console) -> int:
    """Draw everything that was asked for, and name the files."""
    if args.folder is None:
        if args.text is not None:
            raise UsageError("--text needs --run, the model that shall read it", f"{args.prog} figures")
        pictures = of_book(args.names, f"{args.prog} figures")
    elif args.names:
        raise UsageError(f"expected --run or pictures of the book, got both: {args.names[0]}", f"{args.prog} figures")
    else:
        pictures = of_run(args.folder, args.text)
    for name, ax in pictures:
        args.out.mkdir(parents=True, exist_ok=True)
        save_picture(ax, args.out / name, colours=COLOURS)
        console.line(str(args.out / name))
    return 0


def of_book(names: list[str], prog: str) -> Iterator[tuple[str, Axes]]:
    """Yield the pictures of the book, or those that are named, with the names of their files."""
    found = scripts()
    for name in names:
        if name not in found:
            raise UsageError(f"{name}: no picture of the book; {close_to(name, found)}", prog)
    plot.panels(1)                                            # without matplotlib, say so before a script is run
    for name in names or found:
        script = load(found[name])
        for theme in PALETTES:
            yield f"{name}-{theme}.png", script.draw(theme)


def of_run(folder: Path, text: str | None) -> Iterator[tuple[str, Axes]]:
    """Yield the learning curve of a run and, for a text, the cross-attention with which its model reads it."""
    log = read_log(find(folder) or folder)
    yield "learning-curve.png", plot.learning_curve(log, list(log)[4])   # step, minutes, loss, rate and the scores
    if text is not None:
        model, codec, _ = load_model(folder)
        target = predict(model, codec, [text])[0]
        A = alignment(model, codec, text, target)
        yield "alignment.png", plot.heads(A, tokenize(target, codec.target_unit), codec.tokenize(text))[0]


def scripts() -> dict[str, Path]:
    """Return the scripts of the book by the names of their pictures. Raises FileNotFoundError when there are none."""
    checkout = Path(npattn.__file__).parents[1] / "figures"
    files = sorted(checkout.glob("*.py")) if checkout.is_dir() else installed()
    found = {file.stem.replace("_", "-"): file for file in files if not file.stem.startswith("_")}
    if not found:
        raise FileNotFoundError("the scripts of figures/ are neither beside the package nor installed with it")
    return found


def installed() -> list[Path]:
    """Return the scripts that were installed with the package."""
    try:
        files = metadata.files("npattn") or []
    except metadata.PackageNotFoundError:
        files = []
    scripts = (Path(str(file.locate())) for file in files if file.match("share/npattn/figures/*.py"))
    return sorted(script for script in scripts if script.is_file())


def load(script: Path) -> ModuleType:
    """Run a script as a module that can import its neighbours."""
    spec = importlib.util.spec_from_file_location(f"figures.{script.stem}", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(script.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(script.parent))
    return module
