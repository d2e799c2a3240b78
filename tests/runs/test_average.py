"""The mean of the parameters at the last validations: a run validates and keeps it, also after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import CheckpointError, Transformer
from npattn.runs import Run, new_run
from npattn.tasks import Task, load_task

SIZES: dict[str, Any] = {
    "d_model": 8, "n_heads": 2, "layers": 1, "batch_size": 4, "steps": 7, "workers": 1, "validate_every": 1,
    "checkpoint_every": 2, "average": 3,
}  # fmt: skip


@pytest.fixture
def task(tmp_path: Path) -> Task:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{a}{b}\t{b}{a}\n" for a in "abcd" for b in "efgh"), encoding="utf-8")
    return load_task(path)


def parameters(run: Run, steps: int) -> list[Any]:
    """Take steps; return the parameters after each."""
    return [run.model.params.flat.copy() for _, _progress in zip(range(steps), run.train(), strict=False)]


def test_the_mean_is_validated_and_kept(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []

    def score(run: Run, model: Transformer, items: Any) -> dict[str, float]:
        judged.append(model.params.flat.copy())
        return {"exact match": 0.5, "error rate": 0.5}        # each is as good, so the last is kept

    monkeypatch.setattr(Run, "score", score)
    thetas = parameters(new_run(tmp_path / "run", task, SIZES), 7)
    for k, found in enumerate(judged):
        np.testing.assert_allclose(found, np.mean(thetas[max(0, k - 2) : k + 1], 0), rtol=1e-6, atol=1e-7)
    assert len(judged) == 7
    np.testing.assert_array_equal(Transformer.load(tmp_path / "run" / "best.npz").params.flat, judged[-1])
    plain = parameters(new_run(tmp_path / "plain", task, SIZES | {"average": None}), 7)
    np.testing.assert_array_equal(plain, thetas)              # it does not disturb the training


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, task: Task, stop: int) -> None:
    whole = new_run(tmp_path / "whole", task, SIZES)
    parameters(whole, 7)
    parameters(new_run(tmp_path / "stopped", task, SIZES), stop)
    resumed = Run.resume(tmp_path / "stopped", task)
    parameters(resumed, 7)
    assert whole.average is not None and resumed.average is not None
    assert resumed.average.count == whole.average.count == 7
    np.testing.assert_array_equal(resumed.average.last, whole.average.last)
    best = [Transformer.load(tmp_path / name / "best.npz").params.flat for name in ("whole", "stopped")]
    np.testing.assert_array_equal(*best)


def test_a_checkpoint_without_the_mean_is_refused(tmp_path: Path, task: Task) -> None:
    parameters(new_run(tmp_path / "run", task, SIZES | {"average": None}), 2)
    path = tmp_path / "run" / "run.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"average": null', '"average": 3'), encoding="utf-8")
    with pytest.raises(CheckpointError, match="missing 'average'"):
        Run.resume(tmp_path / "run", task)
