"""`new_run` takes names of settings and sizes alone, and paths of any type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npattn.runs import load_run, new_run
from npattn.tasks import Task, load_task
from support.command_line import write_pairs

SIZES = {"d_model": 8, "n_heads": 2, "layers": 1, "batch_size": 8, "steps": 2, "workers": 1}


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return load_task(write_pairs(tmp_path))


@pytest.mark.parametrize("name", ["d_modl", "src_vocab", "ranks", "task", "folder"])
def test_other_names_are_refused(task: Task, tmp_path: Path, name: str) -> None:
    with pytest.raises(TypeError, match=rf"^given: expected names among activation, .*, got '{name}'$"):
        new_run(tmp_path / "run", task, SIZES | {name: 8})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", "10", "steps: expected an integer, got '10'"),
        ("steps", 2.0, "steps: expected an integer, got 2.0"),
        ("d_model", "8", "d_model: expected an integer, got '8'"),
        ("layers", None, "layers: expected an integer, got None"),
        ("batch_size", [8], r"batch_size: expected an integer, got [8]"),
    ],
)
def test_a_value_of_another_type_is_named(task: Task, tmp_path: Path, name: str, value: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        new_run(tmp_path / "run", task, SIZES | {name: value})
    assert str(caught.value) == message


def test_every_name_reaches_the_run(task: Task, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", task, SIZES | {"norm": "post", "seed": 3, "dropout": 0.2})
    assert (run.config.norm, run.config.dropout, run.config.n_encoder_layers, run.config.d_ff) == ("post", 0.2, 1, 32)
    assert (run.settings.seed, run.settings.steps, run.settings.batch_size) == (3, 2, 8)


def test_the_path_may_be_a_text(task: Task, tmp_path: Path) -> None:
    for _ in new_run(f"{tmp_path}/run", task, SIZES).train():
        pass
    assert load_run(f"{tmp_path}/run")("abc") == load_run(tmp_path / "run")("abc")
    for call in (load_run, lambda folder: new_run(folder, task, SIZES)):
        with pytest.raises(TypeError, match=r"^run: expected the path of a folder, got 7$"):
            call(7)


@pytest.mark.parametrize(
    ("steps", "every", "warmup"), [(5, 1, 1), (400, 40, 40), (4_000, 400, 400), (20_000, 1_000, 500)]
)
def test_validations_and_warmup_follow_the_steps(
    task: Task, tmp_path: Path, steps: int, every: int, warmup: int
) -> None:
    settings = new_run(tmp_path / "run", task, SIZES | {"steps": steps}).settings
    assert (settings.validate_every, settings.warmup, settings.average) == (every, warmup, None)
