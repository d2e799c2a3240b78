"""Training: loss, learning rate and scores of the model that comes with the package, from its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npattn import plot
from npattn.optim import linear_rate
from npattn.runs import Settings, load_model, read_log
from npattn.runs.load import FOLDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(theme: plot.Theme = "light") -> Axes:
    """Draw three panels: loss and rate over the steps, scores over the minutes."""
    log, settings = read_log(FOLDER / "g2p"), Settings(**load_model("g2p")[2]["settings"])
    loss, rate, scores = plot.panels(3, 8.3 / 3, 2.9, theme=theme)
    blue = plot.palette_of(loss).colours[0]
    loss.plot([step / 1000 for step in log["step"]], log["loss"], "o-", markersize=3.5, color=blue)
    steps = range(1, settings.steps + 1)
    rates = [linear_rate(step, settings.steps + 1, settings.peak_rate, settings.warmup) for step in steps]
    rate.plot([step / 1000 for step in steps], [1000 * each for each in rates], color=blue)
    loss.set(xlabel="steps, thousands", ylabel="loss of a batch, nats a token")
    rate.set(xlabel="steps, thousands", ylabel="learning rate, thousandths")
    plot.grid(loss)
    plot.grid(rate)
    for name in ("WER", "PER"):
        plot.learning_curve(log, name, label=name, ax=scores)
    scores.set_ylabel("validation words, %")
    return loss
