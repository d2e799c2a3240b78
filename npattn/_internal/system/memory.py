"""Keep freed memory in the process: `npattn.Trainer` and the command line ask for it, an import does not.

NumPy returns each large temporary to the operating system, which then has to map and clear fresh pages for the next.
Told to keep freed memory, and to share it among all threads, glibc saves that: a step of the paper's base model took
1,190 ms instead of 1,560, of which the kernel had 430.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

#: Options of glibc's mallopt, from its malloc.h, with what `keep_memory` sets and what glibc starts from. One arena:
#: the others, which worker threads would get, are made of pieces of 64 MB that are given back whatever is set here.
SETTINGS = {
    "M_MMAP_THRESHOLD": (-3, 1 << 30, 1 << 17),
    "M_TRIM_THRESHOLD": (-1, (1 << 31) - 1, 1 << 17),
    "M_TOP_PAD": (-2, 1 << 26, 1 << 17),
    "M_ARENA_MAX": (-8, 1, 0),
}


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)


def keep_memory() -> bool:
    """Tell glibc to keep freed memory of this process for reuse; return whether it did. A no-op elsewhere.

    It holds for the whole process until `return_memory`, and the memory in use stays at its peak. It is meant for
    training and for measurements: `npattn.Trainer`, the command line and the benchmarks call it.
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
