"""The command line as a whole: parsing, help, errors, exit statuses and streams."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import npattn
from npattn._internal.files import load_arrays
from npattn.cli import program
from npattn.cli.check import command as check
from npattn.cli.terminal import UsageError, command_line
from support.command_line import TINY, Cli, process, write_pairs

COMMANDS = ("tour", "check", "explain", "trace", "train", "predict", "figures")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def test_version(run: Cli) -> None:
    assert run("--version") == (0, f"npattn {npattn.__version__}\n", "")


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_on_a_full_disk_are_a_failure(option: str) -> None:
    """argparse alone ignores the full disk and returns 0."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs Linux's /dev/full")
    with full.open("w") as disk:
        done = subprocess.run(
            [sys.executable, "-m", "npattn", option], stdout=disk, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "npattn: No space left on device\n")


@pytest.mark.parametrize("command", [(), *[(name,) for name in COMMANDS]])
def test_help_fits_the_terminal(run: Cli, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = run(*command, "--help")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "--debug" in out
    assert all(name in out for name in COMMANDS) or command


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], "trian"),
        (["--nonsense"], "--nonsense"),
        (["train"], "TASK"),
        (["train", "dates", "--steps", "0"], "--steps: expected a whole number of 1 or more, got '0'"),
        (["train", "dates", "--steps", "many"], "--steps: expected a whole number of 1 or more, got 'many'"),
        (["train", "dates", "--dropout", "1"], "--dropout: expected a number of at least 0 and below 1, got '1'"),
        (["train", "dates", "--rate", "nan"], "--rate: expected a number above 0 and below 1, got 'nan'"),
        (["train", "dates", "--clip", "inf"], "--clip: expected a number above 0, got 'inf'"),
        (["train", "dates", "--step", "7"], "--step"),
        (["train", "dates", "--stress"], "--stress is an option of the task g2p"),
        (["train", "dates", "--unit", "words"], "--unit is an option of .tsv files"),
        (["train", "dates", "--run", ""], "--run: expected a path, got ''"),
        (["predict", ""], "RUN: expected a path, got ''"),
        (["figures", "--out", ""], "--out: expected a path, got ''"),
        (["tour", "--run", "a\0b"], "--run: expected a path, got 'a\\x00b'"),
        (["predict"], "the following arguments are required: RUN (see"),
        (["predict", "runs/x", "--nonsense", "text"], "--nonsense"),
        (["tour", "text"], "text"),
        (["figures", "--text", "abc"], "arguments are required: RUN"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(run: Cli, argv: list[str], words: str) -> None:
    line = run.fails(*argv, status=2)
    assert words in line
    assert re.search(r"\(see npattn( \w+)? --help\)$", line)


def test_the_help_of_the_command_that_failed_is_suggested(run: Cli) -> None:
    assert run.fails("trian", status=2).endswith("(see npattn --help)")
    assert run.fails("train", "dates", "--stress", status=2).endswith("(see npattn train --help)")
    assert run.fails("predict", "g2p", "--plot", "x.png", status=2).endswith("(see npattn predict --help)")


@pytest.mark.parametrize(("platform", "quoted"), [("linux", "'28 July 2025'"), ("win32", '"28 July 2025"')])
def test_a_suggested_command_is_quoted_for_the_shell(
    monkeypatch: pytest.MonkeyPatch, platform: str, quoted: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "argv", ["npattn"])
    assert command_line("predict", "runs", "28 July 2025") == f"npattn predict runs {quoted}"


PIECES = st.sampled_from([
    *COMMANDS, "dates", "pairs.tsv", "runs/x", "--run", "--resume", "--steps", "--seed", "--beam", "--rate", "--norm",
    "--debug", "--help", "--version", "--", "-", "-1", "0", "7", "1e9", "nan", "inf", "pre", "", "\0", "é", "\udcff",
])  # fmt: skip


@given(st.lists(PIECES | st.text(max_size=4), max_size=7))
def test_any_command_line_is_parsed_or_is_a_usage_error(argv: list[str]) -> None:
    """Only `parse` is called here, because `main` would run the command."""
    with contextlib.redirect_stdout(io.StringIO()), mock.patch("sys.argv", ["npattn"]):
        try:
            assert callable(program.parse(argv).run)
        except UsageError as error:
            assert str(error)
        except SystemExit as done:
            assert done.code == 0                             # --help, --version


def test_failures_are_one_line_and_status_1(run: Cli, tmp_path: Path) -> None:
    malformed = tmp_path / "malformed.tsv"
    malformed.write_text("a\tb\nc d\n", encoding="utf-8")
    assert "expected dates, g2p, text or the path of a .tsv file, got 'sums'" in run.fails("train", "sums")
    assert "no such file" in run.fails("train", tmp_path / "none.tsv")
    assert "line 2: expected source, one tab, target, got no tab" in run.fails("train", malformed)
    assert "expected the folder of a run" in run.fails("predict", tmp_path, "text")
    assert "multiple of n_heads=4, got 30" in run.fails(
        "train", write_pairs(tmp_path), "--d-model", "30", "--run", tmp_path / "run"
    )
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback(run: Cli, tmp_path: Path) -> None:
    for argv in (["--debug", "predict", tmp_path], ["predict", tmp_path, "--debug"]):
        status, _, err = run(*argv)
        assert status == 1
        assert "Traceback" in err and err.splitlines()[-1].startswith("npattn: ")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "runs/x"), "runs/x: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError("Unable to allocate 9 TiB"), "out of memory: Unable to allocate 9 TiB"),
        (ValueError("two\nlines"), "two lines"),
        (ValueError("red \x1b[31m"), r"red \x1b[31m"),
        (ValueError(), "ValueError: (--debug shows where)"),
        (KeyError("x"), "KeyError: 'x' (--debug shows where)"),
    ],
)
def test_any_exception_becomes_one_line(
    run: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*args: Any) -> int:
        raise error

    monkeypatch.setattr(check, "cases", fail)
    assert run.fails("check") == f"npattn: {message}"


def test_ctrl_c_is_status_130(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "cases", interrupt)
    assert run.fails("check", status=130) == "npattn: interrupted"


def test_without_a_command_it_is_the_tour() -> None:
    assert program.parse([]).command == "tour"
    assert program.parse(["--debug"]).command == "tour"


def test_python_m_npattn_is_the_program_name_in_help() -> None:
    status, out, err = process("--help")
    assert (status, err) == (0, "") and "usage: python -m npattn" in out
    status, out, err = process("train", "sums")
    assert (status, out) == (1, "") and err.startswith("npattn: task: expected")


def test_a_broken_pipe_ends_it_without_a_message(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path)
    assert process("train", pairs, "--run", tmp_path / "run", *TINY).status == 0
    lines = "ab\n" * 20_000
    reader = [sys.executable, "-c", "import sys; sys.stdin.readline()"]
    writer = [sys.executable, "-m", "npattn", "predict", str(tmp_path / "run")]
    with (
        subprocess.Popen(reader, stdin=subprocess.PIPE) as left,
        subprocess.Popen(writer, stdin=subprocess.PIPE, stdout=left.stdin, stderr=subprocess.PIPE) as ours,
    ):
        assert left.stdin is not None
        left.stdin.close()
        _, err = ours.communicate(lines.encode())
    assert err == b"" and ours.returncode == 141


@pytest.mark.skipif(sys.platform == "win32", reason="closes standard streams as a POSIX shell does")
@pytest.mark.parametrize("closed", [*(pytest.param(n, marks=pytest.mark.long) for n in ("0", "1", "2")), "0 1 2"])
def test_closed_standard_streams_are_the_null_device(tmp_path: Path, closed: str) -> None:
    """Otherwise messages to standard error would be written into the file that got its number."""
    script = """if True:
        import os, sys
        for number in map(int, sys.argv[1].split()):
            os.close(number)
        os.execv(sys.executable, [sys.executable, "-m", "npattn", *sys.argv[2:]])
    """
    options = [str(write_pairs(tmp_path)), "--run", str(tmp_path / "run"), *TINY]
    for command, status in ((["train", *options], 0), (["predict", str(tmp_path / "run")], 0),
                            (["predict", str(tmp_path / "none"), "x"], 1)):  # fmt: skip
        argv = [sys.executable, "-c", script, closed, *command]
        done = subprocess.run(argv, input=b"", capture_output=True, timeout=300)
        assert done.returncode == status, done
        assert b"Error" not in done.stdout + done.stderr
        assert not (status and "2" in closed.split() and done.stdout)
    load_arrays(tmp_path / "run" / "last.npz")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_standard_output_or_error_is_status_1(tmp_path: Path) -> None:
    for stream, expected in (("stdout", b"npattn: No space left on device\n"), ("stderr", b"")):
        with open("/dev/full", "wb") as full:
            streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full}
            command = ["check"] if stream == "stdout" else ["predict", str(tmp_path)]
            done = subprocess.run([sys.executable, "-m", "npattn", *command], timeout=300, **streams)
        assert done.returncode == 1 and (done.stdout or b"") + (done.stderr or b"") == expected


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="needs names of files that are no UTF-8")
def test_a_path_that_is_no_utf8_is_written_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = os.fsencode(tmp_path / "caf") + b"\xe9"
    command = [sys.executable, "-m", "npattn", "figures", "g2p", "--out", folder]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (folder + b"/learning-curve.png\n", b"")
    assert os.listdir(folder) == [b"learning-curve.png"]


def test_numpys_warnings_are_shown_only_with_debug(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow() -> int:
        warnings.warn("overflow encountered in matmul", RuntimeWarning, stacklevel=1)
        raise FloatingPointError("expected a finite loss, got nan")

    monkeypatch.setattr(check, "cases", overflow)
    assert run.fails("check") == "npattn: expected a finite loss, got nan"
    assert "RuntimeWarning" in run("check", "--debug").err      # an error in the tests


def test_no_other_folder_prints() -> None:
    root = Path(npattn.__file__).parent
    for path in root.rglob("*.py"):
        if path.relative_to(root).parts[0] not in ("cli", "__main__.py"):
            code = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            assert not re.search(r"\bprint\(|\bsys\.std(out|err)\b", code), path


def test_importing_npattn_does_not_load_the_command_line() -> None:
    script = "import sys, npattn; npattn.layers, npattn.Trainer; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "npattn.layers" in loaded and not {"npattn.cli", "npattn.runs"} & set(loaded)
