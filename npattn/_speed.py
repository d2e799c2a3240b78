"""What makes training fast on a CPU without touching the mathematics; `npattn.Trainer` asks for it, an import does not.

Each is measured and named:

- `one_blas_thread`: worker threads that each run their own matrix products are faster than one thread whose products
  use every core, because everything that is not a matrix product (softmax, layer norm, relu) then uses every core
  too. For that BLAS must keep to one thread a worker; otherwise they wait for each other.
- `keep_memory`: NumPy returns each large temporary to the operating system, which then has to map and clear fresh
  pages for the next. Telling glibc to keep freed memory, and all threads to share it, saves that: a step of the
  paper's base model took 1,190 ms instead of 1,560, of which the kernel had 430.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

#: Options of glibc's mallopt, from its malloc.h, with what `keep_memory` sets and what glibc starts from. One arena:
#: the others, which worker threads would get, are made of pieces of 64 MB that are given back whatever is set here.
SETTINGS = {
    "M_MMAP_THRESHOLD": (-3, 1 << 30, 1 << 17),
    "M_TRIM_THRESHOLD": (-1, (1 << 31) - 1, 1 << 17),
    "M_TOP_PAD": (-2, 1 << 26, 1 << 17),
    "M_ARENA_MAX": (-8, 1, 0),
}


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
    """One BLAS thread as long as anybody wants it.

    The setting is the whole process's. Two blocks that overlap without being nested would each restore what they
    found, the last one the other's single thread, for good. So the first to come limits and the last to go restores.
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


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)


def keep_memory() -> bool:
    """Tell glibc to keep freed memory of this process for reuse; return whether it did. A no-op elsewhere.

    It holds for the whole process until `return_memory`, and memory in use stays at its peak. So it is for who trains
    or measures: `npattn.Trainer`, the command line and the benchmarks ask for it, importing npattn does not.
    """
    return _set_options(1)


def return_memory() -> bool:
    """Undo `keep_memory`: set glibc's own values again and give unused memory back; return whether it did."""
    done = _set_options(2)
    if done:
        _libc().malloc_trim(0)
    return done


def _set_options(column: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(_libc(), "mallopt", None)
    return mallopt is not None and all(mallopt(option[0], option[column]) == 1 for option in SETTINGS.values())
