"""The scores of a finished run on the items that neither training nor validation has seen."""

from __future__ import annotations

import time

from npattn.cli.terminal import Console, duration, left, percent
from npattn.runs.load import load_run
from npattn.runs.run import Run

TITLE = 36  # columns


def test_scores(run: Run, beam: int, console: Console) -> None:
    """Print the scores of a run's best model: by greedy search and, for `beam` above 1, by beam search.

    The subsets of the test items that the task names are scored besides the whole. Few pairs leave nothing to test on.
    """
    task = run.task
    if not task.test:
        return
    model, _, _ = run.ranks.from_first(lambda: load_run(run.folder))
    sources = [item.source for item in task.test]
    columns = {name: max(len(name), 8) + 2 for name in task.score_names}
    names = "".join(name.rjust(width) for name, width in columns.items())
    console.line()
    console.line(console.style(left("The best model on the test items", TITLE) + names + "   time", "bold"))
    for search, k in [("greedy", 1)] + [(f"beam {beam}", beam)] * (beam > 1):
        began = time.perf_counter()
        console.live(f"  reading {len(sources):,} test items …")
        predictions = run.predict(model, sources, k)
        passed = duration(time.perf_counter() - began).rjust(7)
        for name, rows in {"all": range(len(sources)), **task.subsets}.items():
            scores = task.score([predictions[i] for i in rows], [task.test[i] for i in rows])
            values = "".join(percent(scores[each], 2).rjust(width) for each, width in columns.items())
            console.line(left(f"  {search}, {name} {len(rows):,}", TITLE) + values + passed * (name == "all"))
