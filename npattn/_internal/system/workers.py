"""Run independent tasks in worker threads, each with one BLAS thread.

**Order**  Results are collected in the order of the tasks, not in the order of completion. So sums of results have the
same bits for any number of workers.

**Threads within threads**  A call outside the main thread is probably one of several at the same time, as in
`npattn.Trainer` or a server. By default it has one worker and leaves BLAS alone.
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
    """Call `work` for every task in `workers` threads, and `collect` in this thread, in the order of the tasks."""
    workers = min(workers, len(tasks))
    if workers <= 1:
        for task in tasks:
            collect(task, work(task))
        return
    contexts = [contextvars.copy_context() for _ in tasks]    # np.errstate of the caller applies in the threads too
    with one_blas_thread():
        pool = ThreadPoolExecutor(workers, "npattn")
        try:
            results = pool.map(lambda context, task: context.run(work, task), contexts, tasks)
            for task, result in zip(tasks, results, strict=True):
                collect(task, result)
        finally:
            pool.shutdown(cancel_futures=True)                # an error drops the tasks that have not begun


def default_workers() -> int:
    """Return one worker for each core in the main thread, if BLAS can be held to one thread; otherwise 1."""
    if threading.current_thread() is not threading.main_thread() or not can_limit_blas():
        return 1
    return cores()
