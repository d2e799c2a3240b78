"""Draw the pictures of the book: ``python figures [NAME …] [--out DIR]``, see README.md in this folder."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from npattn import plot

HERE = Path(__file__).parent

DESCRIPTION = """\
Draws the pictures of npattn as .png files, each in a light and a dark theme,
and prints the name of every file. It needs matplotlib:
pip install -e '.[figures]'
"""

#: Colours in a .png file. The pictures have few colours and many lines, so more would only make the files larger.
COLOURS = 128


def main() -> None:
    """Draw the pictures that the command line names. Each is a script of this folder with a function `draw(theme)`."""
    names = sorted(file.stem.replace("_", "-") for file in HERE.glob("*.py") if not file.stem.startswith("_"))
    parser = argparse.ArgumentParser(
        "python figures", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"{', '.join(names)} (default: all)")
    parser.add_argument("--out", metavar="DIR", type=Path, default=HERE, help="folder of the files (default: figures)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"expected names among {', '.join(names)}, got {', '.join(sorted(unknown))}")
    for name in options.names or names:
        script = importlib.import_module(name.replace("-", "_"))
        for theme in ("light", "dark"):
            try:
                ax = script.draw(theme)
            except ModuleNotFoundError as error:              # matplotlib is missing
                parser.exit(1, f"python figures: {error}\n")
            options.out.mkdir(parents=True, exist_ok=True)
            path = options.out / f"{name}-{theme}.png"
            plot.save(ax, path, colours=COLOURS)
            print(path)


if __name__ == "__main__":
    main()
