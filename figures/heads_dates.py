"""What heads learn: the model of `npattn train dates` reads a date and writes its parts in another order.

The script uses the run in runs/dates, where that command leaves it. Without such a run it trains the model, which takes
half a minute.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from _heads import draw_heads
from npattn import Transformer, plot
from npattn.runs import load_run, new_run, predict
from npattn.tasks import Codec, load_task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = Path("runs", "dates")
DATE = "July 28, 2025"


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw every head of the last layers."""
    model, codec = dates_model()
    return draw_heads(model, codec, DATE, predict(model, codec, [DATE])[0], (2.5, 2.8, 2.5), theme)


@cache
def dates_model() -> tuple[Transformer, Codec]:
    """Return the trained model and its codec."""
    if (FOLDER / "best.npz").exists():
        return load_run(FOLDER)[:2]
    with tempfile.TemporaryDirectory(prefix="npattn-") as temporary:
        run = new_run(Path(temporary, "dates"), load_task("dates"), {})
        for _ in run.train():                                 # one step after the other
            pass
        return load_run(run.folder)[:2]
