"""The scores of a finished run on the test items, which are used neither in training nor in validation."""

from __future__ import annotations

import time

from npattn.cli.terminal import Console, duration, pad_right, percent
from npattn.runs.load import load_run
from npattn.runs.run import Run

TITLE_WIDTH = 36


def test_scores(run: Run, beam: int, console: Console) -> None:
    """Print the scores of a run's best model with greedy search, and with beam search when `beam` is above 1.

    The scores of all test items come first, then those of the task's subsets. A small task may have no test items.
    """
    task = run.task
    if not task.test:
        return
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
            scores = task.score([predictions[i] for i in rows], [task.test[i] for i in rows])
            values = "".join(percent(scores[each], 2).rjust(width) for each, width in columns.items())
            title = pad_right(f"  {search}, {name} {len(rows):,}", TITLE_WIDTH)
            console.line(title + values + passed * (name == "all"))
