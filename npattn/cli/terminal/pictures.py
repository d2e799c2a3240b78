"""Write pictures from the command line. A warning of `npattn.plot` becomes a line on standard error."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from npattn import plot
from npattn.cli.terminal.errors import print_message

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save_picture(ax: Axes, path: Path) -> None:
    """Write the figure of `ax` with `npattn.plot.save`, and print each of its warnings once, in a line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        plot.save(ax, path)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print_message(f"{path}: {message}")
