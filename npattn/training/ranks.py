"""Ranks: the processes that train together under MPI, and the messages between them.

**Sum**  Every rank gets the same batch and works on its own rows. Each shard multiplies its loss by n_i/n, its part of
the real tokens of the whole batch (`npattn.training.shards`). With g_r the sum over the shards of rank r, the gradient
of the batch is therefore

    g = Σ_r g_r

without another factor. One MPI_Allreduce, in place, adds one contiguous buffer over all ranks:

    | gradients, in the order of Parameters.flat | loss | number of ranks that request to stop |

The loss is in the same buffer, in the dtype of the gradients: one message instead of two. In float32 this rounds it by
6e-8, no more than the logits it comes from. The requests to stop are in the buffer too. So all ranks see them after the
same step, at no cost.

**Drift**  The usual algorithms of MPI give every rank the same sum to the bit. Clipping and Adam then do the same
arithmetic on processors of one kind. So parameters are sent once, at the start. MPI does not guarantee equal bits, so
`Ranks.require_alike` compares checksums and raises an error that names the ranks that differ.

A process without MPI is rank 0 of 1: the same calls work, and no message is sent.

**Source**  Message Passing Interface Forum, "MPI: A Message-Passing Interface Standard" 4.1 (2023), §6.9.6 on
MPI_Allreduce. The mpi4py methods with a capital letter pass NumPy's memory to MPI without a copy.
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
    """The methods of an mpi4py communicator that npattn calls."""

    def Get_rank(self) -> int: ...
    def Get_size(self) -> int: ...
    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None: ...
    def Bcast(self, buf: Any) -> None: ...
    def Dup(self) -> Any: ...
    def bcast(self, obj: Any) -> Any: ...
    def allgather(self, sendobj: Any) -> list[Any]: ...


class RanksDiffer(ArithmeticError):
    """Ranks hold different values where all must hold the same."""


class GradientBuffer(Blocks):
    """Gradients like `params` in one contiguous array, `memory`, followed by two numbers. Not set to zero."""

    def __init__(self, params: Parameters) -> None:
        self.memory: Array = np.empty(params.flat.size + 2, params.flat.dtype)
        self.flat: Array = self.memory[:-2]
        ends = np.cumsum([block.size for block in params.blocks.values()])
        parts = zip(params.blocks.items(), np.split(self.flat, ends[:-1]), strict=True)
        blocks = {name: part.reshape(block.shape) for (name, block), part in parts}
        super().__init__(params.shapes, params.side_by_side, blocks)


class Ranks:
    """The processes of `comm`, an mpi4py communicator; None means this process alone. It is rank `rank` of `size`.

    Each method but `must_stop` is collective: all ranks have to call it, in the same order. Every sum calls
    `stop_requested`, a function that returns whether this rank should stop.
    """

    def __init__(self, comm: Communicator | None = None) -> None:
        if comm is not None and not hasattr(comm, "Get_size"):
            raise TypeError(f"comm: expected an mpi4py communicator or None, got {type(comm).__name__}")
        self.rank, self.size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
        self.comm = comm if self.size > 1 else None           # a single rank sends no messages
        self.stop_requested: Callable[[], bool] = bool        # bool() is False
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
        """Return whether some rank requested to stop at the last sum. A single rank need not wait for a sum."""
        return self.stop_requested() if self.comm is None else self._must_stop

    def copy_first(self, arrays: Iterable[Array]) -> None:
        """Overwrite the arrays with those of rank 0."""
        if self.comm is not None:
            for array in arrays:
                self.comm.Bcast(array)

    def from_first(self, call: Callable[[], T]) -> T:
        """Call `call` on rank 0 alone. Return its result on all ranks, or raise its exception on all ranks."""
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
        """Return call(items); each rank computes its share. `call` returns one result for each item, in their order."""
        results: list[Any] = [None] * len(items)
        for rank, share in enumerate(self.gather(call(items[self.rank :: self.size]))):
            results[rank :: self.size] = share
        return results

    def require_alike(self, **facts: Any) -> None:
        """Raise RanksDiffer on all ranks, naming them, unless each of the facts is the same on every rank."""
        everywhere = self.gather(facts)
        for name, value in everywhere[0].items():
            if any(each[name] != value for each in everywhere):
                got = _by_ranks([str(each[name]) for each in everywhere])
                raise RanksDiffer(f"{name}: expected the same on every rank, got {got}")

    def sharing_cores(self) -> int:
        """Return how many ranks may use exactly the cores of this one: all of a computer, unless MPI binds them."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        return self.gather((platform.node(), cores)).count((platform.node(), cores))


def _by_ranks(values: Sequence[str]) -> str:
    """Return a text that lists each value with its ranks.

    >>> _by_ranks(["0.5", "0.1", "0.5"])
    '0.5 on ranks 0, 2; 0.1 on rank 1'
    """
    found: dict[str, list[str]] = {}
    for rank, value in enumerate(values):
        found.setdefault(value, []).append(str(rank))
    return "; ".join(f"{value} on rank{'s' * (len(ranks) > 1)} {', '.join(ranks)}" for value, ranks in found.items())


def world() -> Communicator:
    """Return MPI's communicator of all processes that were started together. Raises ImportError without mpi4py."""
    try:
        from mpi4py import MPI  # an optional extra; importing it initialises MPI
    except (ImportError, RuntimeError) as error:              # RuntimeError: there is no MPI library
        raise ImportError(f'MPI cannot be used: {error} (pip install "npattn[mpi]", and an MPI)') from error
    return MPI.COMM_WORLD
