"""Real disks that are full or read-only: small tmpfs mounts in a mount namespace of our own. Linux, as root.

As a program, `python full_disks.py FOLDER KIB …` does what `fill` does; `in_a_namespace` calls it.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from npattn._internal.files import load_arrays
from npattn.cli import main
from soak.crashes import outcome, words_task
from support.command_line import TINY

OPTIONS = [*TINY, "--steps", "12", "--validate-every", "5", "--checkpoint-every", "2"]


def available() -> bool:
    """Whether this system lets us mount."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


def in_a_namespace(folder: Path, sizes: Sequence[int]) -> str:
    """Do `fill` in a process that has a mount namespace of its own, and return what it prints."""
    command = ["unshare", "-m", sys.executable, __file__, str(folder), *map(str, sizes)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fill(folder: Path, sizes: Sequence[int]) -> Counter[str]:
    """Train on a disk of every size in KiB; make it larger, go on, and compare the bits with an undisturbed run.

    Every failure must be one line that says that the disk is full, and leave a whole checkpoint or none, and nothing of
    the one that did not fit. In the end the disk is made read-only.
    """
    counts, data, disk = Counter[str](), words_task(folder).name, folder / "disk"
    assert train(data, folder / "undisturbed") == ""
    disk.mkdir()
    for size in sizes:
        mount(disk, f"size={size}k")
        try:
            error = train(data, disk / "run")
            assert error == "" or "No space left on device" in error, error
            counts[what_is_left(disk / "run") if error else "enough room"] += 1
            mount(disk, "remount,size=64m")
            assert train(data, disk / "run") == ""
            assert outcome(disk / "run") == outcome(folder / "undisturbed"), f"{size} KiB: other bits"
            mount(disk, "remount,ro")
            assert "Read-only file system" in train(data, disk / "other")
            assert train(data, disk / "run") == ""             # finished: it is tested again, and nothing is written
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return counts


def train(data: str, run: Path) -> str:
    """Call the command line to start or resume a run; return its error, the empty string when there is none."""
    resume = ["--resume"] if (run / "run.json").exists() else OPTIONS
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as stderr:
        status = main(["train", data, "--run", str(run), *resume])
    error = stderr.getvalue()
    assert (status, error.count("\n")) == ((1, 1) if error else (0, 0)), (status, error)
    return error


def what_is_left(run: Path) -> str:
    """Say what a full disk holds, which must be whole."""
    assert not list(run.glob(".*"))
    if not (run / "last.npz").exists():
        return "full, no checkpoint yet"
    load_arrays(run / "last.npz")
    return "full, the last checkpoint whole"


def mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


if __name__ == "__main__":
    print(dict(fill(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]])))
