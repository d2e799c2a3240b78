"""Write pictures from the command line: what `npattn.plot` warns of becomes a line on standard error."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from npattn import plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save_picture(ax: Axes, path: Path, *, colours: int | None = None) -> None:
    """Write the figure of `ax` as `npattn.plot.save` does, and say in one line what its reader should know."""
    chatter = logging.getLogger("matplotlib.font_manager")    # on fonts that have no normal weight
    before = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            plot.save(ax, path, colours=colours)
    finally:
        chatter.setLevel(before)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"npattn: {path}: {message}", file=sys.stderr)
