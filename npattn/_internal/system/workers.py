"""Independent tasks in worker threads, each with one BLAS thread; results come in the order of the tasks.

**Order**  Results are collected in the order of the tasks, not in that of their completion. Sums over them have the
same bits for any number of workers.

**Threads within threads**  A call from any thread but the main one is taken for one of several that run side by side
(`npattn.Trainer`, a server). By default it gets one worker and leaves BLAS alone.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from npattn._internal.system.blas_threads import can_limit_blas, cores, one_blas_thread

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_order(
    tasks: Sequence[Task], work: Callable[[Task], Result], collect: Callable[[Task, Result], None], workers: int
) -> None:
    """Call `work` for every task in as many threads as `workers`, and `collect` here, task by task."""
    workers = min(workers, len(tasks))
    if workers <= 1:
        for task in tasks:
            collect(task, work(task))
        return
    contexts = [contextvars.copy_context() for _ in tasks]    # np.errstate of the caller holds in the threads too
    with one_blas_thread():
        pool = ThreadPoolExecutor(workers, "npattn")
        try:
            results = pool.map(lambda context, task: context.run(work, task), contexts, tasks)
            for task, result in zip(tasks, results, strict=True):
                collect(task, result)
        finally:
            pool.shutdown(cancel_futures=True)                # after an error, tasks not yet begun are dropped


def default_workers() -> int:
    """One for each core in the main thread, where BLAS can be held to one thread each; one elsewhere."""
    if threading.current_thread() is not threading.main_thread() or not can_limit_blas():
        return 1
    return cores()
