"""Runs in a folder: a run that is stopped anywhere and resumed ends on the same bits as a run without a stop."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import CheckpointError, Transformer, TransformerConfig
from npattn._internal.files import FolderLock, load_arrays, save_arrays
from npattn.optim import linear_rate
from npattn.runs.load import load_run
from npattn.runs.log import read_log
from npattn.runs.prediction import predict
from npattn.runs.run import Progress, Run, Settings, read_description
from npattn.tasks import BucketedBatches, Task, load_task

SETTINGS = Settings(
    steps=7, batch_size=8, peak_rate=0.01, warmup=2, seed=5, workers=1,
    validate_every=3, validation_items=2, checkpoint_every=2,
)  # fmt: skip
SCORES = {3: 0.2, 6: 0.5, 7: 0.4}  # of the validations, so that step 6 is the best


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Return a task of 60 words and their reverses: 51 pairs for training, so 7 batches an epoch."""
    rng = np.random.default_rng(0)
    words = sorted({"".join(rng.choice(list("abcde"), rng.integers(2, 6))) for _ in range(70)})[:60]
    path = tmp_path_factory.mktemp("data") / "words.tsv"
    path.write_text("".join(f"{word}\t{word[::-1]}\n" for word in words), encoding="utf-8")
    return load_task(path)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each validation return the score in `SCORES`; the model itself learns nothing in seven steps."""

    def validate(run: Run) -> dict[str, float]:
        return {"exact match": SCORES[run.trainer.steps], "error rate": 1.25}

    monkeypatch.setattr(Run, "validate", validate)


def config_of(task: Task, **options: Any) -> TransformerConfig:
    sizes = (len(task.codec.source_vocabulary), len(task.codec.target_vocabulary))
    return TransformerConfig(*sizes, **{
        "d_model": 8, "n_heads": 2, "d_ff": 12, "n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0.2,
        "attention_dropout": 0.1,
    } | options)  # fmt: skip


def start(folder: Path, task: Task, **changes: Any) -> Run:
    return Run.start(folder, task, config_of(task), dataclasses.replace(SETTINGS, **changes))


def finished(folder: Path, task: Task, **changes: Any) -> Run:
    run = start(folder, task, **changes)
    for _ in run.train():
        pass
    return run


def outcome(run: Run) -> dict[str, Any]:
    """Return everything that a run writes and holds, but for the time it took."""
    last, metadata = load_arrays(run.folder / "last.npz")
    best, _ = load_arrays(run.folder / "best.npz")
    arrays = {f"{file}.{name}": array.tobytes() for file, all_ in (("last", last), ("best", best))
              for name, array in all_.items()}  # fmt: skip
    log = {name: column for name, column in read_log(run.folder).items() if name != "minutes"}
    own = {"model": run.model.params.flat.tobytes(), "best": run.best, "trainer": run.trainer.state_dict()}
    return arrays | own | {"metadata": metadata | {"seconds": None}, "log": log}


@pytest.mark.usefixtures("scripted")
class TestResume:
    @pytest.mark.parametrize(("workers", "stops"), [(1, range(8)), (2, (1, 3, 6))])
    def test_stopped_after_any_step(self, tmp_path: Path, task: Task, workers: int, stops: Sequence[int]) -> None:
        undisturbed = outcome(finished(tmp_path / "whole", task, workers=workers))
        for stop in stops:
            folder = tmp_path / f"stopped-{stop}"
            for _, _progress in zip(range(stop), start(folder, task, workers=workers).train(), strict=False):
                pass
            run = Run.resume(folder, task)
            assert run.trainer.steps == (stop // 2 * 2 if stop < 7 else 7)
            steps = [progress.step for progress in run.train()]
            assert steps == list(range(run.trainer.steps - len(steps) + 1, 8))
            assert outcome(run) == undisturbed

    def test_stopped_again_and_again(self, tmp_path: Path, task: Task) -> None:
        """Every resume takes two steps, as far as the next checkpoint."""
        undisturbed = outcome(finished(tmp_path / "whole", task))
        run, parts = start(tmp_path / "pieces", task), 0
        while run.trainer.steps < 7:
            parts += 1
            for _, _progress in zip(range(2), run.train(), strict=False):
                pass
            run = Run.resume(tmp_path / "pieces", task)
        assert parts == 4
        assert outcome(run) == undisturbed

    def test_a_finished_run_takes_no_more_steps(self, tmp_path: Path, task: Task) -> None:
        before = outcome(finished(tmp_path, task))
        run = Run.resume(tmp_path, task)
        assert list(run.train()) == []
        assert outcome(run) == before

    def test_time_adds_up(self, tmp_path: Path, task: Task) -> None:
        run = start(tmp_path, task)
        run.seconds = 1000.0
        first = [progress.seconds for _, progress in zip(range(4), run.train(), strict=False)]
        resumed = Run.resume(tmp_path, task)
        assert resumed.seconds == first[3]                    # the time of the checkpoint
        second = [progress.seconds for progress in resumed.train()]
        assert 1000 < first[0] < first[1] < first[3] < second[0] < second[-1] < 2000
        assert read_log(tmp_path)["minutes"][0] == pytest.approx(1000 / 60, abs=1)

    def test_settings_and_sizes_come_from_the_folder(self, tmp_path: Path, task: Task) -> None:
        run = start(tmp_path, task, smoothing=0.25, clip=None, peak_rate=0.5)
        again = Run.resume(tmp_path, task)
        assert again.settings == run.settings
        assert again.config == run.config
        assert again.trainer.smoothing == 0.25
        assert again.trainer.clip is None

    def test_the_number_of_workers_is_kept(self, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another number of shards would draw other dropout, so a resumed run has as many workers as before."""
        monkeypatch.setattr("npattn.training.trainer.cores", lambda: 3)
        monkeypatch.setattr("npattn.training.trainer.can_limit_blas", lambda: True)
        assert start(tmp_path, task, workers=None).trainer.workers == 3
        monkeypatch.setattr("npattn.training.trainer.cores", lambda: 2)
        assert Run.resume(tmp_path, task).trainer.workers == 3


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[float, float]]:
    """Return the scores of validations by step, for a test to fill; other steps have those of step 0."""
    scores = {0: (0.0, 1.0)}

    def validate(run: Run) -> dict[str, float]:
        return dict(zip(run.task.score_names, scores.get(run.trainer.steps, scores[0]), strict=True))

    monkeypatch.setattr(Run, "validate", validate)
    return scores


class TestEnds:
    """A run can end early, and go on after its end."""

    @pytest.mark.parametrize(("patience", "last"), [(1, 3), (2, 6), (3, 7), (None, 7)])
    def test_patience(self, tmp_path: Path, task: Task, judged: Any, patience: int | None, last: int) -> None:
        judged |= {2: (0.5, 0.6), 3: (0.5, 0.6), 4: (0.5, 0.5), 7: (0.2, 0.1)}   # the same score is no better one
        run = start(tmp_path, task, validate_every=1, patience=patience)
        assert not run.is_finished
        steps = [(progress.step, progress.steps, progress.is_best) for progress in run.train()]
        assert steps == [(step, 7, step <= 4) for step in range(1, last + 1)]    # a later equal one is kept
        assert run.is_finished and run.saved == last == Run.resume(tmp_path, task).trainer.steps
        resumed = Run.resume(tmp_path, task)
        assert resumed.is_finished and list(resumed.train()) == []

    @pytest.mark.parametrize("stop", [2, 4, 5, 7, 9])
    def test_patience_after_a_stop(self, tmp_path: Path, task: Task, judged: Any, stop: int) -> None:
        judged[2] = 0.5, 0.5
        changes: dict[str, Any] = {"validate_every": 1, "patience": 4, "steps": 12, "checkpoint_every": 3}
        undisturbed = outcome(finished(tmp_path / "whole", task, **changes))
        assert len(undisturbed["log"]["step"]) == 6
        for _, _progress in zip(range(stop), start(tmp_path / "stopped", task, **changes).train(), strict=False):
            pass
        run = Run.resume(tmp_path / "stopped", task)
        assert (run.worse, run.ended) == {0: (0, None), 3: (1, None), 6: (4, 12)}[run.trainer.steps]
        assert [progress.step for progress in run.train()] == list(range(min(stop, 6) // 3 * 3 + 1, 7))
        assert outcome(run) == undisturbed

    def test_more_steps_after_the_end(self, tmp_path: Path, task: Task, judged: Any) -> None:
        finished(tmp_path / "run", task)
        run = Run.resume(tmp_path / "run", task, steps=11)
        assert run.settings.steps == 11 and read_description(tmp_path / "run")["settings"]["steps"] == 11
        progress = [(each.step, each.steps, each.rate) for each in run.train()]
        assert progress == [(step, 11, linear_rate(step, 12, 0.01, 2)) for step in range(8, 12)]
        assert Run.resume(tmp_path / "run", task).is_finished
        assert read_log(tmp_path / "run")["step"] == [3, 6, 7, 9, 11]

    @pytest.mark.parametrize("stop", [0, 1, 2, 3])
    def test_a_stop_among_more_steps(self, tmp_path: Path, task: Task, judged: Any, stop: int) -> None:
        outcomes = []
        for name in ("whole", "stopped"):
            finished(tmp_path / name, task)
            run = Run.resume(tmp_path / name, task, steps=11)
            for _, _progress in zip(range(stop if name == "stopped" else 4), run.train(), strict=False):
                pass
            run = Run.resume(tmp_path / name, task)
            for _progress in run.train():
                pass
            outcomes.append(outcome(run))
        assert outcomes[0] == outcomes[1]

    def test_more_steps_after_patience(self, tmp_path: Path, task: Task, judged: Any) -> None:
        """Patience begins anew: after two more validations the run ends again, unless one is better."""
        finished(tmp_path, task, validate_every=1, patience=2)
        run = Run.resume(tmp_path, task, steps=20)
        assert run.trainer.steps == 3 and not run.is_finished
        assert [progress.step for progress in run.train()] == [4, 5] and run.is_finished and run.worse == 4
        judged[7] = 0.1, 0.9
        assert [progress.step for progress in Run.resume(tmp_path, task, steps=30).train()] == [6, 7, 8, 9]

    def test_more_steps_on_other_ranks_keep_the_first_settings(self, tmp_path: Path, task: Task, judged: Any) -> None:
        finished(tmp_path, task)
        text = (tmp_path / "run.json").read_text(encoding="utf-8")
        (tmp_path / "run.json").write_text(text.replace('"ranks": 1', '"ranks": 2'), encoding="utf-8")
        assert Run.resume(tmp_path, task, steps=9, workers=3).trainer.workers == 3
        settings = read_description(tmp_path)["settings"]
        assert (settings["steps"], settings["ranks"], settings["workers"]) == (9, 2, 1)

    @pytest.mark.parametrize("steps", [6, 0, -1, 2.5])
    def test_fewer_steps_are_an_error(self, tmp_path: Path, task: Task, judged: Any, steps: Any) -> None:
        finished(tmp_path, task)
        with pytest.raises((ValueError, TypeError), match="steps: expected"):
            Run.resume(tmp_path, task, steps=steps)
        assert Run.resume(tmp_path, task, steps=7).is_finished

    @pytest.mark.parametrize(("best_by", "best"), [(None, 6), ("exact match", 6), ("error rate", 7)])
    def test_the_score_that_decides(
        self, tmp_path: Path, task: Task, judged: Any, best_by: str | None, best: int
    ) -> None:
        judged |= {3: (0.4, 0.5), 6: (0.5, 0.4), 7: (0.4, 0.3)}
        run = start(tmp_path, task, best_by=best_by)
        found = [progress.step for progress in run.train() if progress.is_best]
        assert found[-1] == best and tuple(run.best or ()) == judged[best]

    def test_a_tie_of_the_score_that_decides_goes_to_the_headline(
        self, tmp_path: Path, task: Task, judged: Any
    ) -> None:
        judged |= {3: (0.5, 0.3), 6: (0.4, 0.3), 7: (0.6, 0.3)}
        assert [p.step for p in start(tmp_path, task, best_by="error rate").train() if p.is_best] == [3, 7]

    def test_an_unknown_score(self, tmp_path: Path, task: Task) -> None:
        with pytest.raises(ValueError, match=r"^best_by: expected exact match or error rate, got 'loss'$"):
            start(tmp_path / "run", task, best_by="loss")
        with pytest.raises(TypeError, match=r"^best_by: expected the name of a score or None, got int$"):
            dataclasses.replace(SETTINGS, best_by=1)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(("name", "value"), [("worse", -1), ("worse", 1.5), ("ended", 0), ("ended", "7")])
    def test_counts_that_no_run_writes(self, tmp_path: Path, task: Task, judged: Any, name: str, value: Any) -> None:
        finished(tmp_path, task)
        arrays, metadata = load_arrays(tmp_path / "last.npz")
        save_arrays(tmp_path / "last.npz", arrays, metadata | {name: value})
        with pytest.raises(CheckpointError, match=f"does not fit this run .{name}: expected"):
            Run.resume(tmp_path, task)


class TestTrain:
    @pytest.mark.usefixtures("scripted")
    def test_progress(self, tmp_path: Path, task: Task, capsys: pytest.CaptureFixture[str]) -> None:
        progress = list(start(tmp_path, task).train())
        batches = BucketedBatches(task.train, 8, seed=5)
        assert [p.step for p in progress] == [1, 2, 3, 4, 5, 6, 7]
        assert {p.steps for p in progress} == {7}
        assert [p.rate for p in progress] == [linear_rate(step, 8, 0.01, 2) for step in range(1, 8)]
        assert progress[-1].rate > 0                          # a rate of 0 would waste the last step
        assert [p.tokens for p in progress] == [int((batches[i].tgt[:, 1:] != 0).sum()) for i in range(7)]
        assert [p.scores and p.scores["exact match"] for p in progress] == [None, None, 0.2, None, None, 0.5, 0.4]
        assert [p.is_best for p in progress] == [False, False, True, False, False, True, False]
        assert capsys.readouterr() == ("", "")

    def test_every_step_is_a_step_of_the_trainer(self, tmp_path: Path, task: Task) -> None:
        """The losses equal those of trainer, batches and rate called by hand."""
        losses = [progress.loss for progress in start(tmp_path / "one", task).train()]
        run, batches = start(tmp_path / "two", task), BucketedBatches(task.train, 8, seed=5)
        by_hand = [run.trainer.step(*batches[i], lr=linear_rate(i + 1, 8, 0.01, 2)) for i in range(7)]
        assert losses == by_hand
        assert run.trainer.seed == 5

    @pytest.mark.usefixtures("scripted")
    def test_a_folder_may_be_text(self, tmp_path: Path, task: Task) -> None:
        folder = str(tmp_path / "run")
        for _ in Run.start(folder, task, config_of(task), SETTINGS).train():
            pass
        assert Run.resume(folder, task).folder == Run(folder, task, config_of(task), SETTINGS).folder == Path(folder)
        assert read_log(folder) == read_log(Path(folder)) and read_description(folder) == read_description(Path(folder))

    def test_without_dropout_there_is_no_seed(self, tmp_path: Path, task: Task) -> None:
        none = {"dropout": 0.0, "attention_dropout": 0.0}
        for seed, options in ((None, none), (5, none | {"dropout": 0.2}), (5, none | {"attention_dropout": 0.2})):
            assert Run(tmp_path, task, config_of(task, **options), SETTINGS).trainer.seed == seed

    def test_a_run_from_before_attention_dropout(self, tmp_path: Path, task: Task) -> None:
        """A `run.json` without the field stands for 0; every new one states it."""
        run = Run.start(tmp_path, task, config_of(task, attention_dropout=0.0), SETTINGS)
        path = tmp_path / "run.json"
        description = json.loads(path.read_text(encoding="utf-8"))
        assert description["config"].pop("attention_dropout") == 0
        path.write_text(json.dumps(description), encoding="utf-8")
        assert Run.resume(tmp_path, task).config == run.config

    def test_seeds(self, tmp_path: Path, task: Task) -> None:
        models = [start(tmp_path / str(i), task, seed=seed).model.params.flat for i, seed in enumerate((5, 5, 6))]
        np.testing.assert_array_equal(models[0], models[1])
        assert (models[0] != models[2]).any()

    def test_validates_on_the_first_items(self, tmp_path: Path, task: Task) -> None:
        run = start(tmp_path, task)
        items = task.validation[:2]
        predictions = predict(run.model, task.codec, [item.source for item in items])
        assert run.validate() == task.score(predictions, items)
        assert len(task.validation) == 3

    def test_a_text_that_is_too_long_counts_as_wrong(self, tmp_path: Path, task: Task) -> None:
        run, words = start(tmp_path, task), ["abc", "ba"]
        found = run.predict(run.model, [words[0], "a" * 20_000, words[1]])
        assert found == [predict(run.model, task.codec, words)[0], "", predict(run.model, task.codec, words)[1]]

    @pytest.mark.usefixtures("scripted")
    def test_the_settings_say_when_to_save(self, tmp_path: Path, task: Task) -> None:
        written = []
        for progress in start(tmp_path, task).train():
            if (tmp_path / "last.npz").exists():
                written.append((progress.step, load_arrays(tmp_path / "last.npz")[1]["trainer"]["steps"]))
        assert written == [(2, 2), (3, 2), (4, 4), (5, 4), (6, 6), (7, 7)]


class TestFiles:
    @pytest.mark.usefixtures("scripted")
    def test_names_of_files(self, tmp_path: Path, task: Task) -> None:
        finished(tmp_path / "a" / "b", task)
        assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
            "best.npz", "last.npz", "log.tsv", "run.json"
        ]  # fmt: skip

    @pytest.mark.usefixtures("scripted")
    def test_log(self, tmp_path: Path, task: Task) -> None:
        run = start(tmp_path, task)
        assert (tmp_path / "log.tsv").read_text() == "step\tminutes\tloss\trate\texact match\terror rate\n"
        progress = [p for p in run.train() if p.scores]
        lines = (tmp_path / "log.tsv").read_text().splitlines()[1:]
        assert lines == [
            f"{p.step}\t{p.seconds / 60:.2f}\t{p.mean_loss:.4f}\t{p.rate:.3e}\t{SCORES[p.step]:.4f}\t1.2500"
            for p in progress
        ]
        assert [line.split("\t")[0] for line in lines] == ["3", "6", "7"]

    def test_description(self, tmp_path: Path, task: Task) -> None:
        run = start(tmp_path, task, workers=2)
        description = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
        assert description == read_description(tmp_path)
        assert description["format"] == 1
        assert description["task"] == task.name
        assert description["options"] == {
            "unit": "characters", "target_unit": "characters", "lowercase": False, "validation": None, "test": None
        }  # fmt: skip
        assert description["fingerprint"] == task.fingerprint
        assert TransformerConfig(**description["config"]) == run.config
        assert Settings(**description["settings"]) == run.settings
        assert description["codec"] == task.codec.to_json()

    @pytest.mark.usefixtures("scripted")
    @pytest.mark.parametrize(("lower_is_better", "best_step"), [(False, 6), (True, 3)])
    def test_the_best_model_is_kept(self, tmp_path: Path, task: Task, lower_is_better: bool, best_step: int) -> None:
        run = start(tmp_path, dataclasses.replace(task, lower_is_better=lower_is_better))
        models = {progress.step: run.model.params.flat.copy() for progress in run.train()}
        assert run.best == [SCORES[best_step], 1.25]
        best = Transformer.load(tmp_path / "best.npz")
        np.testing.assert_array_equal(best.params.flat, models[best_step])
        assert (best.params.flat != models[7]).any()

    @pytest.mark.parametrize(
        ("error_rates", "best_step"),
        [((3.0, 2.0, 1.0), 7), ((3.0, 1.0, 2.0), 6), ((1.0, 2.0, 3.0), 3), ((2.0, 2.0, 2.0), 7), ((1.0, 1.0, 2.0), 6)],
    )
    def test_ties_of_the_headline_go_to_fewer_edits_and_then_to_the_later_step(
        self, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch, error_rates: Sequence[float], best_step: int
    ) -> None:
        """A run that is resumed before each validation decides in the same way."""
        rates = dict(zip((3, 6, 7), error_rates, strict=True))
        monkeypatch.setattr(
            Run, "validate", lambda run: {"exact match": 0.0, "error rate": rates[run.trainer.steps]}
        )
        models, run = {}, start(tmp_path, task)
        while run.trainer.steps < 7:
            for _, progress in zip(range(2), run.train(), strict=False):
                models[progress.step] = run.model.params.flat.copy()
            run = Run.resume(tmp_path, task)
        assert run.best == [0.0, rates[best_step]]
        np.testing.assert_array_equal(Transformer.load(tmp_path / "best.npz").params.flat, models[best_step])

    @pytest.mark.usefixtures("scripted")
    def test_the_last_checkpoint_of_an_older_npattn(self, tmp_path: Path, task: Task) -> None:
        """It holds the headline of the best model alone, and no losses. A model with the same headline replaces it."""
        run = start(tmp_path, task)
        for _, _progress in zip(range(4), run.train(), strict=False):
            pass
        arrays, metadata = load_arrays(tmp_path / "last.npz")
        del metadata["losses"]
        save_arrays(tmp_path / "last.npz", arrays, metadata | {"best": 0.5})
        progress = list(Run.resume(tmp_path, task).train())
        assert [p.is_best for p in progress] == [False, True, False]
        assert progress[0].mean_loss == progress[0].loss

    @pytest.mark.usefixtures("scripted")
    def test_the_loss_of_the_log_is_the_mean_of_the_last_steps(
        self, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("npattn.runs.run.WINDOW", 4)
        progress = list(start(tmp_path, task).train())
        means = [np.mean([p.loss for p in progress[max(i - 3, 0) : i + 1]]) for i in range(7)]
        np.testing.assert_allclose([p.mean_loss for p in progress], means, rtol=1e-12)
        np.testing.assert_allclose(read_log(tmp_path)["loss"], [means[2], means[5], means[6]], atol=1e-4)

    @pytest.mark.usefixtures("scripted")
    def test_load_run(self, tmp_path: Path, task: Task) -> None:
        run = finished(tmp_path, task)
        model, codec, description = load_run(tmp_path)
        np.testing.assert_array_equal(model.params.flat, Transformer.load(tmp_path / "best.npz").params.flat)
        assert model.config == run.config
        assert codec == task.codec
        assert description == read_description(tmp_path)
        assert len(predict(model, codec, ["abc", "de"])) == 2

    @pytest.mark.usefixtures("scripted")
    def test_a_read_only_description_is_enough(self, tmp_path: Path, task: Task) -> None:
        finished(tmp_path, task)
        (tmp_path / "run.json").chmod(0o444)
        assert Run.resume(tmp_path, task).trainer.steps == 7
        load_run(tmp_path)


class TestRefusals:
    def test_a_folder_that_holds_a_run(self, tmp_path: Path, task: Task) -> None:
        start(tmp_path, task)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(FileExistsError) as caught:
            start(tmp_path, task, seed=99)
        assert str(caught.value) == f"{tmp_path}: expected a new folder, found a run; resume it or choose another"
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_file_in_the_way(self, tmp_path: Path, task: Task) -> None:
        (tmp_path / "file").write_text("mine")
        with pytest.raises(OSError, match="file"):
            start(tmp_path / "file", task)
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.parametrize("folder", ["missing", "."])
    def test_nothing_to_resume(self, tmp_path: Path, task: Task, folder: str) -> None:
        message = f"{tmp_path / folder}: expected the folder of a run, found no run.json"
        for call in (lambda: Run.resume(tmp_path / folder, task), lambda: load_run(tmp_path / folder)):
            with pytest.raises(FileNotFoundError) as caught:
                call()
            assert str(caught.value) == message
        assert not (tmp_path / "missing").exists()

    def test_other_data(self, tmp_path: Path, task: Task) -> None:
        start(tmp_path, task)
        other = dataclasses.replace(task, train=task.train[1:])
        with pytest.raises(CheckpointError) as caught:
            Run.resume(tmp_path, other)
        assert str(caught.value) == f"{tmp_path}: expected the data that the run began with, got other data"

    def test_not_validated_yet(self, tmp_path: Path, task: Task) -> None:
        start(tmp_path, task)
        with pytest.raises(FileNotFoundError) as caught:
            load_run(tmp_path)
        assert str(caught.value) == f"{tmp_path}: expected best.npz, but the run has not been validated yet"

    @pytest.mark.usefixtures("scripted")
    def test_a_damaged_checkpoint(self, tmp_path: Path, task: Task) -> None:
        finished(tmp_path, task)
        path = tmp_path / "last.npz"
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 8
        for broken in (content, content[:1000], b""):
            path.write_bytes(broken)
            with pytest.raises(CheckpointError, match=r"last\.npz: damaged"):
                Run.resume(tmp_path, task)
            assert path.read_bytes() == broken

    @pytest.mark.usefixtures("scripted")
    @pytest.mark.parametrize("fault", ["params", "shape", "extra", "adam", "group", "trainer", "seconds"])
    def test_the_checkpoint_of_another_run(self, tmp_path: Path, task: Task, fault: str) -> None:
        words = {"params": "missing 'params.enc", "shape": r"'params.encoder.0.norm_1.beta': expected float32 \(8,\)",
                 "extra": "unexpected 'params.enc", "adam": "missing 'adam.t'", "group": "unexpected 'sgd.t'",
                 }.get(fault, r"does not fit this run \(")  # fmt: skip
        finished(tmp_path, task)
        path = tmp_path / "last.npz"
        arrays, metadata = load_arrays(path)
        if fault == "params":
            del arrays["params.encoder.0.norm_1.beta"]
        elif fault == "shape":
            arrays["params.encoder.0.norm_1.beta"] = np.zeros(3, np.float32)
        elif fault == "extra":
            arrays["params.encoder.7.norm_1.beta"] = np.zeros(8, np.float32)
        elif fault == "adam":
            del arrays["adam.t"]
        elif fault == "group":
            arrays["sgd.t"] = np.zeros(())
        else:
            del metadata[fault]
        save_arrays(path, arrays, metadata)
        with pytest.raises(CheckpointError, match=rf"last\.npz: .*{words}"):
            Run.resume(tmp_path, task)

    @pytest.mark.usefixtures("scripted")
    @pytest.mark.parametrize(
        "change",
        [
            {"losses": None}, {"losses": [True]}, {"best": [0.5, "1"]}, {"best": True},
            {"trainer": None}, {"trainer": {}}, {"trainer": {"seed": 5, "steps": 6}},
            {"trainer": {"seed": 6, "steps": 7}},
            {"trainer": {"seed": "5", "steps": 7}}, {"seconds": "1"}, {"seconds": -1.0}, {"seconds": None},
            {"seconds": True}, {"best": "0.5"}, {"best": [1]},
        ],
        ids=str,
    )  # fmt: skip
    def test_counters_that_no_run_writes(self, tmp_path: Path, task: Task, change: Mapping[str, Any]) -> None:
        finished(tmp_path, task)
        arrays, metadata = load_arrays(tmp_path / "last.npz")
        save_arrays(tmp_path / "last.npz", arrays, metadata | change)
        name = next(iter(change))
        with pytest.raises(CheckpointError, match=rf"last\.npz: does not fit this run \({name}: expected "):
            Run.resume(tmp_path, task)

    @pytest.mark.usefixtures("scripted")
    def test_a_checkpoint_beyond_the_end(self, tmp_path: Path, task: Task) -> None:
        finished(tmp_path, task)
        self.describe(tmp_path, {"settings": dataclasses.asdict(dataclasses.replace(SETTINGS, steps=6))})
        with pytest.raises(CheckpointError, match="of at most 6 steps"):
            Run.resume(tmp_path, task)

    @pytest.mark.parametrize(
        "content", [b"", b"not json", b"\xff\xfe", b"[]", b"7", b"null", b'"format"', b"{}", b'{"format": 1}',
                    b"[" * 10**5, b'{"a":' * 10**5]
    )
    def test_an_unreadable_description(self, tmp_path: Path, task: Task, content: bytes) -> None:
        (tmp_path / "run.json").write_bytes(content)
        for call in (lambda folder: Run.resume(folder, task), load_run, read_description):
            with pytest.raises(CheckpointError, match=r"run\.json: (no valid JSON of a run|expected format 1)"):
                call(tmp_path)
        assert (tmp_path / "run.json").read_bytes() == content

    @pytest.mark.parametrize(
        "change",
        [{"format": 2}, {"config": 5}, {"config": {"src_vocab": 3}}, {"settings": {"pace": 1}}, {"settings": None},
         {"format": True}, {"format": [1]}, {"task": 7}, {"options": []}, {"fingerprint": 3}, {"codec": "abc"}],
        ids=str,
    )
    def test_a_description_with_a_wrong_field(self, tmp_path: Path, task: Task, change: Mapping[str, Any]) -> None:
        start(tmp_path, task)
        self.describe(tmp_path, change)
        with pytest.raises(CheckpointError, match=r"run\.json: (expected format 1|no valid sizes or schedule)"):
            Run.resume(tmp_path, task)

    @pytest.mark.usefixtures("scripted")
    @pytest.mark.parametrize(
        "change",
        [{"source_symbols": 3}, {"source_symbols": "abcde"}, {"target_symbols": ["a", 7]},
         {"target_symbols": ["a", "a"]}, {"source_unit": None}, {"source_unit": "bytes"},
         {"lowercase": 0}, {"max_target_length": 3.0},
         {"max_target_length": -1}, {"max_target_length": True}, {"compose": 0}, {"compose": "yes"}],
        ids=str,
    )  # fmt: skip
    def test_a_codec_with_a_wrong_field(self, tmp_path: Path, task: Task, change: Mapping[str, Any]) -> None:
        finished(tmp_path, task)
        self.describe(tmp_path, {"codec": task.codec.to_json() | change})
        with pytest.raises(CheckpointError, match=rf"run\.json: no valid codec \(.*({next(iter(change))}|symbols)"):
            load_run(tmp_path)
        self.describe(tmp_path, {"codec": {}})
        with pytest.raises(CheckpointError, match=r"run\.json: no valid codec"):
            load_run(tmp_path)

    def describe(self, folder: Path, change: Mapping[str, Any]) -> None:
        path = folder / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [(name, 0, f"{name}: expected 1 or more, got 0")
         for name in ("steps", "batch_size", "validate_every", "validation_items", "checkpoint_every")]
        + [("warmup", 8, "warmup: expected 0 to steps=7, got 8"), ("warmup", -1, "warmup: expected 0 or more, got -1"),
           ("seed", -1, "seed: expected 0 or more, got -1"), ("workers", 0, "workers: expected 1 or more, got 0"),
           ("peak_rate", 0.0, "peak_rate: expected 0 < peak_rate < inf, got 0.0"),
           ("peak_rate", float("nan"), "peak_rate: expected 0 < peak_rate < inf, got nan"),
           ("clip", float("inf"), "clip: expected 0 < clip < inf, got inf"),
           ("smoothing", 1, "smoothing: expected 0 ≤ smoothing < 1, got 1")],
    )  # fmt: skip
    def test_settings_out_of_range(self, name: str, value: int, message: str) -> None:
        with pytest.raises(ValueError) as caught:
            dataclasses.replace(SETTINGS, **{name: value})  # type: ignore[arg-type]
        assert str(caught.value) == message

    @pytest.mark.parametrize("value", ["1", None, 1.5, True, [1]], ids=str)
    @pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Settings) if f.name != "best_by"])
    def test_settings_that_are_no_numbers(self, tmp_path: Path, task: Task, name: str, value: Any) -> None:
        allowed: dict[str, list[Any]] = {"peak_rate": [1.5], "clip": [1.5, None], "smoothing": []}
        allowed |= {key: [None] for key in ("workers", "patience", "average")}
        if value in allowed.get(name, []) and value is not True:
            return
        error = ValueError if (name, value) == ("smoothing", 1.5) else TypeError
        with pytest.raises(error, match=f"^{name}: expected (an? (integer|number)|0 ≤ smoothing < 1)"):
            dataclasses.replace(SETTINGS, **{name: value})
        start(tmp_path, task)
        self.describe(tmp_path, {"settings": dataclasses.asdict(SETTINGS) | {name: value}})
        with pytest.raises(CheckpointError, match=rf"run\.json: no valid sizes or schedule \({name}: expected"):
            Run.resume(tmp_path, task)

    def test_progress_is_a_tuple_of_plain_values(self, tmp_path: Path, task: Task) -> None:
        progress = next(start(tmp_path, task).train())
        assert isinstance(progress, Progress)
        kinds = [int, int, float, float, int, float, type(None), bool, float]
        assert [type(value) for value in progress] == kinds


@pytest.mark.usefixtures("scripted")
class TestTwoTrainings:
    """One of two trainings in a folder is refused, and changes nothing."""

    def test_beside_a_live_run(self, tmp_path: Path, task: Task) -> None:
        undisturbed = outcome(finished(tmp_path / "whole", task))
        run = start(tmp_path / "run", task)
        other, steps = Run.resume(str(tmp_path / "run"), task), run.train()
        for _ in range(5):
            next(steps)
        before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        for call in (lambda: Run.resume(tmp_path / "run", task), lambda: next(other.train()), other.save):
            with pytest.raises(BlockingIOError, match=rf"/run: expected no other training .* process {os.getpid()} on"):
                call()
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
        assert len(list(steps)) == 2
        assert outcome(run) == undisturbed

    def test_after_another_training(self, tmp_path: Path, task: Task) -> None:
        """A run that was resumed before another training would begin again at its own, older step."""
        start(tmp_path, task)
        other = Run.resume(tmp_path, task)
        run = Run.resume(tmp_path, task)
        for _ in run.train():
            pass
        before = outcome(run)
        for call in (lambda: next(other.train()), other.save):
            with pytest.raises(RuntimeError, match="another training has gone on with this run: resume it again"):
                call()
        assert outcome(Run.resume(tmp_path, task)) == before

    def test_two_begin_at_the_same_time(self, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        """The second one finds the run of the first only when it has the lock."""
        acquire = FolderLock.acquire
        with monkeypatch.context() as patched:

            def late(lock: FolderLock) -> None:
                patched.setattr(FolderLock, "acquire", acquire)
                start(tmp_path, task, seed=3)
                acquire(lock)

            patched.setattr(FolderLock, "acquire", late)
            with pytest.raises(FileExistsError, match="expected a new folder, found a run"):
                start(tmp_path, task, seed=4)
        assert Run.resume(tmp_path, task).settings.seed == 3

    def test_a_broken_off_loop_can_go_on(self, tmp_path: Path, task: Task) -> None:
        """After an error in the body of the loop, the same run goes on while its first iterator is still there."""
        run = start(tmp_path, task)
        steps = run.train()
        next(steps)
        assert [progress.step for progress in run.train()] == [2, 3, 4, 5, 6, 7]
        steps.close()
        assert Run.resume(tmp_path, task).trainer.steps == 7


class Full(OSError):
    """The error of a full disk."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.usefixtures("scripted")
class TestFailures:
    """After any failure the folder holds the last checkpoint, and the run resumes from it to the same bits."""

    def undisturbed(self, folder: Path, task: Task) -> dict[str, Any]:
        return outcome(finished(folder / "whole", task, workers=1))

    @pytest.mark.parametrize("call", range(1, 8))
    def test_a_full_disk(self, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
        """The disk is full at the call-th fsync: that of a log line, a best model or a checkpoint."""
        wanted = self.undisturbed(tmp_path, task)
        run, fsync, calls = start(tmp_path / "run", task), os.fsync, iter(range(1, 100))

        def full(descriptor: int) -> None:
            if next(calls) >= call and not os.path.isdir(f"/proc/self/fd/{descriptor}"):
                raise Full
            fsync(descriptor)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OSError, match=r"cannot write: No space left on device: .*(last|best|log)\."):
                for _ in run.train():
                    pass
        assert not list((tmp_path / "run").glob(".*"))         # no temporary file
        again = Run.resume(tmp_path / "run", task)
        for _ in again.train():
            pass
        assert outcome(again) == wanted

    @pytest.mark.parametrize(
        "function", ["npattn.runs.last_state.save_arrays", "npattn._internal.files.whole._sync_folder"]
    )
    def test_a_disk_that_has_space_again(
        self, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch, function: str
    ) -> None:
        """The run in memory is intact after an error, also after one that comes when the new file is in its place."""
        wanted = self.undisturbed(tmp_path, task)
        run = start(tmp_path / "run", task)
        with monkeypatch.context() as patched:
            patched.setattr(function, lambda *_: (_ for _ in ()).throw(Full()))
            with pytest.raises(OSError, match="No space left"):
                next(progress for progress in run.train() if progress.step == 2)
        run.save()
        for _ in run.train():
            pass
        assert outcome(run) == wanted

    @pytest.mark.parametrize("place", ["clip_gradients", "step", "validate", "append_to_log", "save_arrays"])
    def test_ctrl_c_anywhere(self, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
        """After Adam's update and before the step is counted, in a checkpoint …: an unfinished step is never saved."""
        wanted = self.undisturbed(tmp_path, task)
        run = start(tmp_path / "run", task)
        homes = {"clip_gradients": "training.trainer", "step": "optim.Adam", "validate": "runs.Run",
                 "save_arrays": "runs.last_state"}  # fmt: skip
        target = f"npattn.{homes.get(place, 'runs.run')}.{place}"
        original = pkgutil.resolve_name(target)

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if run.trainer.steps >= 3:
                raise KeyboardInterrupt
            return result

        with monkeypatch.context() as patched:
            patched.setattr(target, interrupted)
            with pytest.raises(KeyboardInterrupt):
                for _ in run.train():
                    pass
        if place != "save_arrays":                            # a checkpoint comes between two steps
            for call in (run.save, lambda: next(run.train())):
                with pytest.raises(RuntimeError, match=r"step [34] was broken off: resume from the last checkpoint"):
                    call()
        again = Run.resume(tmp_path / "run", task)
        assert again.trainer.steps in (2, 4)
        for _ in again.train():
            pass
        assert outcome(again) == wanted

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("source_embedding.W_E", np.nan, "'source_embedding.W_E' holds numbers that are not finite"),
            ("decoder.0.norm_3.gamma", -np.inf, "'decoder.0.norm_3.gamma' holds numbers that are not finite"),
            ("decoder.0.feed_forward.W_1", 3e38, "the largest number is 3e+38, in 'decoder.0.feed_forward.W_1'"),
        ],
    )
    def test_a_loss_that_is_not_finite(self, tmp_path: Path, task: Task, name: str, value: float, message: str) -> None:
        run = start(tmp_path, task)
        steps = run.train()
        next(steps), next(steps)
        run.model.params[name][...] = value
        before = (tmp_path / "last.npz").read_bytes()
        with pytest.raises(FloatingPointError) as caught:
            next(steps)
        assert str(caught.value).startswith("step 3: expected a finite loss, got ") and message in str(caught.value)
        assert (tmp_path / "last.npz").read_bytes() == before
        assert run.saved == 2

    @pytest.mark.parametrize("clip", [1.0, None])
    def test_a_gradient_that_is_not_finite(
        self, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch, clip: float | None
    ) -> None:
        run = start(tmp_path, task, clip=clip)
        first = "npattn.training.trainer.clip_gradients" if clip else "npattn.optim.Adam.step"  # gets them first
        original = pkgutil.resolve_name(first)

        def broken(*args: Any, **kwargs: Any) -> Any:
            if run.trainer.steps == 2:
                args[0 if clip else 1]["decoder.0.cross_attention.W_K"][1, 3] = np.nan
            return original(*args, **kwargs)

        monkeypatch.setattr(first, broken)
        with pytest.raises(ValueError) as caught:
            for _ in run.train():
                pass
        assert str(caught.value) == (
            "step 3: gradient of 'decoder.0.cross_attention.W_K': expected finite numbers, 1 of 64 are not, "
            "the first nan at (1, 3)"
        )
        assert run.saved == 2


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*args: Any, **kwargs: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("npattn.transformer.model.initial_parameters", no_memory)
    with pytest.raises(MemoryError):
        start(tmp_path / "a" / "b", task)
    assert list(tmp_path.iterdir()) == []
