"""How a training run goes: a table that grows by a row now and then, and on a terminal a live line below it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from npattn.cli.terminal import Console, bar, duration, percent
from npattn.runs.run import Progress

#: Loss and speed are means over this many steps: few enough to be news, many enough to be calm.
WINDOW = 100

#: The live line changes no more often than this, in seconds.
PAUSE = 0.1


class ProgressTable:
    """Shows every `Progress` it is given: a row at each validation and at each tenth of the run.

    `first` is the step that the run goes on from, `seconds` its time so far.
    """

    def __init__(self, console: Console, score_names: Sequence[str], *, first: int = 0, seconds: float = 0.0) -> None:
        self.console = console
        self.columns = {name: max(len(name), 7) + 2 for name in score_names}
        self.first, self.first_seconds = first, seconds
        self._recent: deque[Progress] = deque(maxlen=WINDOW)
        self._before = seconds  # when the oldest step of the window began
        self._shown = 0.0

    def heading(self) -> None:
        """Write the names of the columns."""
        names = "".join(name.rjust(columns) for name, columns in self.columns.items())
        head = f"{'step':>8}{'loss':>8}{'rate':>9}{'tokens/s':>10}{'left':>8}{names}"
        self.console.line(self.console.style(head, "bold"))

    def show(self, progress: Progress) -> None:
        """Take note of a step, and write what it is time to write."""
        if len(self._recent) == WINDOW:
            self._before = self._recent[0].seconds
        self._recent.append(progress)
        tenth = 10 * progress.step // progress.steps > 10 * (progress.step - 1) // progress.steps
        if progress.scores is not None or tenth:
            self.console.line(self._row(progress))
        elif time.monotonic() - self._shown > PAUSE:
            self._shown = time.monotonic()
            self.console.live(self._live(progress))

    def _row(self, p: Progress) -> str:
        row = f"{p.step:>8,}{self._loss():>8.3f}{p.rate:>9.1e}{self._speed():>10,.0f}{duration(self._left(p)):>8}"
        if p.scores is None:
            return row
        row += "".join(percent(p.scores[name]).rjust(columns) for name, columns in self.columns.items())
        return row + " " + self.console.style("*", "green") if p.is_best else row

    def _live(self, p: Progress) -> str:
        return (
            f"{p.step:>8,}{self._loss():>8.3f}{p.rate:>9.1e}{self._speed():>10,.0f}{duration(self._left(p)):>8}"
            f"  {bar(p.step / p.steps, 20)} {100 * p.step // p.steps} %"
        )

    def _loss(self) -> float:
        return sum(p.loss for p in self._recent) / len(self._recent)

    def _speed(self) -> float:
        return sum(p.tokens for p in self._recent) / max(self._recent[-1].seconds - self._before, 1e-9)

    def _left(self, p: Progress) -> float:
        return (p.steps - p.step) * (p.seconds - self.first_seconds) / (p.step - self.first)
