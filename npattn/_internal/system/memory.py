"""Keep freed memory in the process. `npattn.Trainer` and the command line do this; an import does not.

Normally each large temporary array of NumPy goes back to the operating system, which must map and clear new pages for
the next one. With these settings glibc keeps freed memory and shares it among all threads. A training step of the
paper's base model then took 1,190 ms instead of 1,560 ms, of which the kernel had 430 ms.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

#: Options of glibc's mallopt: its number in malloc.h, the value of `keep_memory`, and glibc's own value.
#: Only one arena: further arenas, for worker threads, consist of pieces of 64 MB that are always given back.
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
    """Set glibc to keep freed memory of this process for reuse. Return whether that worked; elsewhere nothing happens.

    The setting holds for the whole process until `return_memory`, and the memory in use stays at its peak. It is for
    training and measurements: `npattn.Trainer`, the command line and the benchmarks call it.
    """
    return _set_options(1)


def return_memory() -> bool:
    """Undo `keep_memory`: restore glibc's own values and give unused memory back. Return whether that worked."""
    done = _set_options(2)
    if done:
        _libc().malloc_trim(0)
    return done


def _set_options(column: int) -> bool:
    """Set all options to the values in this column of `SETTINGS`. Return whether glibc accepted them."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(_libc(), "mallopt", None)
    return mallopt is not None and all(mallopt(option[0], option[column]) == 1 for option in SETTINGS.values())
