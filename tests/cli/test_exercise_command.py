"""`npattn exercise`: the list, starters, checks, hints and solutions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from npattn.learn.exercises import NAMES, read
from support.command_line import Cli, process


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(capsys)


def test_the_list_has_every_exercise_in_its_order(run: Cli) -> None:
    outcome = run("exercise")
    assert outcome.status == 0 and outcome.err == ""
    *lines, empty, first, last = outcome.out.splitlines()     # a line an exercise
    assert [line.partition(" ")[0] for line in lines] == list(NAMES)
    assert all(re.search(r"\w\)? \[F\d+(,F\d+)*\]$", line) for line in lines) and not empty
    assert first == "Begin with npattn exercise linear"
    assert last == "[F9] is a section of the foundations: npattn explain foundations F9"
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_an_exercise_from_the_starter_to_the_solution(run: Cli) -> None:
    assert run("exercise", "softmax").status == 0
    path = Path("softmax.py")
    assert path.read_text(encoding="utf-8") == read("softmax").starter
    outcome = run("exercise", "softmax", "--check")
    assert outcome.status == 1 and outcome.out.startswith("dE: still blank\nsoftmax.py is not right yet.")
    code = path.read_text(encoding="utf-8")
    path.write_text(code.replace("dE = ...", "dE = A * dA"), encoding="utf-8")
    outcome = run("exercise", "softmax", "--check", "softmax.py")
    assert outcome.status == 1 and "dE: wrong: the sum over the row is missing" in outcome.out
    assert re.search(r"^  dE: at \[\d, \d\] it is", outcome.out, re.M)
    solution = run("exercise", "softmax", "--solution")
    assert solution.status == 0
    Path("other.py").write_text(solution.out, encoding="utf-8")
    outcome = run("exercise", "softmax", "--check", "other.py")
    assert outcome.status == 0 and outcome.out == "dE: right\nother.py is right. Next: npattn exercise mask\n"
    assert sorted(each.name for each in Path().iterdir()) == ["other.py", "softmax.py"]


def test_progress_is_a_line_a_file(run: Cli) -> None:
    for name, code in (
        ("linear", read("linear").solved),
        ("v5", read("v5").solved.replace("dS = dE / math.sqrt(Q.shape[1])", "dS = dE")),
        ("adam", read("adam").starter),
        ("tie", read("tie").solved.replace("dW = X.T @ dU", "dW = X.T @ dV")),
        ("gate", "print('this would be run')\n"),             # not an exercise, although it has such a name
    ):
        Path(f"{name}.py").write_text(code, encoding="utf-8")
    Path("mask.py").mkdir()
    error = "wrong: line 39, dW = X.T @ dV: NameError: name 'dV' is not …"
    outcome = run("exercise")
    assert outcome.status == 0 and "this would be run" not in outcome.out
    assert re.findall(r"^(\w+\.py) +(.*)$", outcome.out, re.M) == [
        ("linear.py", "right"),
        ("v5.py", "wrong: dQ, dX, dW_K"),
        ("tie.py", error),
        ("adam.py", "still blank: m, v, p"),
    ]


def test_the_list_says_which_exercise_is_next(run: Cli) -> None:
    Path("linear.py").write_text(read("linear").solved, encoding="utf-8")
    assert "\nGo on with npattn exercise gate\n" in run("exercise").out
    Path("gate.py").write_text(read("gate").starter, encoding="utf-8")
    assert "\nGo on with npattn exercise gate --check\n" in run("exercise").out


def test_the_first_wrong_line_is_printed_once(run: Cli) -> None:
    code = read("v5").solved.replace("dA = dY @ V.T ", "dA = dY @ V.T * 3 ")
    Path("v5.py").write_text(code, encoding="utf-8")
    out = run("exercise", "v5", "--check").out
    assert out.count("\nThe first wrong gradient is made in line 44, dA = dY @ V.T * 3\n") == 1


def test_a_mistake_is_said_once_for_all_gradients(run: Cli) -> None:
    code = read("v5").solved.replace("dS = dE / math.sqrt(Q.shape[1])", "dS = dE")
    Path("v5.py").write_text(code, encoding="utf-8")
    outcome = run("exercise", "v5", "--check")
    assert "dQ, dX, dW_K: wrong: the factor 1/√D_Q of the scores is missing in backward\n" in outcome.out
    assert "dW_V: right\n" in outcome.out


def test_a_file_is_never_replaced(run: Cli) -> None:
    Path("softmax.py").write_text("mine", encoding="utf-8")
    message = run.fails("exercise", "softmax")
    assert message == (
        "npattn: softmax.py: is there already, and is not replaced; npattn exercise softmax --check checks it"
    )
    assert Path("softmax.py").read_text(encoding="utf-8") == "mine"
    Path("linear.py").symlink_to("nowhere.py")
    assert "linear.py" in run.fails("exercise", "linear") and not Path("nowhere.py").exists()


def test_what_a_file_prints_is_shown_once(run: Cli) -> None:
    code = read("softmax").solved.replace("    dE = ", "    print('shape', dA.shape)\n    dE = ")
    Path("softmax.py").write_text(code, encoding="utf-8")
    assert run("exercise", "softmax", "--check").out.count("shape (3, 5)\n") == 1


def test_three_hints_and_the_command_after_each(run: Cli) -> None:
    first, second, third = (run("exercise", "v5", "--hint", n).out for n in "123")
    assert run("exercise", "v5", "--hint").out == first
    for number, text, after in ((1, first, "--hint 2"), (2, second, "--hint 3"), (3, third, "--solution")):
        assert text.startswith(f"Hint {number} of 3. ") and text.endswith(f"\nAfter that: npattn exercise v5 {after}\n")
        assert " ".join(text.split()).partition("After that")[0].strip().endswith(read("v5").hints[number - 1])
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sofmax"], "sofmax: unknown exercise; did you mean softmax?"),
        (["quantum"], "npattn exercise lists all exercises"),
        (["--check"], "NAME is missing"),
        (["--solution"], "NAME is missing"),
        (["--hint"], "NAME is missing"),
        (["softmax", "--hint", "4"], "argument --hint: expected 1, 2 or 3, got '4'"),
        (["--hint", "softmax"], "argument --hint: expected 1, 2 or 3, got 'softmax'"),
        (["softmax", "--hint", "--solution"], "not allowed with argument"),
        (["softmax", "--check", ""], "expected a path"),
    ],
)
def test_a_wrong_command_line(run: Cli, arguments: list[str], message: str) -> None:
    assert message in run.fails("exercise", *arguments, status=2)
    assert list(Path().iterdir()) == []


def test_a_name_may_be_written_in_other_ways(run: Cli) -> None:
    assert run("exercise", "Layer-Norm").status == 0 and Path("layer_norm.py").exists()
    assert run("exercise", "layer_norm.py", "--check").status == 1


def test_the_last_exercise_leads_back_to_the_list(run: Cli) -> None:
    last = NAMES[-1]
    Path(f"{last}.py").write_text(read(last).solved, encoding="utf-8")
    assert run("exercise", last, "--check").out.endswith(f"{last}.py is right. Next: npattn exercise\n")


def test_a_file_that_cannot_be_read(run: Cli) -> None:
    assert run.fails("exercise", "softmax", "--check", "nix.py") == "npattn: nix.py: No such file or directory"
    message = run.fails("exercise", "softmax", "--check")
    assert message == "npattn: softmax.py: no such file; npattn exercise softmax writes it"
    Path("folder.py").mkdir()
    assert "folder.py: Is a directory" in run.fails("exercise", "softmax", "--check", "folder.py")


def test_a_folder_that_cannot_be_written(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "cannot write: No space left on device", str(path))

    monkeypatch.setattr("npattn.cli.exercise.command.write_text", full)
    assert run.fails("exercise", "softmax") == "npattn: softmax.py: cannot write: No space left on device"


def test_without_docstrings_and_asserts(tmp_path: Path) -> None:
    """Under -OO the texts are still there, because a sheet is no docstring."""
    (tmp_path / "softmax.py").write_text(read("softmax").starter, encoding="utf-8")
    command = [sys.executable, "-OO", "-m", "npattn", "exercise", "softmax", "--check"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=env, timeout=60)
    assert done.returncode == 1 and done.stdout.startswith(b"dE: still blank")


def test_a_solution_is_piped_in_utf_8() -> None:
    """Whatever the locale is."""
    outcome = process("exercise", "softmax", "--solution", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert outcome.status == 0 and outcome.out == read("softmax").solved
