"""What makes training fast on a CPU without touching the mathematics; each is measured, named and opt-in.

- `one_blas_thread`: worker threads that each run their own matrix products are faster than one thread whose products
  use every core, because everything that is not a matrix product (softmax, layer norm, relu) then uses every core
  too. For that BLAS must keep to one thread a worker; otherwise they wait for each other.
- `keep_memory`: NumPy returns each large temporary to the operating system, which then has to map and clear fresh
  pages for the next. Telling glibc to keep freed memory saves that.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3    # from glibc's malloc.h


def cores() -> int:
    """The number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def can_limit_blas() -> bool:
    """Whether threadpoolctl (the extra `fast`) is installed, without which BLAS threads cannot be held to one."""
    return importlib.util.find_spec("threadpoolctl") is not None


@functools.cache
def _controller() -> Any:
    import threadpoolctl  # an optional extra

    return threadpoolctl.ThreadpoolController()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread inside the block, and restore what was set before."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


def keep_memory() -> bool:
    """Tell glibc to keep freed memory of this process for reuse; return whether it did. A no-op elsewhere.

    For programs (the command line and the benchmarks call it), not for libraries: it holds for the whole process, and
    memory in use stays at its peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, (1 << 31) - 1), (M_TOP_PAD, 1 << 26))
    return all(mallopt(option, value) == 1 for option, value in settings)
