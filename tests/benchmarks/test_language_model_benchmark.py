"""benchmarks/language_model.py runs and reports at a toy size; its steps in PyTorch start from npattn's weights."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import language_model
from _common import harness
from _common.harness import Job
from support.inline_runner import InlineRunner


def test_it_runs_and_reports() -> None:
    options = harness.parser(language_model).parse_args(["--quick", "--rounds", "1"])
    torch = "python" if importlib.util.find_spec("torch") else None
    data = language_model.measure(options, InlineRunner(language_model, torch))
    report = language_model.report(data)
    assert data["step"]["toy"].keys() == {"npattn"} | ({"torch"} if torch else set())
    assert list(data["growth"]) == ["4, all", "4, 64", "8, all", "8, 64"]
    assert report.count("\n| toy") == 2 and "nan" not in report


def test_the_model_of_a_job() -> None:
    model = language_model.model(16, 1, 2, window=4, layer_types=["sliding_attention"])
    assert (model.config.vocab, model.config.d_model, model.config.window) == (256, 16, 4)
    ids = language_model.batch(9, 2, 5)
    assert ids.shape == (2, 6) and ids.max() < 9
    np.testing.assert_array_equal(ids, language_model.batch(9, 2, 5))


@pytest.mark.long
def test_steps_of_the_model_that_glassllm_ships() -> None:
    pytest.importorskip("glassllm")
    job: Job = {"what": "glassllm", "rows": 1, "threads": 1, "warm_up": 0, "repeats": 1}
    for worker in (language_model.npattn_worker, language_model.glassllm_worker):
        assert len(worker(job)["seconds"]) == 1
