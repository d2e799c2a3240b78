"""Real disks that are full or read-only: small tmpfs mounts in a new mount namespace. Linux, as root.

The program `python full_disks.py FOLDER KIB …` calls `fill`; `in_a_namespace` starts it.
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
    """Return whether this system allows to mount."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


def in_a_namespace(folder: Path, sizes: Sequence[int]) -> str:
    """Call `fill` in a process with a new mount namespace, and return what it prints."""
    command = ["unshare", "-m", sys.executable, __file__, str(folder), *map(str, sizes)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fill(folder: Path, sizes: Sequence[int]) -> Counter[str]:
    """Train on a disk of every size in KiB; enlarge the disk, resume, and compare the bits with an undisturbed run.

    Every failure must print one line that names the full disk. It must leave a whole checkpoint or none, and no part of
    the one that did not fit. At the end the disk becomes read-only.
    """
    counts, data, disk = Counter[str](), words_task(folder).name, folder / "disk"
    assert train(data, folder / "undisturbed") == ""
    disk.mkdir()
    for size in sizes:
        mount(disk, f"size={size}k")
        try:
            error = train(data, disk / "run")
            assert error == "" or "No space left on device" in error, error
            counts[what_is_left(disk / "run") if error else "enough space"] += 1
            mount(disk, "remount,size=64m")
            assert train(data, disk / "run") == ""
            assert outcome(disk / "run") == outcome(folder / "undisturbed"), f"{size} KiB: other bits"
            mount(disk, "remount,ro")
            assert "Read-only file system" in train(data, disk / "other")
            assert train(data, disk / "run") == ""            # a finished run is scored again and writes nothing
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return counts


def train(data: str, run: Path) -> str:
    """Call the command line to start or resume a run; return its error, or an empty text."""
    resume = ["--resume"] if (run / "run.json").exists() else OPTIONS
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as stderr:
        status = main(["train", data, "--run", str(run), *resume])
    error = stderr.getvalue()
    assert (status, error.count("\n")) == ((1, 1) if error else (0, 0)), (status, error)
    return error


def what_is_left(run: Path) -> str:
    """Return what a full disk holds; raise if a checkpoint on it is not whole."""
    assert not list(run.glob(".*"))
    if not (run / "last.npz").exists():
        return "full, no checkpoint yet"
    load_arrays(run / "last.npz")
    return "full, the last checkpoint whole"


def mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


if __name__ == "__main__":
    print(dict(fill(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]])))
