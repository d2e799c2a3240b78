"""Share the rows of a search out over worker threads.

A step of decoding is matrix products and, between them, functions of single entries and rows. BLAS can use every core
for the products alone; threads with some of the rows each use them for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from npattn._internal.checks import Array
from npattn._internal.system.blas_threads import can_limit_blas, cores
from npattn._internal.system.workers import in_order

T = TypeVar("T")

#: Rows of a step from which on a shard's thread pays: Python runs one thread at a time, so that in short steps threads
#: wait for each other. Measured on greedy steps of width 128, two threads against one that BLAS gives both cores: with
#: 32 rows for each thread 1.4 times the time, with 64 rows 0.9, with 128 rows 0.75.
LEAST = 64


def in_workers(
    search: Callable[[Array], list[T]], src: Array, workers: int | None = None, beam: int = 1
) -> list[T]:
    """Return search(src), one entry for each row, from `workers` threads with one BLAS thread each.

    None means one for each core when threadpoolctl (the extra `fast`) is installed and every shard gets `LEAST` rows,
    `beam` for each source. Without it, or with one worker, BLAS threads stay as they are. Sources are dealt out in
    turn, because neighbours are often of like length, and a shard takes as long as its longest target.
    """
    if workers is None:
        workers = max(min(cores(), len(src) * beam // LEAST), 1) if can_limit_blas() else 1
    n = min(workers, len(src))
    parts: list[list[T]] = []
    in_order([src[i::n] for i in range(n)], search, lambda _, part: parts.append(part), n)
    return [parts[row % n][row // n] for row in range(len(src))]
