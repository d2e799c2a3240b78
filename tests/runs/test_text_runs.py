"""Runs on text: started, stopped, resumed, scored and loaded as those on pairs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import CheckpointError, LanguageModel, LanguageModelConfig
from npattn._internal.files import load_arrays
from npattn.layers import cross_entropy
from npattn.optim import linear_rate
from npattn.runs import Run, Settings, load_model, load_run, load_text_model, new_run, read_log
from npattn.runs.kinds import measured
from npattn.tasks import BEGIN, TextTask, Window, load_text
from npattn.training import trainer as training

SIZES: dict[str, Any] = {"d_model": 8, "n_heads": 2, "layers": 1, "batch_size": 3, "steps": 7}
TEXT = b"".join(b"the %d of %d\n" % (i, i * i) for i in range(60))


@pytest.fixture
def task(tmp_path: Path) -> TextTask:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT)
    return load_text(files=[path], context=12)


@pytest.fixture(autouse=True)
def every_step_uses_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MIN_OPERATIONS", 0.0)


def files_of(folder: Path) -> dict[str, Any]:
    """Return what a run has written; the seconds of two runs differ."""
    log = {name: column for name, column in read_log(folder).items() if name != "minutes"}
    arrays: dict[str, Any] = {"log": log, "run.json": json.loads((folder / "run.json").read_text(encoding="utf-8"))}
    for name in ("last.npz", "best.npz"):
        found, metadata = load_arrays(folder / name)
        arrays[name] = {key: array.tobytes() for key, array in found.items()}, {**metadata, "seconds": 0}
    return arrays


@pytest.mark.parametrize("workers", [1, 2])
def test_a_resumed_run_ends_on_the_same_bits(tmp_path: Path, task: TextTask, workers: int) -> None:
    given = SIZES | {"workers": workers, "dropout": 0.2, "attention_dropout": 0.1, "checkpoint_every": 2,
                     "validate_every": 3, "clip": 0.5}  # fmt: skip
    whole = [(p.step, p.loss, p.scores) for p in new_run(tmp_path / "whole", task, given).train()]
    parts = []
    run = new_run(tmp_path / "parts", task, given)
    for stop in (1, 3, 6, 7):                                 # the checkpoints are those of no step, 2, 6 and 7
        for p in run.train():
            parts.append((p.step, p.loss, p.scores))
            if p.step == stop:
                break
        run = Run.resume(tmp_path / "parts", load_text(**task.options))
    assert sorted({step: (loss, scores) for step, loss, scores in parts}.items()) == [(s, (x, y)) for s, x, y in whole]
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "parts")
    assert [step for step, _, scores in whole if scores] == [3, 6, 7]


def test_tokens_are_the_bytes_of_the_batch(tmp_path: Path, task: TextTask) -> None:
    tokens = [p.tokens for p in new_run(tmp_path / "run", task, SIZES).train()]
    targets = [(ids[:, 1:] != BEGIN).sum() for (ids,) in map(task.batches(3, 0).__getitem__, range(7))]
    assert tokens == targets and max(tokens) == 36


def test_run_json_says_what_is_trained(tmp_path: Path, task: TextTask) -> None:
    run = new_run(tmp_path / "run", task, SIZES | {"norm": "layer", "validation_items": 5})
    description = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert [description[name] for name in ("task", "model", "codec")] == ["text", "LanguageModel", {"unit": "bytes"}]
    config = run.config
    assert (config.vocab, config.pad_id, config.bos_id, config.n_layers, config.d_ff) == (257, 256, 256, 1, 22)
    again = Run.resume(tmp_path / "run", task)
    assert again.config == config and config.norm == "layer" and isinstance(again.model, LanguageModel)
    for name, value in (("vocab", 3), ("pad_id", 1), ("n_encoder_layers", 2)):
        with pytest.raises(TypeError, match=rf"^given: expected names among .*, n_layers, .*, got '{name}'$"):
            new_run(tmp_path / "other", task, {name: value})


def test_other_text_is_refused(tmp_path: Path, task: TextTask) -> None:
    new_run(tmp_path / "run", task, SIZES)
    with pytest.raises(CheckpointError, match=r"run: expected the data that the run began with, got other data$"):
        Run.resume(tmp_path / "run", load_text(**task.options | {"context": 11}))


class TestScores:
    def test_bits_are_those_of_the_cross_entropy(self) -> None:
        """Of each target that counts, − log₂ p after all ids before it in the window, whatever stands beside it."""
        config = LanguageModelConfig(257, d_model=8, n_layers=1, n_heads=2, pad_id=BEGIN)
        model = LanguageModel(config, dtype=np.float64)
        rng = np.random.default_rng(0)
        windows = [Window(rng.integers(0, 256, n).astype(np.uint16), first) for n, first in ((9, 0), (5, 2), (2, 0))]
        found = measured(model, windows * 7, workers=2)       # more than go through the model together
        assert len(found) == 21
        for (bits, wrong, count), window in zip(found, windows * 7, strict=True):
            ids = window.ids.astype(int)
            logits = model.forward(ids[None, :-1])[0][0, window.first :]
            loss, _ = cross_entropy(logits, ids[1 + window.first :])
            assert count == len(ids) - 1 - window.first and type(bits) is float
            assert bits == pytest.approx(float(loss) * count / math.log(2), rel=1e-12)
            assert wrong == (logits.argmax(-1) != ids[window.first + 1 :]).sum() and type(wrong) is int

    def test_a_begin_is_never_a_target_of_a_score(self, task: TextTask) -> None:
        assert not any((window.ids[1:] == BEGIN).any() for window in (*task.validation, *task.test))

    def test_large_logits_stay_finite(self) -> None:
        model = LanguageModel(LanguageModelConfig(257, d_model=8, n_layers=1, n_heads=2, pad_id=BEGIN))
        model.params["output.W"] *= 1e6
        ((bits, _, _),) = measured(model, [Window(np.array([BEGIN, 65, 66]), 0)])
        assert math.isfinite(bits)

    def test_the_validation_is_that_of_the_first_windows(self, tmp_path: Path, task: TextTask) -> None:
        run = new_run(tmp_path / "run", task, SIZES | {"validation_items": 4})
        assert run.validate() == task.score(measured(run.model, task.validation[:4]))
        assert run.score(run.model, task.test) != run.validate()
        bits = run.validate()["bits per byte"]
        assert 7 < bits < 10                                  # of a model that has learnt nothing

    def test_the_best_model_has_the_fewest_bits(
        self, tmp_path: Path, task: TextTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bits = {1: 3.0, 2: 2.0, 3: 2.5, 4: 2.0, 5: 2.0, 6: 4.0, 7: 4.0}
        wrong = {4: 0.5, 5: 0.75}
        monkeypatch.setattr(Run, "validate", lambda run: {
            "bits per byte": bits[run.trainer.steps], "byte error rate": wrong.get(run.trainer.steps, 0.75),
        })  # fmt: skip
        run = new_run(tmp_path / "run", task, SIZES | {"validate_every": 1})
        assert [p.step for p in run.train() if p.is_best] == [1, 2, 4]


def test_the_best_model_is_loaded(tmp_path: Path, task: TextTask) -> None:
    run = new_run(tmp_path / "run", task, SIZES)
    with pytest.raises(FileNotFoundError, match=r"run: expected best\.npz, but the run has not been validated yet$"):
        load_text_model(tmp_path / "run")
    for _ in run.train():
        pass
    found = load_text_model(str(tmp_path / "run"))
    assert found.encode("é") == [BEGIN, 0xC3, 0xA9] and found.decode([0xC3, 0xA9, BEGIN]) == "é"
    assert found.model.config == run.config and found.description["settings"]["steps"] == 7
    scores = [run.score(found.model, task.validation)[name] for name in task.score_names]
    assert min(read_log(tmp_path / "run")["bits per byte"]) == pytest.approx(scores[0], abs=1e-4)


def test_the_two_kinds_of_runs_are_told_apart(tmp_path: Path, task: TextTask) -> None:
    for _ in new_run(tmp_path / "run", task, SIZES).train():
        pass
    for load in (load_run, load_model):
        with pytest.raises(CheckpointError) as caught:
            load(tmp_path / "run")
        assert str(caught.value) == (
            f"{tmp_path / 'run'}: expected a model that turns texts into texts, got a language model, which goes on "
            "with a text: npattn generate uses it, and npattn.runs.load_text_model loads it"
        )
    path = tmp_path / "run" / "run.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(description | {"model": "Transformer"}), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        load_text_model(tmp_path / "run")
    assert str(caught.value) == (
        f"{tmp_path / 'run'}: expected a language model, got a model that turns texts into texts: npattn predict uses "
        "it, and npattn.load_model loads it"
    )
    for name in ("Diffusion", ["LanguageModel"]):
        path.write_text(json.dumps(description | {"model": name}), encoding="utf-8")
        message = f"expected a model among Transformer, LanguageModel, got {name!r}"
        for call in (load_run, load_text_model, lambda folder: Run.resume(folder, task)):
            with pytest.raises(CheckpointError) as caught:
                call(tmp_path / "run")
            assert str(caught.value) == f"{path}: {message}"


def test_a_damaged_run_is_refused(tmp_path: Path, task: TextTask) -> None:
    run = new_run(tmp_path / "run", task, SIZES)
    for _ in run.train():
        pass
    path = tmp_path / "run" / "run.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"bytes"', '"words"'), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"run\.json: no valid codec \(codec: expected \{'unit': 'bytes'\}, got"):
        load_text_model(tmp_path / "run")
    path.write_text(text, encoding="utf-8")
    LanguageModel(LanguageModelConfig(9, d_model=8, n_layers=1, n_heads=2)).save(tmp_path / "run" / "best.npz")
    message = r"expected vocab=257, pad_id=256, bos_id=256 as in run\.json, got vocab=9, pad_id=None, bos_id=None$"
    with pytest.raises(CheckpointError, match=message):
        load_text_model(tmp_path / "run")


def test_a_loss_that_is_not_finite_names_a_parameter(tmp_path: Path, task: TextTask) -> None:
    run = new_run(tmp_path / "run", task, SIZES | {"workers": 1})
    run.model.params["layers.0.attention.W_Q"][0, 0] = np.inf
    message = r"^step 1: expected a finite loss, got nan \('layers.0.attention.W_Q' holds numbers that are not "
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=message):
        next(run.train())


def test_settings_of_a_run_by_hand(tmp_path: Path, task: TextTask) -> None:
    """`Run` is the sum of its parts: batches, rates and steps, as for pairs."""
    config = LanguageModelConfig(257, d_model=8, n_layers=1, n_heads=2, pad_id=BEGIN, bos_id=BEGIN)
    settings = Settings(steps=3, batch_size=2, peak_rate=1e-2, warmup=1, smoothing=0.0, seed=4, workers=1)
    losses = [p.loss for p in Run.start(tmp_path / "run", task, config, settings).train()]
    other = Run(tmp_path / "other", task, config, settings)
    batches = task.batches(2, 4)
    assert losses == [other.trainer.step(*batches[i], lr=linear_rate(i + 1, 4, 1e-2, 1)) for i in range(3)]
