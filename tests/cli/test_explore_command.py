"""`npattn explore`: serves the page until Ctrl-C, or writes it as one file."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from npattn.cli.explore import command
from npattn.learn.explore.saved import Explorer, explore
from npattn.learn.explore.subjects import subjects
from support.command_line import Cli


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done before the server ended, as after Ctrl-C: addresses opened in a browser, and pages built."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    found: list[str] = []
    monkeypatch.setattr(command.webbrowser, "open", found.append)
    monkeypatch.setattr(command.Server, "serve_forever", end)
    monkeypatch.setattr(command.threading.Thread, "start", lambda thread: found.append(f"{thread.daemon}"))
    return found


def test_it_prints_the_address_and_opens_the_browser(run: Cli, opened: list[str]) -> None:
    status, out, err = run("explore")
    assert (status, err) == (130, "npattn: interrupted\n")
    first, second = out.splitlines()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{43}/page\?subject=v5", first) and opened == [first, "True"]
    assert second == "This page is for your browser on this machine alone. Ctrl-C ends it."
    assert run("explore", "g2p").out.splitlines()[0] == opened[2] and opened[2].endswith("/page?subject=g2p")


def test_without_a_browser_and_with_a_port(run: Cli, opened: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.listen()
        error = run.fails("explore", "--port", str(port))
    assert error == f"npattn: 127.0.0.1:{port}: Address already in use; without --port a free one is taken"
    status, out, _ = run("explore", "v1", "--no-browser", "--port", str(port))
    assert status == 130 and out.startswith(f"http://127.0.0.1:{port}/") and opened == ["True"]


def test_it_writes_one_file(run: Cli, opened: list[str], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    outcome = run("explore", "v4", "--out", path)
    assert outcome == (0, f"{path}: v4. Open it with a browser; it needs no network.\n", "")
    explore("v4").save(tmp_path / "other.htm")
    assert path.read_bytes() == (tmp_path / "other.htm").read_bytes() and opened == []
    error = run.fails("explore", "--out", path)
    assert error == f"npattn: {path}: is there already; --overwrite replaces it"
    assert run("explore", "v1", "--out", tmp_path / "other.htm", "--overwrite").status == 0
    assert '"subject":"v1"' in (tmp_path / "other.htm").read_text(encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("argv", "error"), [
    (["--port", "65536"], "--port: expected a number from 0 to 65535, got 65536"),
    (["--port", "-1"], "argument --port: expected a whole number of 0 or more, got '-1'"),
    (["--out", "v5.png"], "--out: expected a name that ends in .html, got v5.png"),
    (["--out", "v5.html", "--port", "0"], "--port and --no-browser: expected none of them with --out"),
    (["--out", "v5.html", "--no-browser"], "--port and --no-browser: expected none of them with --out"),
    (["--overwrite"], "--overwrite: expected --out too"),
    (["--out", ""], "argument --out: expected a path, got ''"),
    (["v5", "v7"], "v7: expected no WORD for v5"),
])  # fmt: skip
def test_wrong_options(run: Cli, opened: list[str], argv: list[str], error: str) -> None:
    assert run.fails("explore", *argv, status=2) == f"npattn: {error} (see npattn explore --help)"


def test_the_last_port_is_one(run: Cli, opened: list[str]) -> None:
    assert run("explore", "--port", "65535", "--no-browser").out.startswith("http://127.0.0.1:65535/")


def test_a_word(run: Cli, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read before the page opens, so that what the model can't read is said here."""
    found: list[Any] = []

    def page(subject: str, word: str | None) -> Explorer:
        found.append(word)
        return explore("v4")

    monkeypatch.setattr(command, "build", lambda *args: found.append(args))
    monkeypatch.setattr(command, "explore", page)
    out = run("explore", "G2P", "o'neil", "--no-browser").out
    assert out.splitlines()[0].endswith("/page?subject=g2p&word=o%27neil")
    assert run("explore", "g2p", "night", "--out", tmp_path / "night.html").status == 0
    assert found == [("g2p", {"word": "o'neil"}), ("g2p", {"word": "night"}), "night"]

    def refuse(*_: object) -> None:
        raise ValueError("word: no such letter")

    monkeypatch.setattr(command, "build", refuse)
    assert run.fails("explore", "g2p", "n8") == "npattn: word: no such letter"


@pytest.mark.parametrize(("name", "hint"), [
    ("softmx", "did you mean softmax?"), ("Layer-nrm", "did you mean layer_norm or l2_norm?"),
    ("v15", "did you mean v5 or v1 or v14?"),
    ("knight", f"known are {', '.join(subjects())}"),
])  # fmt: skip
def test_an_unknown_subject(run: Cli, opened: list[str], name: str, hint: str) -> None:
    error = run.fails("explore", name, status=2)
    assert error == f"npattn: {name}: nothing to explore; {hint} (see npattn explore --help)"
    assert opened == []


@pytest.mark.parametrize(("name", "subject"), [("V5", "v5"), (" Layer-Norm ", "layer_norm"), ("G2P", "g2p")])
def test_a_subject_in_another_spelling(run: Cli, opened: list[str], name: str, subject: str) -> None:
    assert run("explore", name).out.splitlines()[0].endswith(f"/page?subject={subject}")


@pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of Unix")
def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    command_line = [sys.executable, "-m", "npattn", "explore", "v1", "--no-browser"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command_line, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        address, words = process.stdout.readline().strip(), process.stdout.readline()
        with urlopen(address, timeout=20) as page:
            assert page.status == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "npattn: interrupted\n")
    assert words == "This page is for your browser on this machine alone. Ctrl-C ends it.\n"
    assert list(tmp_path.iterdir()) == []
