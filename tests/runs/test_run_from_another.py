"""A run that begins with the model of another one: its weights, its sizes and its codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import CheckpointError, Transformer
from npattn.runs import Run, TrainedModel, load_run, load_text_model, new_run
from npattn.runs.settings import read_description
from npattn.tasks import Task, load_task, load_text

SIZES: dict[str, Any] = {"d_model": 8, "n_heads": 2, "layers": 1, "batch_size": 4, "steps": 3, "workers": 1}
FINER: dict[str, Any] = {"batch_size": 2, "steps": 4, "workers": 1, "checkpoint_every": 2, "validate_every": 2}


def task_of(folder: Path, name: str, lines: str, **options: Any) -> Task:
    path = folder / f"{name}.tsv"
    path.write_text(lines.replace(" ", "\t").replace(";", "\n"), encoding="utf-8")
    return load_task(path, **options)


def trained(run: Run) -> Run:
    for _ in run.train():
        pass
    return run


@pytest.fixture
def first(tmp_path: Path) -> TrainedModel:
    """A model that has learnt to read abcde and to write uvwxyz."""
    task = task_of(tmp_path, "first", "ab uv;bc vw;cd wx;de xy;ea yu;ae uy;ac uz;ba zz")
    trained(new_run(tmp_path / "first", task, SIZES))
    return load_run(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path) -> Task:
    return task_of(tmp_path, "second", "ab wvu;ca uvwuvw;ad u;Bb v;b w")


def bits(run: Run) -> tuple[bytes, Any]:
    return run.model.params.flat.tobytes(), run.best


def test_weights_sizes_and_codec_are_those_of_the_model(tmp_path: Path, first: TrainedModel, second: Task) -> None:
    run = new_run(tmp_path / "run", second, FINER, start=first)
    assert run.model.params.flat.tobytes() == first.transformer.params.flat.tobytes()
    assert run.model.params.flat is not first.transformer.params.flat
    assert run.config == first.transformer.config
    assert run.task.codec.source_vocabulary == first.codec.source_vocabulary
    assert (first.codec.max_target_length, run.task.codec.max_target_length) == (2, 6)
    codec = run.task.codec
    texts = [(codec.source_vocabulary.decode(p.source), codec.decode_target(p.target[1:-1])) for p in run.task.train]
    old = second.codec
    expected = [(old.source_vocabulary.decode(p.source), old.decode_target(p.target[1:-1])) for p in second.train]
    known = [["<unk>" if s not in first.codec.source_vocabulary else s for s in source] for source, _ in expected]
    assert texts == list(zip(known, [target for _, target in expected], strict=True))
    trained(run)
    assert load_run(tmp_path / "run").codec == codec
    assert first.transformer.params.flat.tobytes() == load_run(tmp_path / "first").transformer.params.flat.tobytes()


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_a_stopped_run_ends_on_the_same_bits(tmp_path: Path, first: TrainedModel, second: Task, stop: int) -> None:
    whole = trained(new_run(tmp_path / "whole", second, FINER, start=first))
    run = new_run(tmp_path / "stopped", second, FINER, start=first)
    for _, _progress in zip(range(stop), run.train(), strict=False):
        pass
    resumed = Run.resume(tmp_path / "stopped", second)
    assert resumed.trainer.steps == stop // 2 * 2
    assert bits(trained(resumed)) == bits(whole) != bits(trained(new_run(tmp_path / "new", second, SIZES | FINER)))


def test_the_first_model_is_removed_with_its_run(tmp_path: Path, first: TrainedModel, second: Task) -> None:
    new_run(tmp_path / "run", second, FINER, start=first)
    (tmp_path / "run" / "run.json").unlink()
    run = new_run(tmp_path / "run", second, SIZES)
    assert not (tmp_path / "run" / "first.npz").exists()
    assert Run.resume(tmp_path / "run", second).model.params.flat.tobytes() == run.model.params.flat.tobytes()


def test_a_first_model_of_other_sizes(tmp_path: Path, first: TrainedModel, second: Task) -> None:
    run = new_run(tmp_path / "run", second, FINER, start=first)
    config = run.config.__class__(**{**vars(run.config), "d_ff": 12})
    Transformer(config).save(tmp_path / "run" / "first.npz")
    with pytest.raises(CheckpointError, match=r"first\.npz: expected TransformerConfig\(.* as in run\.json, got Trans"):
        Run.resume(tmp_path / "run", second)


@pytest.mark.parametrize(("given", "message"), [
    ({"layers": 2}, "n_encoder_layers: expected 1 as in the model to begin with, got 2"),
    ({"d_model": 16}, "d_model: expected 8 as in the model to begin with, got 16"),
    ({"norm": "post"}, "norm: expected pre as in the model to begin with, got post"),
])  # fmt: skip
def test_other_sizes(tmp_path: Path, first: TrainedModel, second: Task, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        new_run(tmp_path / "run", second, FINER | given, start=first)
    assert not (tmp_path / "run").exists()


def test_dropout_may_change(tmp_path: Path, first: TrainedModel, second: Task) -> None:
    given = {"layers": 1, "d_model": 8, "dropout": 0.3, "attention_dropout": 0.2}
    run = new_run(tmp_path / "run", second, FINER | given, start=first)
    assert (run.config.dropout, run.config.attention_dropout, run.config.d_ff) == (0.3, 0.2, 32)
    assert new_run(tmp_path / "same", second, FINER, start=first).config.dropout == first.transformer.config.dropout
    assert read_description(tmp_path / "run")["config"]["dropout"] == 0.3


@pytest.mark.parametrize(("lines", "options", "message"), [
    ("ab uvq;ba uq;cc qq;dd qqq", {}, "targets: expected symbols that the model to begin with can write, got 'q'"),
    ("ab uv;ba u", {"unit": "words"},
     "unit: expected characters and characters as in the model to begin with, got words and words"),
])  # fmt: skip
def test_data_that_the_model_cannot_learn(
    tmp_path: Path, first: TrainedModel, lines: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        new_run(tmp_path / "run", task_of(tmp_path, "other", lines, **options), FINER, start=first)


def test_text_goes_on_from_a_model_of_text(tmp_path: Path, first: TrainedModel) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be " * 5, encoding="utf-8")
    (tmp_path / "b.txt").write_text("that is the question " * 5, encoding="utf-8")
    tasks = [load_text(files=[tmp_path / name], context=8) for name in ("a.txt", "b.txt")]
    trained(new_run(tmp_path / "a", tasks[0], SIZES))
    model = load_text_model(tmp_path / "a")
    run = new_run(tmp_path / "b", tasks[1], {"steps": 2, "workers": 1}, start=model)
    assert np.array_equal(run.model.params.flat, model.model.params.flat)
    assert Run.resume(tmp_path / "b", tasks[1]).model.params.flat.tobytes() == model.model.params.flat.tobytes()
    with pytest.raises(ValueError, match=r"^start: expected a LanguageModel for this task, got a Transformer$"):
        new_run(tmp_path / "c", tasks[1], {}, start=first)
