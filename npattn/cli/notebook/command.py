"""`npattn notebook`: write the whole climb as a Jupyter notebook."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
from typing import Any

from npattn._internal.files.whole import write_text
from npattn.cli.notebook.climb import climb
from npattn.cli.terminal import Console, Parser, UsageError, nonempty_path
from npattn.learn.notebook import notebook

DESCRIPTION = """\
Writes the whole climb as a Jupyter notebook: foundations, then each layer and
each version of attention with its derivation, its code, the worked example,
every number of its backward, a picture, a gradient check and the exercises.
It is made from the docstrings and the source of this package. Two runs give
the same file. To open it: pip install "npattn[notebook]" jupyterlab, then
jupyter lab FILE.
"""

EXAMPLES = """\
examples:
  %(prog)s climb.ipynb
  %(prog)s climb.ipynb --language zh
  %(prog)s climb.ipynb --overwrite
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "notebook", help="the whole climb for Jupyter", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("file", metavar="FILE", type=nonempty_path, help="the notebook to write, for instance climb.ipynb")
    add("--language", choices=["en", "zh", "zh-CN"], default="en", help="of the foundations (default: en)")
    add("--overwrite", action="store_true", help="replace FILE if it is there")


def run(args: argparse.Namespace, console: Console) -> int:
    """Write the notebook. Raises FileExistsError rather than replace a file unasked."""
    if args.file.suffix != ".ipynb":
        raise UsageError(f"FILE: expected a name that ends in .ipynb, got {args.file}")
    if os.path.lexists(args.file) and not args.overwrite:
        raise FileExistsError(errno.EEXIST, "is there already; --overwrite replaces it", str(args.file))
    cells = climb(args.language[:2])
    write_text(args.file, notebook(cells))
    console.line(f"{args.file}: {len(cells)} cells. To open it, in a folder of your own:")
    console.line(f'pip install "npattn[notebook]" jupyterlab && jupyter lab {shlex.quote(str(args.file))}')
    return 0
