"""The processes (ranks) of `mpiexec -n 4 python -m npattn … --mpi`: only rank 0 prints, and all end together."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from npattn.cli.terminal import FAILURE, INTERRUPTED, Console, UsageError, error_message, print_error
from npattn.training.ranks import world

#: Seconds that a failed rank waits for the outcome of the others. After that it ends the job.
OUTCOME_TIMEOUT = 3.0

#: Seconds that mpiexec gets to forward the last line; Open MPI's loses output that is under way when a job is aborted.
FORWARDING_TIME = 0.5


@contextlib.contextmanager
def all_ranks(console: Console, *, debug: bool = False) -> Iterator[tuple[Any, Console]]:
    """Give the block MPI's communicator and a console, which is silent except on rank 0.

    The ranks exchange their outcomes at the end. When all outcomes arrive, the lowest failed rank raises its error, and
    the other failed ranks exit without a message. When an outcome does not arrive in time, that rank still waits for
    the failed one, and would wait for ever: the failed rank prints its error and ends the job.
    """
    comm = _world()
    outcomes = comm.Dup()                                     # carries the outcomes and no other message
    with open(os.devnull, "w", encoding="utf-8") as null:
        try:
            yield comm, console if comm.Get_rank() == 0 else Console(null)
        except BaseException as error:
            failed = _exchange(outcomes, True, OUTCOME_TIMEOUT)
            if failed is None:
                _end_job(comm, error, debug)
            if failed.index(True) == comm.Get_rank():
                raise
            raise SystemExit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILURE) from error
        _exchange(outcomes, False)


def _world() -> Any:
    try:
        return world()
    except ImportError:
        if is_first_process():
            raise
        raise SystemExit(FAILURE) from None


def _exchange(comm: Any, failed: bool, timeout: float = float("inf")) -> list[bool] | None:
    """Send whether this rank failed, and return whether each rank failed; None after `timeout` seconds."""
    everywhere = np.zeros(comm.Get_size(), bool)
    request = comm.Iallgather(np.array([failed]), everywhere)
    deadline = time.monotonic() + timeout
    while not request.Test():
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    return everywhere.tolist()


def _end_job(comm: Any, error: BaseException, debug: bool) -> NoReturn:
    """Print the error of this rank, and end all processes of the job."""
    print_error(f"rank {comm.Get_rank()} of {comm.Get_size()}: {error_message(error)}", FAILURE, debug)
    time.sleep(FORWARDING_TIME)
    comm.Abort(FAILURE)
    os._exit(FAILURE)                                         # MPICH's Abort may return before the process ends


def require_alone() -> None:
    """Raise UsageError when mpiexec started several processes without --mpi: each would train the same run."""
    size = os.environ.get("PMI_SIZE") or os.environ.get("OMPI_COMM_WORLD_SIZE", "1")   # of MPICH, of Open MPI
    if size != "1":
        raise UsageError(f"mpiexec started {size} of these processes: add --mpi for one training on all of them")


def is_first_process() -> bool:
    """Whether this process prints the errors that all processes have before they can exchange outcomes."""
    return (os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK", "0")) == "0"
