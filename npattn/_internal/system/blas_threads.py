"""Hold BLAS to one thread while worker threads share the work.

Several workers, each with its own matrix products, are faster than one thread with products on every core: softmax,
layer norm and relu then use every core too. BLAS must keep to one thread in each worker; otherwise the workers wait for
each other.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import threading
from collections import Counter
from typing import Any


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_limit_blas() -> bool:
    """Return whether BLAS can be held to one thread.

    This needs the package threadpoolctl (the extra `fast`), in a release that supports this BLAS: 3.5 or later for the
    BLAS in NumPy's wheels.
    """
    installed = importlib.util.find_spec("threadpoolctl") is not None
    return installed and any(library.user_api == "blas" for library in _controller().lib_controllers)


@functools.cache
def _controller() -> Any:
    import threadpoolctl  # an optional extra

    return threadpoolctl.ThreadpoolController()


class _BlasLimit:
    """A block that holds BLAS to one thread; blocks in several threads may overlap.

    The setting belongs to the whole process. If every block restored the setting that it found, the last block could
    restore the single thread of another block, for ever. So the first block sets the limit and the last one lifts it.
    A forked process has the thread that forked alone, so the blocks of the other threads never end in it.
    """

    def __init__(self) -> None:
        self._lock, self._limit = threading.Lock(), contextlib.ExitStack()
        self._inside: Counter[int] = Counter()                # the number of blocks that each thread is in
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget_other_threads)

    def __enter__(self) -> None:
        with self._lock:
            if self._inside.total() == 0:
                _take_control()
                self._limit.enter_context(_controller().limit(limits=1, user_api="blas"))
            self._inside[threading.get_ident()] += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside[threading.get_ident()] -= 1
            if self._inside.total() == 0:
                self._inside.clear()
                _take_control()
                self._limit.close()

    def _forget_other_threads(self) -> None:
        this, before = threading.get_ident(), self._inside.total()
        self._lock, self._inside = threading.Lock(), Counter({this: self._inside[this]})
        if before and self._inside.total() == 0:
            _take_control()
            self._limit.close()


def _take_control() -> None:
    """Let this thread set the threads of BLAS. From 3.8 on, threadpoolctl silently ignores all threads but one."""
    for library in _controller().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


_blas_limit = _BlasLimit()


def one_blas_thread() -> contextlib.AbstractContextManager[None]:
    """Hold BLAS to one thread inside the block, and restore the old setting afterwards.

    Blocks in several threads may overlap. BLAS stays as it is where it cannot be held (see `can_limit_blas`).
    """
    return _blas_limit if can_limit_blas() else contextlib.nullcontext()
