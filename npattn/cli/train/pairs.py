"""What `npattn train` says of a task of pairs: its data, its model and the scores of a finished run."""

from __future__ import annotations

import math
import time
from typing import Any

from npattn.cli.terminal import Console, command_line, counted, duration, pad_right, percent
from npattn.runs.load import load_run
from npattn.runs.run import Run

TITLE_WIDTH = 36


def data(run: Run) -> str:
    """Return what there is to train on and to measure on."""
    task = run.task
    held_out = f"{len(task.validation):,} validation and {counted(len(task.test), 'test item')}"
    return f"{counted(len(task.train), 'training pair')}, {held_out}"


def sizes(run: Run) -> str:
    """Return the sizes of the model."""
    c = run.config
    layers = f"{c.n_encoder_layers} + {c.n_decoder_layers} layers of width {c.d_model}"
    return f"{layers}, {counted(c.n_heads, 'head')}, feed-forward {c.d_ff}, {c.norm}-norm"


def rows(run: Run) -> tuple[int, str, str]:
    """Return how many rows an epoch has, what a row is, and how long."""
    return len(run.task.train), "pair", ""


def example(run: Run) -> str:
    """Return a command that uses the model."""
    return command_line("predict", run.folder, (run.task.test or run.task.validation)[0].source)


def meaning(run: Run) -> str:
    """Return what the scores and the loss mean.

    The loss is least where the probabilities equal the smoothed target q: its entropy remains, −Σ q log q.
    """
    task, smoothing, V = run.task, run.settings.smoothing, run.config.tgt_vocab
    exact, error_rate = task.score_names
    answered = "not " * task.lower_is_better + "answered by one of their targets"
    text = (
        f"{exact}: the share of sources that are {answered}. {error_rate}: the symbols to insert, delete or replace to "
        f"get the nearest target, divided by the symbols of these targets."
    )
    if smoothing:
        q = [1 - smoothing + smoothing / V] + [smoothing / V] * (V - 1)
        floor = -sum(share * math.log(share) for share in q)
        text += (
            f" The loss cannot fall below {floor:.3f}: label smoothing gives a share of {smoothing:g} to all {V} "
            f"symbols of the target vocabulary alike."
        )
    return text


def results(run: Run, console: Console, beam: int) -> dict[str, Any] | None:
    """Print the scores of a run's best model with greedy search, and with beam search when `beam` is above 1.

    They are those of the test items, which are used neither in training nor in validation: first of all of them, then
    of the task's subsets. A small task may have no test items. Below them stands what the scores mean. Return the
    scores by the names of search, items and score; None without test items.
    """
    found = _test_scores(run, console, beam) if run.task.test else None
    console.line()
    console.paragraph(meaning(run))
    return found


def _test_scores(run: Run, console: Console, beam: int) -> dict[str, Any]:
    task = run.task
    found: dict[str, Any] = {}
    model, _, _ = run.ranks.from_first(lambda: load_run(run.folder))
    sources = [item.source for item in task.test]
    columns = {name: max(len(name), 8) + 2 for name in task.score_names}
    names = "".join(name.rjust(width) for name, width in columns.items())
    title = pad_right("The best model on the test items", TITLE_WIDTH)
    console.lines(("", console.style(title + names + "   time", "bold")))
    for search, k in [("greedy", 1)] + [(f"beam {beam}", beam)] * (beam > 1):
        began = time.perf_counter()
        console.live(f"  reading {len(sources):,} test items …")
        predictions = run.predict(model, sources, k)
        passed = duration(time.perf_counter() - began).rjust(7)
        for name, rows in {"all": range(len(sources)), **task.subsets}.items():
            if not rows:
                continue
            scores = task.score([predictions[i] for i in rows], [task.test[i] for i in rows])
            found.setdefault(search, {})[name] = scores
            values = "".join(percent(scores[each], 2).rjust(width) for each, width in columns.items())
            title = pad_right(f"  {search}, {name} {len(rows):,}", TITLE_WIDTH)
            console.line(title + values + passed * (name == "all"))
    return found
