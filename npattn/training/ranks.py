"""Ranks: the processes that train together under MPI, and the messages between them.

**Sum**  Every rank is given the same batch and works on rows of its own. Its shards weigh their gradients with n_i/n,
their part of the real tokens of the whole batch, from the start (`npattn.training.shards`), so that with g_r the sum over the
shards of rank r the gradient of the batch is

    g = Σ_r g_r

without another factor. One MPI_Allreduce, in place, of one contiguous buffer takes this sum:

    | gradients, as they lie in Parameters.flat | loss | requests to stop |

The loss stands in the same buffer, in the dtype of the gradients: one message instead of two. In float32 its rounding of
6e-8 is no more than that of the logits it comes from. The number of ranks that want to stop stands there too, so all
ranks know it after the same step, at no cost.

**Drift**  The usual algorithms of MPI give every rank the same sum to the bit, and all that follows from it (clipping,
Adam) is the same arithmetic on processors of one kind, so parameters are sent once, at the start. Nothing guarantees
it, so `Ranks.require_alike` compares checksums and raises an error that names the ranks that differ.

A process without MPI is rank 0 of 1: the same calls work, without any message.

**Source**  Message Passing Interface Forum, "MPI: A Message-Passing Interface Standard" 4.1 (2023), §6.9.6 on
MPI_Allreduce; mpi4py passes NumPy's memory on as it is to the methods in capital letters.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from npattn._internal.checks import Array
from npattn.transformer.parameters import Blocks, Parameters

T = TypeVar("T")
U = TypeVar("U")


class Communicator(Protocol):
    """What is used of an mpi4py communicator."""

    def Get_rank(self) -> int: ...
    def Get_size(self) -> int: ...
    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None: ...
    def Bcast(self, buf: Any) -> None: ...
    def Dup(self) -> Any: ...
    def bcast(self, obj: Any) -> Any: ...
    def allgather(self, sendobj: Any) -> list[Any]: ...


class RanksDiffer(ArithmeticError):
    """Ranks that must hold the same do not."""


class GradientBuffer(Blocks):
    """Gradients like `params` in one contiguous array, `memory`, with room for two numbers behind them; not cleared."""

    def __init__(self, params: Parameters) -> None:
        self.memory: Array = np.empty(params.flat.size + 2, params.flat.dtype)
        self.flat: Array = self.memory[:-2]
        blocks, start = {}, 0
        for name, block in params.blocks.items():
            blocks[name] = self.flat[start : start + block.size].reshape(block.shape)
            start += block.size
        super().__init__(params.shapes, params.side_by_side, blocks)


class Ranks:
    """The processes of `comm`, an mpi4py communicator, of which this one is `rank` of `size`; None: this one alone.

    Each method but `must_stop` is collective: all ranks have to call it, in the same order. `stop_requested` is called
    at every sum; it says whether this rank should stop.
    """

    def __init__(self, comm: Communicator | None = None) -> None:
        if comm is not None and not hasattr(comm, "Get_size"):
            raise TypeError(f"comm: expected an mpi4py communicator or None, got {type(comm).__name__}")
        self.rank, self.size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
        self.comm = comm if self.size > 1 else None           # a single rank sends no messages
        self.stop_requested: Callable[[], bool] = lambda: False
        self._must_stop = False

    def add_up(self, grads: GradientBuffer, loss: float) -> float:
        """Replace the gradients of this rank by the sum over all ranks, and return the sum of the losses."""
        if self.comm is None:
            return loss
        grads.memory[-2:] = loss, self.stop_requested()
        self.comm.Allreduce(None, grads.memory)               # mpi4py takes None for MPI.IN_PLACE
        self._must_stop = bool(grads.memory[-1] > 0)
        return float(grads.memory[-2])

    def must_stop(self) -> bool:
        """Whether to stop: some rank requested it at the last sum. A single rank need not wait for a sum."""
        return self.stop_requested() if self.comm is None else self._must_stop

    def copy_first(self, arrays: Iterable[Array]) -> None:
        """Overwrite the arrays with those of rank 0."""
        if self.comm is not None:
            for array in arrays:
                self.comm.Bcast(array)

    def from_first(self, call: Callable[[], T]) -> T:
        """Let rank 0 alone call; return on all ranks what it got, or raise what it raised."""
        if self.comm is None:
            return call()
        outcome: tuple[Any, Exception | None] = None, None
        if self.rank == 0:
            try:
                outcome = call(), None
            except Exception as error:                        # the other ranks wait for this message
                outcome = None, error
        result, failure = self.comm.bcast(outcome)
        if failure is not None:
            raise failure
        return result

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order."""
        return [value] if self.comm is None else self.comm.allgather(value)

    def share_out(self, call: Callable[[Sequence[T]], list[U]], items: Sequence[T]) -> list[U]:
        """Return call(items), each rank doing its share; `call` gives one result for each item, in their order."""
        results: list[Any] = [None] * len(items)
        for rank, share in enumerate(self.gather(call(items[self.rank :: self.size]))):
            results[rank :: self.size] = share
        return results

    def require_alike(self, **facts: Any) -> None:
        """Raise RanksDiffer on all ranks, naming them, unless each of the facts is the same everywhere."""
        everywhere = self.gather(facts)
        for name, value in everywhere[0].items():
            if any(each[name] != value for each in everywhere):
                got = _by_ranks([str(each[name]) for each in everywhere])
                raise RanksDiffer(f"{name}: expected the same on every rank, got {got}")

    def sharing_cores(self) -> int:
        """Return how many ranks use just the cores that this one may use: all of a computer, unless MPI binds them."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        return self.gather((platform.node(), cores)).count((platform.node(), cores))


def _by_ranks(values: Sequence[str]) -> str:
    """Say on which ranks each value is.

    >>> _by_ranks(["0.5", "0.1", "0.5"])
    '0.5 on ranks 0, 2; 0.1 on rank 1'
    """
    found: dict[str, list[str]] = {}
    for rank, value in enumerate(values):
        found.setdefault(value, []).append(str(rank))
    return "; ".join(f"{value} on rank{'s' * (len(numbers) > 1)} {', '.join(numbers)}" for value, numbers in found.items())


def world() -> Communicator:
    """Return MPI's communicator of all processes that were started together. Raises ImportError without mpi4py."""
    try:
        from mpi4py import MPI  # an optional extra; importing it initialises MPI
    except (ImportError, RuntimeError) as error:              # RuntimeError: there is no MPI library
        raise ImportError(f"MPI cannot be used: {error} (pip install npattn[mpi], and an MPI)") from error
    return MPI.COMM_WORLD
