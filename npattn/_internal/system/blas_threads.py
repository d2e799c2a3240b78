"""Hold BLAS to one thread while worker threads share the work.

Worker threads with a matrix product each are faster than one thread whose products use every core, because everything
that is no matrix product (softmax, layer norm, relu) then uses every core too. BLAS must keep to one thread in each
worker; otherwise the workers wait for each other.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import threading
from collections.abc import Iterator
from typing import Any


def cores() -> int:
    """The number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def can_limit_blas() -> bool:
    """Whether BLAS can be held to one thread: threadpoolctl (the extra `fast`) is installed and knows this BLAS.

    Releases of it before 3.5 do not know the one in NumPy's wheels.
    """
    if importlib.util.find_spec("threadpoolctl") is None:
        return False
    return any(library.user_api == "blas" for library in _controller().lib_controllers)


@functools.cache
def _controller() -> Any:
    import threadpoolctl  # an optional extra

    return threadpoolctl.ThreadpoolController()


class _BlasLimit:
    """One BLAS thread for as long as at least one block asks for it.

    The setting belongs to the whole process. If two overlapping blocks each restored what they found, the last one
    could restore the single thread of the other, for good. So the first block sets the limit and the last one lifts it.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._limit = threading.Lock(), 0, contextlib.ExitStack()

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limit.enter_context(_controller().limit(limits=1, user_api="blas"))
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.close()


_blas_limit = _BlasLimit()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread inside the block, and restore what was set before; blocks in several threads may overlap.

    Where that cannot be done, BLAS threads stay as they are.
    """
    if not can_limit_blas():
        yield
        return
    _blas_limit.enter()
    try:
        yield
    finally:
        _blas_limit.leave()
