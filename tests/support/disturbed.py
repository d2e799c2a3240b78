"""The command line with a disturbance in a training step; test_runs_on_ranks.py starts it on every rank.

    mpiexec -n 2 python disturbed.py WHAT STEP RANK train …

The disturbance WHAT happens in step STEP, on rank RANK or, for −1, on every rank. WHAT is one of `DISTURBANCES`, or
"elsewhere": then the rank starts in another folder, which holds the data alone.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from npattn import cli
from npattn.training.ranks import world
from npattn.training.trainer import Trainer


def stop(trainer: Trainer) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def kill(trainer: Trainer) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(trainer: Trainer) -> None:
    raise MemoryError("no room for a step")


def interrupt(trainer: Trainer) -> None:
    raise KeyboardInterrupt


def nan(trainer: Trainer) -> None:
    trainer.model.params.flat[:] = np.nan


def drift(trainer: Trainer) -> None:
    trainer.model.params.flat[-1] += 1


def full_disk(trainer: Trainer) -> None:
    """Make every fsync fail from now on, as on a full disk."""
    mock.patch("os.fsync", side_effect=OSError(errno.ENOSPC, "No space left on device")).start()


def nothing(trainer: Trainer) -> None:
    pass


DISTURBANCES = {each.__name__: each for each in (stop, kill, fail, interrupt, nan, drift, full_disk, nothing)}


def move(task: str) -> None:
    """Make the folder `elsewhere`, copy the task into it, and change to it."""
    folder = Path("elsewhere")
    folder.mkdir(exist_ok=True)
    shutil.copy(task, folder)
    os.chdir(folder)


def main(what: str, at: str, rank: str, *argv: str) -> int:
    step = Trainer.step
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in a background job of a shell would ignore it
    if what == "elsewhere":
        what = "nothing"
        if world().Get_rank() == int(rank):
            move(argv[1])

    def disturbed(trainer: Trainer, *args: Any, **kwargs: Any) -> float:
        if trainer.steps == int(at) - 1 and int(rank) in (-1, trainer.ranks.rank):
            DISTURBANCES[what](trainer)
        return step(trainer, *args, **kwargs)

    with mock.patch.object(Trainer, "step", disturbed):
        return cli.main(argv)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
