"""`npattn train`: runs are started, stopped, resumed and tested."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn._internal.files import FolderLock, load_arrays
from npattn.cli.terminal import Console
from npattn.cli.train.progress import ProgressTable
from npattn.cli.train.stopping import SIGNALS, stop_on_signals
from npattn.layers import cross_entropy
from npattn.runs.log import read_log
from npattn.runs.run import Progress
from npattn.training.trainer import Trainer
from support.command_line import TINY, Cli, write_pairs


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_pairs(tmp_path)


@pytest.fixture
def signals() -> Iterator[None]:
    """The signal handlers of a foreground program. In a background job of a shell, Ctrl-C is ignored."""
    usual = {number: signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL for number in SIGNALS}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def settings(folder: Path) -> dict[str, Any]:
    description = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return description["config"] | description["settings"] | description["options"]  # type: ignore[no-any-return]


def test_a_run_is_trained_and_tested(run: Cli, pairs: Path) -> None:
    status, out, err = run("train", pairs, *TINY)
    folder = Path("runs", "mirror")
    assert (status, err) == (0, "")
    assert {path.name for path in folder.iterdir()} == {"run.json", "last.npz", "best.npz", "log.tsv"}
    assert "31 training pairs, 2 validation and 3 test items" in out
    assert "greedy, all 3" in out and "exact match" in out
    assert "pre-norm, dropout 0.1 training 3 steps" in " ".join(out.split())
    assert "npattn predict runs/mirror" in out
    assert "\033" not in out and "\r" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert read_log(folder)["step"] == [1, 2, 3]


def test_what_the_scores_and_the_loss_mean(run: Cli, pairs: Path) -> None:
    _, out, _ = run("train", pairs, *TINY)
    V = settings(Path("runs", "mirror"))["tgt_vocab"]
    logits = np.log(np.full((1, V), 0.1 / V) + 0.9 * (np.arange(V) == 0))   # p = q: the least loss
    least, _ = cross_entropy(logits, np.array([0]), 0.1)
    assert (
        "exact match: the share of sources that are answered by one of their targets. error rate: the symbols to "
        "insert, delete or replace to get the nearest target, divided by the symbols of these targets. The loss cannot "
        f"fall below {least:.3f}: label smoothing gives a share of 0.1 to all {V} symbols of the target vocabulary "
        "alike. Use it "
    ) in " ".join(out.split())
    _, out, _ = run("train", pairs, *TINY, "--smoothing", "0", "--run", "sharp")
    assert "exact match: the share" in out and "The loss cannot" not in out


def test_validation_and_test_files_and_lower_case(run: Cli, pairs: Path, tmp_path: Path) -> None:
    Path("dev.tsv").write_text("XY\tyx\nYX\txy\nXYZ\tzyx\n", encoding="utf-8")
    Path("final.tsv").write_text("zz\tzz\n", encoding="utf-8")
    given = ("--validation", "dev.tsv", "--test", "final.tsv", "--lowercase")
    status, out, _ = run("train", pairs, *TINY, *given)
    assert status == 0 and "36 training pairs, 3 validation and 1 test item" in " ".join(out.split())
    assert settings(Path("runs", "mirror"))["validation"] == str(tmp_path / "dev.tsv")
    assert run("train", pairs, *given, "--run", "runs/mirror", "--resume").status == 0
    assert "began with validation = " in run.fails("train", pairs, "--validation", "final.tsv", "--resume")
    for option in (["--lowercase"], ["--validation", "dev.tsv"], ["--test", "dev.tsv"]):
        words = f"{option[0]} is an option of .tsv files (see npattn train --help)"
        assert run.fails("train", "dates", *option, status=2).endswith(words)
    assert "none.tsv: expected a file of lines" in run.fails("train", pairs, "--test", "none.tsv", "--run", "other")


def test_patience_and_more_steps(run: Cli, pairs: Path) -> None:
    tiny = [*TINY, "--steps", "9", "--validate-every", "1", "--patience", "2", "--rate", "1e-9"]
    status, out, _ = run("train", pairs, *tiny, "--best-by", "error rate")
    assert status == 0 and "Ended after step 3: 2 validations in a row found no better model" in out
    assert settings(Path("runs", "mirror"))["best_by"] == "error rate"
    out = run("train", pairs, "--resume").out                 # it is tested again
    assert "Ended after step 3" in out and "greedy, all 3" in out and "tokens/s" not in out
    status, out, _ = run("train", pairs, "--resume", "--steps", "12")
    assert status == 0 and "Ended after step 5" in out
    assert settings(Path("runs", "mirror"))["steps"] == 12
    assert "began with steps = 12, it cannot go on with 7" in run.fails("train", pairs, "--resume", "--steps", "7")
    assert "began with patience = 2" in run.fails("train", pairs, "--resume", "--patience", "3")
    wrong = ("--best-by", "loss", "--run", "other")
    assert "best_by: expected exact match or error rate, got 'loss'" in run.fails("train", pairs, *wrong)


def test_the_mean_that_is_judged_is_named(run: Cli, pairs: Path) -> None:
    _, out, _ = run("train", pairs, *TINY, "--average", "2")
    assert "judged    the mean of the parameters at the last 2 validations" in out
    for other in ((), ("--average", "1")):
        assert "judged" not in run("train", pairs, *TINY, *other, "--run", f"runs/{len(other)}")[1]


def test_json(run: Cli, pairs: Path) -> None:
    status, out, err = run("train", pairs, *TINY, "--beam", "2", "--average", "2", "--json")
    first, *steps, last = map(json.loads, out.splitlines())
    weights = Path("runs", "mirror", "best.npz")
    size = sum(array.size for array in load_arrays(weights)[0].values())
    assert (status, err) == (0, "")
    assert first == {"run": "runs/mirror", "task": str(pairs), "parameters": size, "steps": 3, "step": 0}
    log = read_log(Path("runs", "mirror"))
    assert [each["step"] for each in steps] == log["step"] == [1, 2, 3]
    assert [each["scores"]["error rate"] for each in steps] == pytest.approx(log["error rate"], abs=1e-4)
    assert [each["loss"] for each in steps] == pytest.approx(log["loss"], abs=1e-4)
    assert steps[-1].keys() == {"step", "steps", "rate", "seconds", "scores", "is_best", "loss"}
    tested = last.pop("test")
    assert last == {"run": "runs/mirror", "step": 3, "finished": True} and tested.keys() == {"greedy", "beam 2"}
    for found in tested.values():
        assert list(found) == ["all"] and list(found["all"]) == ["exact match", "error rate"]
    status, out, _ = run("train", pairs, "--json", "--resume")
    first, last = map(json.loads, out.splitlines())
    assert status == 0 and first["step"] == 3 and last["finished"] and "beam 2" not in last["test"]


@pytest.mark.usefixtures("signals")
def test_json_of_a_run_that_is_stopped(run: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.step

    def step_with_signal(trainer: Trainer, *args: Any, **kwargs: Any) -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, *args, **kwargs)

    monkeypatch.setattr(Trainer, "step", step_with_signal)
    status, out, _ = run("train", pairs, *TINY, "--json")
    stopped = {"run": "runs/mirror", "step": 1, "finished": False, "test": None}
    assert status == 143 and json.loads(out.splitlines()[-1]) == stopped


def test_begin_with_the_model_of_another_run(run: Cli, pairs: Path) -> None:
    assert run("train", pairs, *TINY).status == 0
    weights = load_arrays(Path("runs", "mirror", "best.npz"))[0]
    finer = ["--from", "runs/mirror", "--steps", "2", "--batch", "8", "--workers", "1", "--run", "finer"]
    status, out, _ = run("train", pairs, *finer)
    assert status == 0 and "2 steps of 8 pairs" in out and settings(Path("finer"))["d_model"] == 8
    first = load_arrays(Path("finer", "first.npz"))[0]
    assert {name: array.tobytes() for name, array in first.items()} == {
        name: array.tobytes() for name, array in weights.items()}  # fmt: skip
    assert run("train", pairs, "--run", "finer", "--resume", "--steps", "3").status == 0
    assert "--from: expected without --resume" in run.fails("train", pairs, *finer, "--resume", status=2)
    assert "expected the folder of a run" in run.fails("train", pairs, "--from", "nowhere", "--run", "other")
    wrong = run.fails("train", "text", pairs, "--from", "runs/mirror", "--run", "other")
    assert "expected a language model, got a model that turns texts into texts" in wrong


def test_three_pairs_can_be_trained_on(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("few.tsv").write_text("one\tuno\ntwo\tdue\nthree\ttre\n", encoding="utf-8")
    status, out, err = run("train", "few.tsv", *TINY)
    assert (status, err) == (0, "")
    assert "2 training pairs, 1 validation and 0 test items" in out and "The best model" not in out
    assert "3 steps of 2 pairs (3.0 epochs)" in out          # a batch holds all pairs at most
    assert re.search(r"npattn predict runs/few (one|two|three)$", out, re.M)
    assert "1 step of 2 pairs (1.0 epochs)" in run("train", "few.tsv", *TINY, "--steps", "1", "--run", "one").out


def test_the_last_batch_of_an_epoch_may_be_smaller(run: Cli, pairs: Path) -> None:
    """31 pairs are 4 batches of at most 8, so 10 steps are 2.5 epochs, not 2.6."""
    out = " ".join(run("train", pairs, *TINY, "--steps", "10", "--heads", "1").out.split())
    assert "10 steps of 8 pairs (2.5 epochs)" in out and " 1 head," in out


@pytest.mark.parametrize("name", ["pairs.csv", "data/pairs", "pairs.tsv"])
def test_a_file_that_is_missing(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    line = run.fails("train", name)
    assert line == f"npattn: {name}: expected a file of lines of source, one tab, target, found no such file"


def test_letters_without_a_sound(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty target is data like any other; here all of them are empty."""
    monkeypatch.chdir(tmp_path)
    Path("silent.tsv").write_text("".join(f"{a}h\t\n" for a in "abcdefghijklmnopqrst"), encoding="utf-8")
    status, out, err = run("train", "silent.tsv", *TINY, "--steps", "60", "--rate", "0.03")
    assert (status, err) == (0, "") and re.search(r"greedy, all 2 +100\.00 % +0\.00 %", out)


def test_beside_another_training(run: Cli, pairs: Path) -> None:
    assert run("train", pairs, *TINY).status == 0
    lock = FolderLock(Path("runs", "mirror"))
    lock.acquire()
    line = run.fails("train", pairs, "--resume")
    assert line.startswith("npattn: runs/mirror: expected no other training in this folder, found that of process ")
    lock.release()
    assert run("train", pairs, "--resume").status == 0


def test_one_thread_on_many_cores_suggests_threadpoolctl(
    run: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npattn.cli.train.command.cores", lambda: 8)
    for found, hint in ((True, []), (False, ['  faster    to train in 8 threads: pip install "npattn[fast]"'])):
        monkeypatch.setattr("npattn.cli.train.command.can_limit_blas", lambda found=found: found)
        out = run("train", pairs, *TINY, "--run", str(found)).out
        assert [line for line in out.splitlines() if "npattn[fast]" in line] == hint


def test_options_reach_the_run(run: Cli, pairs: Path, tmp_path: Path) -> None:
    options = "--steps 2 --seed 5 --workers 2 --checkpoint-every 7 --validate-every 2 --d-model 12 --d-ff 20 --layers 1"
    options += " --heads 3 --norm post --dropout 0.2 --batch 4 --rate 0.004 --warmup 1 --smoothing 0.05 --clip 2"
    options += " --attention-dropout 0.3 --unit words --target-unit characters"
    status, out, _ = run("train", pairs, "--run", tmp_path / "r", *options.split())
    assert status == 0 and "post-norm, dropout 0.2, 0.3 of attention weights" in " ".join(out.split())
    expected = {
        "steps": 2, "seed": 5, "workers": 2, "checkpoint_every": 7, "validate_every": 2, "d_model": 12, "d_ff": 20,
        "n_encoder_layers": 1, "n_decoder_layers": 1, "n_heads": 3, "norm": "post", "dropout": 0.2, "batch_size": 4,
        "peak_rate": 0.004, "warmup": 1, "smoothing": 0.05, "clip": 2.0, "unit": "words", "target_unit": "characters",
        "attention_dropout": 0.3,
    }  # fmt: skip
    assert settings(tmp_path / "r").items() >= expected.items()


def test_a_rate_of_attention_dropout_is_below_1(run: Cli) -> None:
    line = run.fails("train", "dates", "--attention-dropout", "1", status=2)
    assert "--attention-dropout: expected a number of at least 0 and below 1, got '1'" in line


def test_defaults_depend_on_the_given_options(run: Cli, pairs: Path) -> None:
    assert run("train", pairs, *TINY, "--steps", "10").status == 0
    found = settings(Path("runs", "mirror"))
    assert (found["d_ff"], found["warmup"], found["validate_every"], found["smoothing"]) == (32, 1, 1, 0.1)


def test_a_run_is_not_overwritten(run: Cli, pairs: Path) -> None:
    run("train", pairs, *TINY)
    before = Path("runs", "mirror", "last.npz").read_bytes()
    assert "go on with --resume, or choose another --run" in run.fails("train", pairs, *TINY)
    assert Path("runs", "mirror", "last.npz").read_bytes() == before


def test_resume_refuses_other_options_and_other_data(run: Cli, pairs: Path) -> None:
    assert "found no run.json" in run.fails("train", pairs, "--resume")
    run("train", pairs, *TINY)
    assert "began with steps = 3, it cannot go on with 2" in run.fails("train", pairs, "--resume", "--steps", "2")
    assert "began with layers = 1" in run.fails("train", pairs, "--resume", "--layers", "2")
    other = run.fails("train", pairs, "--resume", "--attention-dropout", "0.1")
    assert "began with attention_dropout = 0.0, it cannot go on with 0.1" in other
    assert "mirror.tsv, not of dates" in run.fails("train", "dates", "--run", "runs/mirror", "--resume")
    pairs.write_text(pairs.read_text().replace("abc", "cab"))
    assert "other data" in run.fails("train", pairs, "--resume")


def test_resuming_a_finished_run_tests_it_again(run: Cli, pairs: Path) -> None:
    run("train", pairs, *TINY)
    status, out, _ = run("train", pairs, *TINY, "--resume", "--beam", "2")
    assert status == 0
    assert "greedy, all 3" in out and "beam 2, all 3" in out


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_resumed_run_ends_on_the_same_bits(
    run: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "write", lambda *args: 0)         # of the message after a signal
    options = [*TINY, "--steps", "6", "--dropout", "0.1", "--attention-dropout", "0.1"]
    run("train", pairs, "--run", "whole", *options)
    step = Trainer.step

    def step_with_signal(trainer: Trainer, *args: Any, **kwargs: Any) -> float:
        if trainer.steps == 3:
            os.kill(os.getpid(), number)
        return step(trainer, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", step_with_signal)
        status, out, _ = run("train", pairs, "--run", "parts", *options)
    assert status == 128 + number and "Stopped after step 4" in out
    assert "npattn train mirror.tsv --run parts --resume" in out.replace(str(pairs), pairs.name)
    assert run("train", pairs, "--run", "parts", "--resume").status == 0
    (whole, _), (parts, _) = load_arrays("whole/last.npz"), load_arrays("parts/last.npz")
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert read_log(Path("parts"))["step"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("signals")
def test_a_second_signal_raises_keyboard_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda *args: 0)
    with stop_on_signals() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM and stop.exit_status == 143
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("signals")
def test_the_exit_status_depends_on_the_signal(run: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second SIGTERM within a step it is 143, as after one, and not the 130 of Ctrl-C."""
    monkeypatch.setattr(os, "write", lambda *args: 0)

    def step(*args: object, **kwargs: object) -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        return 0.0

    monkeypatch.setattr(Trainer, "step", step)
    assert run.fails("train", pairs, *TINY, status=143).startswith("npattn: stopped at once after step 0")


def test_a_background_job_still_ignores_ctrl_c() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.signal is None
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FloatingPointError("step 3: expected a finite loss, got nan"), "step 3: expected a finite loss, got nan (all"),
        (ValueError("gradient of 'W_Q': got inf"), "step 3: gradient of 'W_Q': got inf; the checkpoint"),
        (KeyboardInterrupt(), "stopped at once after step 2; the checkpoint"),
    ],
)
def test_an_error_in_a_step_names_the_last_checkpoint(
    run: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, words: str
) -> None:
    step = Trainer.step

    def failing(trainer: Trainer, *args: Any, **kwargs: Any) -> float:
        if trainer.steps == 2:
            raise error
        return step(trainer, *args, **kwargs)

    monkeypatch.setattr(Trainer, "step", failing)
    interrupted = isinstance(error, KeyboardInterrupt)
    line = run.fails("train", pairs, *TINY, "--checkpoint-every", "2", status=130 if interrupted else 1)
    kept = "; the checkpoint of step 2 stands in runs/mirror/last.npz"
    going_on = f"; go on with: npattn train {pairs} --run runs/mirror --resume" * interrupted   # an error would recur
    assert words in line and line.endswith(kept + going_on)


def test_a_full_disk_names_the_file_and_the_last_checkpoint(
    run: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 10                                                 # calls of fsync until the disk is full

    def fsync(descriptor: int) -> None:
        nonlocal free
        free -= 1
        if free < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    options = [*TINY, "--steps", "9", "--checkpoint-every", "1", "--validate-every", "9"]
    line = run.fails("train", pairs, *options)
    assert re.fullmatch(
        r"npattn: runs/mirror/last.npz: cannot write: No space left on device; the checkpoint of step (\d) stands in "
        r"runs/mirror/last.npz; go on with: npattn train \S+ --run runs/mirror --resume", line
    )  # fmt: skip
    free = 99
    assert run("train", pairs, "--resume").status == 0
    free = 10
    line = run.fails("train", pairs, *options, "--run", "other")
    assert re.search(r"other/last.npz: cannot write: .*; the checkpoint of step \d stands in other/last.npz; go", line)
    free = 10
    line = run.fails("train", pairs, *TINY, "--steps", "20", "--checkpoint-every", "20", "--run", "third")
    assert re.search(r"third/\w+.\w+: cannot write: .*; there is no checkpoint yet; go on with: npattn train", line)


def test_a_broken_pipe_stops_the_run_after_saving_it(run: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output breaks at the second line of the table."""
    line, written = Console.line, []

    def broken(console: Console, text: str = "") -> None:
        written.append(text)
        if text.split()[:1] == ["2"]:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        line(console, text)

    monkeypatch.setattr(Console, "line", broken)
    assert run("train", pairs, *TINY).status == 141
    _, metadata = load_arrays("runs/mirror/last.npz")
    assert metadata["trainer"]["steps"] == 2


@pytest.mark.long
def test_the_seed_can_be_repeated_with_resume(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task of dates has another seed, for its data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("npattn.cli.train.command.train", lambda *_: 0)
    monkeypatch.setattr("npattn.cli.train.pairs.results", lambda *_: None)
    run("train", "dates", *TINY, "--seed", "7", "--run", "d")
    again = ["train", "dates", "--run", "d", "--resume", "--seed"]
    assert "began with seed = 7, it cannot go on with 8" in run.fails(*again, "8")
    assert run(*again, "7").status == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def some_progress(steps: int, scored: int) -> list[Progress]:
    scores = {"WER": 0.5, "PER": 0.25}
    return [
        Progress(i, steps, 2.0, 1e-3, 100, i * 2.0, scores if i % scored == 0 else None, i == scored, 1.5)
        for i in range(1, steps + 1)
    ]


def test_the_table_has_a_row_for_each_tenth_and_each_validation() -> None:
    stream = io.StringIO()
    table = ProgressTable(Console(stream), ("WER", "PER"))
    table.heading()
    for progress in some_progress(40, 10):
        table.show(progress)
    legend, head, *rows = stream.getvalue().splitlines()
    assert len(legend) <= 80 and "*: best model so far" in legend
    assert [int(row.split()[0]) for row in rows] == [4, 8, 10, 12, 16, 20, 24, 28, 30, 32, 36, 40]
    assert rows[2].split() == ["10", "1.500", "1.0e-03", "50", "1:00", "50.0", "%", "25.0", "%", "*"]
    assert rows[0].split() == ["4", "1.500", "1.0e-03", "50", "1:12"]
    assert head.split() == ["step", "loss", "rate", "tokens/s", "left", "WER", "PER"]


def test_time_left_and_speed_do_not_count_the_steps_before_a_resume() -> None:
    stream = io.StringIO()
    table = ProgressTable(Console(stream), ("WER",), first=20, seconds=1000.0)
    table.show(Progress(24, 40, 2.0, 1e-3, 100, 1004.0, None, False, 2.0))
    assert stream.getvalue().split()[-1] == "0:16" and stream.getvalue().split()[3] == "25"


def test_the_live_line_of_a_terminal_is_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    table = ProgressTable(Console(stream), ("WER", "PER"))
    for progress in some_progress(10, 10)[:1] + some_progress(1000, 1000)[:1]:
        table.show(progress)
    Console(stream).line()
    assert "█" not in stream.getvalue().split("\r")[0]
    shown = [part for part in re.split("[\r\n]", stream.getvalue()) if part.strip()]
    assert len(shown) == 2 and shown[1].split()[0] == "1" and shown[1].endswith("0 %")
    assert all(len(part) < 80 for part in shown)


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_color_and_dumb_terminals_have_no_styles(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Console(Terminal()).style("x", "bold") == "\033[1mx\033[0m"
    assert Console(io.StringIO()).style("x", "bold") == "x"
    monkeypatch.setenv(variable, value)
    assert Console(Terminal()).style("x", "bold") == "x"
