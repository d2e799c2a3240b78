"""What heads learn: the model of `npattn train dates` turns a date around, symbol by symbol.

It takes the run in runs/dates, which that command leaves, or trains it, which takes a minute or two.
"""

from __future__ import annotations

import tempfile
from collections import deque
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from _heads import draw_heads
from npattn import plot
from npattn.runs.defaults import new_run
from npattn.runs.load import load_run
from npattn.runs.prediction import predict
from npattn.tasks import Codec, load_task
from npattn.transformer import Transformer

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
        deque(run.train(), maxlen=0)                          # all its steps; nobody watches them
        return load_run(run.folder)[:2]
