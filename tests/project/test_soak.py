"""A few of each of the long tests in tests/soak."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")]


def soak(*argv: str) -> str:
    """Run tests/soak in a new process: that of pytest may have threads, and should not fork."""
    command = [sys.executable, str(Path(__file__).parents[1] / "soak"), *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("workers", ["1", "2"])
def test_runs_that_are_killed_again_and_again(workers: str) -> None:
    assert "'kills': " in soak("kill", "--kills", "4", "--workers", workers)


def test_kills_before_file_operations() -> None:
    assert int(soak("events", "--every", "23").partition("'kills': ")[2].partition("}")[0]) > 2


def test_full_disks() -> None:
    found = soak("disks", "--every", "12")
    if "skipped" in found:
        pytest.skip(found)
    assert "full, no checkpoint yet" in found and "full, the last checkpoint whole" in found
