"""`npattn train text`: a language model is trained on files, resumed, and measured beside compressors."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from npattn.cli.train.text import MEANING
from npattn.runs import load_text_model, read_log
from npattn.runs.run import Run
from npattn.tasks import load_text
from npattn.tasks.baselines import compressed, five_gram_bits
from npattn.training.trainer import Trainer
from support.command_line import TINY, Cli, write_pairs

SMALL = [*TINY, "--context", "16"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    path.write_bytes(b"".join(b"%d and %d\r\n" % (i, i + 1) for i in range(99)))
    return path


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_text_is_trained_on_and_measured(run: Cli, text: Path) -> None:
    status, out, err = run("train", "text", text, *SMALL)
    assert (status, err) == (0, "")
    assert {path.name for path in Path("runs", "text").iterdir()} == {"run.json", "last.npz", "best.npz", "log.tsv"}
    said = words(out)
    assert said.startswith(
        "text: text.txt data 909 bytes of 1 file to train on, 54 bytes of 1 file for validation, 107 bytes of 1 file "
        "for test model "
    )
    assert " parameters: 1 layer of width 8, 2 heads, feed-forward 22, dropout 0 training 3 steps of 8 rows " in said
    assert " 8 rows of 16 bytes (0.4 epochs), peak learning rate 0.003, seed 0, 1 worker folder runs/text loss" in said
    assert "    step    loss     rate  tokens/s    left  bits per byte  byte error rate\n" in out
    assert len(re.findall(r"^ {7}[123] +\d\.\d{3} +[123]\.0e-03 .* \d\.\d{3} +\d+\.\d %( \*)?$", out, re.M)) == 3
    assert out.endswith("\nUse it with\n  npattn generate runs/text 'def '\n")
    assert max(map(len, out.splitlines())) <= 80 and "\033" not in out and "\r" not in out
    log = read_log(Path("runs", "text"))
    assert log["step"] == [1, 2, 3] and 5 < log["bits per byte"][-1] < 9 and log["byte error rate"][-1] <= 1


def test_the_closing_lines_are_the_figures_of_the_library(run: Cli, text: Path) -> None:
    out = run("train", "text", text, *SMALL, "--run", "r").out
    options = json.loads(Path("r", "run.json").read_text(encoding="utf-8"))["options"]
    finished = Run.resume("r", load_text(**options))
    train, _, test = finished.task.parts
    bits, wrong = finished.score(load_text_model("r").model, finished.task.test).values()
    table = out[out.index("Bits per byte of") : out.index("Bits per byte: a")].splitlines()
    assert table == [
        "Bits per byte of 1 test file (107 bytes)                each alone  all in one",
        f"  this model                                          {bits:12.3f}",
        f"  5-gram model                                        {five_gram_bits(train, test):12.3f}",
        "  xz".ljust(54) + "".join(f"{v:12.3f}" for v in compressed("xz", test)),
        "  gzip".ljust(54) + "".join(f"{v:12.3f}" for v in compressed("gzip", test)),
        "",
    ]
    meaning = MEANING.format(model=bits, share=f"{100 * bits / 8:.0f} %", right=f"{100 - 100 * wrong:.0f} %")
    assert words(meaning) in words(out) and "{" not in meaning


def test_files_may_stand_anywhere_and_only_text_takes_them(run: Cli, text: Path) -> None:
    Path("other.txt").write_text("to be or not to be" * 4, encoding="utf-8")
    out = run("train", "text", *SMALL, "--seed", "3", "text.txt", "other.txt").out
    assert "text: 2 files\n" in out and "970 bytes of 2 files to train on" in words(out)
    pairs = write_pairs(text.parent)
    message = "npattn: only the task text takes files: unknown argument {} (see npattn train --help)"
    assert run.fails("train", pairs, "text.txt", status=2) == message.format(text)
    assert run.fails("train", pairs, *TINY, "text.txt", status=2) == message.format(text)
    assert run.fails("train", "dates", "-x", status=2) == "npattn: unknown argument -x (see npattn train --help)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--norm", "pre"], "--norm and --beam are no options of the task text"),
        (["--beam", "2"], "--norm and --beam are no options of the task text"),
        (["--stress"], "--stress is an option of the task g2p"),
        (["--unit", "words"], "--unit is an option of .tsv files"),
        (["--context", "0"], "argument --context: expected a whole number of 1 or more, got '0'"),
    ],
)
def test_options_of_other_tasks(run: Cli, text: Path, options: list[str], message: str) -> None:
    assert run.fails("train", "text", text, *options, status=2) == f"npattn: {message} (see npattn train --help)"
    assert not Path("runs").exists()


def test_the_context_is_an_option_of_text_alone(run: Cli, text: Path) -> None:
    message = "npattn: --context is an option of the task text (see npattn train --help)"
    assert run.fails("train", "dates", "--context", "5", status=2) == message


def test_files_that_cannot_be_trained_on(run: Cli, text: Path) -> None:
    Path("empty.txt").touch()
    for file, message in (
        ("none.txt", f"{text.parent / 'none.txt'}: expected a file of text, found no such file"),
        (".", f"{text.parent}: expected a file of text, got a folder; give its files one by one"),
        ("empty.txt", "files: expected two bytes or more, to train and to validate on, got empty.txt without them"),
    ):
        assert run.fails("train", "text", file, *SMALL) == f"npattn: {message}"
    assert run.fails("train", "text", "", status=2).startswith("npattn: argument FILE: expected a path, got ''")
    assert not Path("runs").exists()


def test_a_text_of_two_bytes_has_nothing_to_test_on(run: Cli, text: Path) -> None:
    Path("two.txt").write_bytes(b"\xff\x00")
    out = run("train", "text", "two.txt", *SMALL).out
    assert "1 byte of 1 file to train on, 1 byte of 1 file for validation, 0 bytes of 0 files for test" in words(out)
    assert "3 steps of 1 row of 1 byte (3.0 epochs)" in words(out)
    assert "Bits per byte" not in out and "npattn generate runs/text 'def '" in out


def test_a_stopped_run_goes_on_in_any_folder(
    run: Cli, text: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ctrl-C ends the run after its step; --resume needs no file, and ends on the bits of a run without a stop."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    step = Trainer.step

    def stopping(trainer: Trainer, *args: Any, **kwargs: Any) -> float:
        if trainer.steps == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(trainer, *args, **kwargs)

    whole = [*SMALL, "--dropout", "0.2"]
    run("train", "text", text, *whole, "--run", "whole")
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "step", stopping)
            status, out, _ = run("train", "text", "text.txt", *whole, "--run", tmp_path / "parts")
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 130
    assert f"go on with\n  npattn train text --run {tmp_path / 'parts'} --resume" in out.replace("Go on", "go on")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for options, name, was, wanted in (
        (["--context", "8"], "context", 16, 8), (["--layers", "2"], "layers", 1, 2),
        ([tmp_path / "parts" / "log.tsv"], "files", [str(text)], [str(tmp_path / "parts" / "log.tsv")]),
    ):  # fmt: skip
        line = run.fails("train", "text", *options, "--run", tmp_path / "parts", "--resume")
        assert line.endswith(f"this run began with {name} = {was}, it cannot go on with {wanted}")
    assert run("train", "text", text, "--run", tmp_path / "parts", "--resume").status == 0
    one, other = (load_text_model(tmp_path / name).model.params.flat for name in ("whole", "parts"))
    assert one.tobytes() == other.tobytes()


def test_predict_refuses_a_language_model(run: Cli, text: Path) -> None:
    run("train", "text", text, *SMALL)
    line = run.fails("predict", "runs/text", "12 and")
    assert line == (
        "npattn: runs/text: expected a model that turns texts into texts, got a language model, which goes on with a "
        "text: npattn generate uses it, and npattn.runs.load_text_model loads it"
    )
    assert run.fails("train", "dates", "--run", "runs/text", "--resume").endswith("of the task text, not of dates")


def test_help_describes_text(run: Cli) -> None:
    out = run("train", "--help").out
    assert re.search(r"^  text +the source of Python's standard library, or the files given", out, re.M)
    assert "npattn train text poems.txt letters.txt --run runs/poems --steps 2000" in out
    assert re.search(r"--context N +text: bytes in a row", out)
