"""Helpers of the command-line tests: calls in this process and in a new one, and a task with a short training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from npattn.cli.program import main

#: Options with which three steps take a tenth of a second.
TINY = ["--steps", "3", "--d-model", "8", "--heads", "2", "--layers", "1", "--batch", "8", "--workers", "1"]


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


class Cli:
    """Calls `main` as a shell does, without `keep_memory`: it would change the allocator of the tests' process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *argv: str | Path) -> Outcome:
        with mock.patch("npattn.cli.program.keep_memory") as keep_memory, mock.patch("sys.argv", ["npattn"]):
            status = main([str(each) for each in argv])
        assert keep_memory.call_count <= 1
        return Outcome(status, *self.capsys.readouterr())

    def fails(self, *argv: str | Path, status: int = 1) -> str:
        """Check that the call fails with one line on standard error; return the line."""
        outcome = self(*argv)
        assert outcome.status == status, outcome
        assert outcome.err.count("\n") == 1 and outcome.err.startswith("npattn: "), outcome.err
        assert "Traceback" not in outcome.err
        return outcome.err.strip()


def process(*argv: str | Path, stdin: str | bytes = "", **env: str) -> Outcome:
    """Call the command line in a new process."""
    command = [sys.executable, "-m", "npattn", *map(str, argv)]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(command, input=data, capture_output=True, env=os.environ | env, timeout=60)
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def write_pairs(folder: Path, unit: str = "characters") -> Path:
    """Write a file of words and the same words backwards."""
    words = [a + b + c for a in "abc" for b in "abc" for c in "abcd"]
    joint = " " if unit == "words" else ""
    path = folder / "mirror.tsv"
    path.write_text("".join(f"{joint.join(w)}\t{joint.join(reversed(w))}\n" for w in words), encoding="utf-8")
    return path
