"""The ranks of `mpiexec -n 4 python -m npattn … --mpi`: the first alone speaks, and they end together."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from npattn.cli.terminal import Console, UsageError, complain, sentence
from npattn.training.ranks import world

#: Seconds that a rank which failed waits to hear whether the others did so too; then it ends them all.
PATIENCE = 3.0

#: Seconds that mpiexec has to pass the last line on; Open MPI's drops what is on its way when a job is aborted.
PASSING_ON = 0.5

#: Where MPICH (and what comes of it) and Open MPI say how many processes they started, and which this one is.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
NUMBERS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK")

FAILURE, INTERRUPTED = 1, 130


@contextlib.contextmanager
def joined(console: Console, *, debug: bool = False) -> Iterator[tuple[Any, Console]]:
    """Give the block MPI's communicator, and the console to rank 0 alone.

    What fails on every rank alike is raised on the first of them, which tells of it. What fails on a single rank is
    told by this one, which then ends the job: the others wait for it, and would do so for ever.
    """
    comm = _world()
    farewell = comm.Dup()                                     # where no other message can be in between
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        try:
            yield comm, console if comm.Get_rank() == 0 else Console(nowhere)
        except BaseException as error:
            failed = _ended(farewell, True, PATIENCE)
            if failed is None:
                _end_all(comm, error, debug)
            if failed.index(True) == comm.Get_rank():
                raise
            raise SystemExit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILURE) from error
        _ended(farewell, False)


def _world() -> Any:
    try:
        return world()
    except ImportError:
        if started_first():
            raise
        raise SystemExit(FAILURE) from None


def _ended(comm: Any, failed: bool, patience: float = float("inf")) -> list[bool] | None:
    """Tell how this rank ended, and return who failed; None when some rank has not ended within the time."""
    everywhere = np.zeros(comm.Get_size(), bool)
    request = comm.Iallgather(np.array([failed]), everywhere)
    deadline = time.monotonic() + patience
    while not request.Test():
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    return everywhere.tolist()


def _end_all(comm: Any, error: BaseException, debug: bool) -> NoReturn:
    """Tell what happened on this rank, and end all processes of the job."""
    complain(f"rank {comm.Get_rank()} of {comm.Get_size()}: {sentence(error)}", FAILURE, debug)
    time.sleep(PASSING_ON)
    comm.Abort(FAILURE)
    os._exit(FAILURE)                                         # MPICH may come back from Abort before the end comes


def require_alone(prog: str | None = None) -> None:
    """Raise a UsageError in one of several processes that mpiexec has started without --mpi: all would do the same."""
    size = _told(SIZES, "1")
    if size != "1":
        raise UsageError(f"mpiexec started {size} of these processes: add --mpi for one training on all of them", prog)


def started_first() -> bool:
    """Whether this is the process that tells what goes wrong in all of them before they can agree on that."""
    return _told(NUMBERS, "0") == "0"


def _told(names: Sequence[str], otherwise: str) -> str:
    return next((os.environ[name] for name in names if name in os.environ), otherwise)
