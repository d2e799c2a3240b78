"""Draw the pictures of the book, each in a light and a dark theme: ``python figures [NAME …] [--out DIR]``.

Each picture is a script of this folder whose `draw(theme)` returns Axes. Needs the extra ``figures``.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from npattn import plot

HERE = Path(__file__).parent

#: Drawings of few colours and many lines: as many colours as a small .png can have.
COLOURS = 128


def main() -> None:
    names = sorted(file.stem.replace("_", "-") for file in HERE.glob("*.py") if not file.stem.startswith("_"))
    parser = argparse.ArgumentParser("python figures", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--out", metavar="DIR", type=Path, default=HERE, help="where to (default: this folder)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"expected names among {', '.join(names)}, got {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or names:
        script = importlib.import_module(name.replace("-", "_"))
        for theme in ("light", "dark"):
            path = options.out / f"{name}-{theme}.png"
            plot.save(script.draw(theme), path, colours=COLOURS)
            print(path)


if __name__ == "__main__":
    main()
