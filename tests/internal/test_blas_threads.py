"""BLAS at one thread: blocks that overlap in threads, and processes that are forked inside a block."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator

import numpy  # noqa: F401  it loads BLAS
import pytest

from npattn._internal.system.blas_threads import one_blas_thread

threadpoolctl = pytest.importorskip("threadpoolctl")


def blas() -> set[int]:
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        yield


def in_another_thread(steps: list[Callable[[], object]]) -> None:
    """Run some calls in a thread that is inside a block."""
    inside, done = threading.Event(), threading.Event()

    def run() -> None:
        with one_blas_thread():
            inside.set()
            assert done.wait(20)

    thread = threading.Thread(target=run)
    thread.start()
    assert inside.wait(20)
    try:
        for step in steps:
            step()
    finally:
        done.set()
        thread.join()


def test_the_last_block_restores_the_setting() -> None:
    seen: list[set[int]] = []

    def block() -> None:
        with one_blas_thread():
            seen.append(blas())
        seen.append(blas())

    in_another_thread([block, lambda: seen.append(blas())])
    assert [*seen, blas()] == [{1}, {1}, {1}, {3}]


def test_the_first_thread_leaves_before_the_last() -> None:
    """threadpoolctl 3.8 obeys one thread alone, and ignores the others without a word."""
    first, second, left = (threading.Event() for _ in range(3))
    ended = threading.Event()

    def one() -> None:
        with one_blas_thread():
            first.set()
            assert second.wait(20)
        left.set()
        assert ended.wait(20)                                 # a thread that has ended controls nothing

    thread = threading.Thread(target=one)
    thread.start()
    assert first.wait(20)
    with one_blas_thread():
        second.set()
        assert left.wait(20)
        inside = blas()
    after = blas()
    ended.set()
    thread.join()
    assert (inside, after) == ({1}, {3})


def in_a_fork(target: Callable[[], object]) -> object:
    """Return what `target` returns in a forked process."""
    fork = multiprocessing.get_context("fork")
    results = fork.SimpleQueue()
    child = fork.Process(target=lambda: results.put(target()))
    child.start()
    child.join(20)
    hangs = child.is_alive()
    child.kill()
    assert not hangs and not results.empty()
    return results.get()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
class TestForks:
    def test_a_block_of_another_thread_does_not_exist_in_the_child(self) -> None:
        def child() -> list[set[int]]:
            seen = [blas()]
            with one_blas_thread():
                seen.append(blas())
            return [*seen, blas()]

        found: list[object] = []
        in_another_thread([lambda: found.append(in_a_fork(child)), lambda: found.append(blas())])
        assert found == [[{3}, {1}, {3}], {1}]
        assert blas() == {3}

    def test_the_block_of_the_thread_that_forks_ends_in_both(self) -> None:
        read, write = os.pipe()
        with one_blas_thread():
            child = os.fork()
            inside = blas()
        after = blas()
        if not child:
            os.write(write, repr((inside, after)).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 100).decode() == repr((inside, after)) == "({1}, {3})"
        os.close(read)
        os.close(write)
