"""The progress of a training run, for people or for programs.

People get a table with a new row now and then, and a live line below it on a terminal. Programs get a JSON object a
line, at the same steps.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence

from npattn.cli.terminal import Console, bar, duration, percent
from npattn.runs.run import WINDOW, Progress

#: Seconds between two changes of the live line, at least.
PAUSE = 0.1


def shown(name: str, score: float) -> str:
    """Return a score as text: bits as a number, a share as a percentage.

    >>> shown("bits per byte", 1.6789), shown("error rate", 0.25)
    ('1.679', '25.0 %')
    """
    return f"{score:.3f}" if name.startswith("bits") else percent(score)


class ProgressTable:
    """Shows every `Progress`: a row for each validation and each tenth of the run, a live line for other steps.

    A resumed run starts at step `first`, after `seconds` of training.
    """

    def __init__(self, console: Console, score_names: Sequence[str], *, first: int = 0, seconds: float = 0.0) -> None:
        self.console = console
        self.columns = {name: max(len(name), 7) + 2 for name in score_names}
        self.first, self.first_seconds = first, seconds
        self._recent: deque[Progress] = deque(maxlen=WINDOW)
        self._window_start = seconds                          # when the oldest step of the window began
        self._shown = 0.0

    def heading(self) -> None:
        """Write the names of the columns, and what they mean."""
        self.console.line(f"  loss, tokens/s: mean of {WINDOW} steps; left: time left; *: best model so far")
        names = "".join(name.rjust(columns) for name, columns in self.columns.items())
        head = f"{'step':>8}{'loss':>8}{'rate':>9}{'tokens/s':>10}{'left':>8}{names}"
        self.console.line(self.console.style(head, "bold"))

    def show(self, progress: Progress) -> None:
        """Show a step."""
        if len(self._recent) == WINDOW:
            self._window_start = self._recent[0].seconds
        self._recent.append(progress)
        step, steps, scores = progress.step, progress.steps, progress.scores
        if scores is not None:
            values = "".join(shown(name, scores[name]).rjust(columns) for name, columns in self.columns.items())
            best = " " + self.console.style("*", "green") if progress.is_best else ""
            self.console.line(self._numbers() + values + best)
        elif ends_a_tenth(progress):
            self.console.line(self._numbers())
        elif time.monotonic() - self._shown > PAUSE:
            self._shown = time.monotonic()
            self.console.live(f"{self._numbers()}  {bar(step / steps, 20)} {100 * step // steps} %")

    def _numbers(self) -> str:
        """Return the columns before the scores, for the last step."""
        p = self._recent[-1]
        speed = sum(each.tokens for each in self._recent) / max(p.seconds - self._window_start, 1e-9)
        left = (p.steps - p.step) * (p.seconds - self.first_seconds) / (p.step - self.first)
        return f"{p.step:>8,}{p.mean_loss:>8.3f}{p.rate:>9.1e}{speed:>10,.0f}{duration(left):>8}"


class ProgressLines:
    """Writes a JSON object for each validation and each tenth of a run."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def heading(self) -> None:
        """Write nothing: each line names its numbers."""

    def show(self, progress: Progress) -> None:
        """Write a line if the step has a validation or ends a tenth of the run."""
        if progress.scores is None and not ends_a_tenth(progress):
            return
        told = {name: getattr(progress, name) for name in ("step", "steps", "rate", "seconds", "scores", "is_best")}
        self.console.data(json.dumps({**told, "loss": progress.mean_loss}))


def ends_a_tenth(progress: Progress) -> bool:
    """Return whether a tenth of the run ends with this step."""
    step, steps = progress.step, progress.steps
    return 10 * step // steps > 10 * (step - 1) // steps
