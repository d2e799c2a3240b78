"""The worker threads of tiled attention: the same bits for any number of them, BLAS as it was, memory linear in N."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import numpy as np
import pytest
import threadpoolctl

from npattn import tiled_attention, tiled_attention_backward
from npattn._internal.checks import Array
from npattn._internal.system import blas_threads
from npattn._internal.system import workers as _workers
from npattn.attention.tiled import attention as tiled
from npattn.attention.tiled.tiles import HeadTiles, split_work


def arrays(batch: tuple[int, ...], N_Q: int, N_X: int, dtype: Any = np.float32) -> list[Array]:
    rng = np.random.default_rng(N_Q)
    sizes = ((N_Q, 8), (N_X, 8), (N_X, 7), (N_Q, 7))
    return [rng.normal(size=(*batch, *size)).astype(dtype) for size in sizes]


def run(Q: Array, K: Array, V: Array, dY: Array, **options: Any) -> list[Array]:
    Y, cache = tiled_attention(Q, K, V, **options)
    return [array for array in (Y, *tiled_attention_backward(dY, cache)) if array is not None]


def threads_of_blas() -> list[int]:
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def blas_with_three_threads() -> Iterator[None]:
    """A number nobody here would set by chance; every test leaves it as it was."""
    with threadpoolctl.threadpool_limits(3, "blas"):
        before = threads_of_blas()
        yield
        assert threads_of_blas() == before


@pytest.mark.parametrize("batch", [(), (3,), (2, 5)])
@pytest.mark.parametrize("bias_shape", [None, (50,), (90, 1), (90, 50)])
@pytest.mark.parametrize("causal", [False, True])
def test_any_number_of_workers_gives_the_same_bits(batch: Any, bias_shape: Any, causal: bool) -> None:
    Q, K, V, dY = arrays(batch, 90, 50)
    bias = None if bias_shape is None else np.random.default_rng(0).normal(size=bias_shape).astype(np.float32)
    with threadpoolctl.threadpool_limits(1, "blas"):
        alone, *others = (
            run(Q, K, V, dY, bias=bias, causal=causal, tile=16, workers=workers) for workers in (1, 2, 5)
        )
    for other in others:
        for one, two in zip(alone, other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("shape", [(70, 50), (3, 70, 50), (4, 5, 70, 50), (2, 0, 70, 50), (3, 0, 50), (3, 70, 0)])
@pytest.mark.parametrize("tile", [1, 16, 50, 64, 500])
def test_parts_cover_everything_once(shape: tuple[int, ...], axis: int, tile: int) -> None:
    covered = np.zeros((*shape[:-2], shape[axis]), int)
    for part in split_work(shape, axis, tile):
        for some in part.tiles:
            covered[(*part.heads, ..., some)] += 1
    assert (covered == 1).all()


def test_short_heads_go_together_and_a_long_one_is_cut() -> None:
    assert len(split_work((6, 8, 64, 64), -2, 512)) == 6
    assert len(split_work((4096, 4096), -1, 512)) == 8
    assert len(split_work((16, 4096, 4096), -1, 512)) == 16


@pytest.mark.parametrize(
    ("shape", "tile", "heads"),
    [
        ((200, 50, 60), 16, [64, 64, 64, 8]),                 # tiles of 256 scores, of which 64 make 1 << 14
        ((200, 50, 8), 16, [128, 72]),                        # of 128, since keys are few
        ((200, 8, 50), 16, [128, 72]),                        # or queries
        ((20000, 1, 1), 16, [16384, 3616]),
        ((20000, 0, 9), 16, [16384, 3616]),
        ((5, 900, 900), 200, [1] * 5),                        # a head fills its tiles
        ((5, 150, 100), 200, [2, 2, 1]),                      # or leaves room: 200² scores hold two of 150 × 100
    ],
)
def test_as_many_heads_go_together_as_fill_a_tile(shape: tuple[int, ...], tile: int, heads: list[int]) -> None:
    found = {(part.heads[0].start, part.heads[0].stop) for part in split_work(shape, -1, tile)}
    assert [stop - start for start, stop in sorted(found)] == heads


def test_runs_of_tiles() -> None:
    """Three heads of 9 tiles make 27, hence 4 for each of about 8 split_work."""
    tiles = [slice(start, start + 200) for start in range(0, 1800, 200)]
    runs = [tiles[:4], tiles[4:8], tiles[8:]]
    assert split_work((3, 1800, 900), -2, 200) == [HeadTiles((slice(h, h + 1),), run) for h in range(3) for run in runs]


def test_blas_has_one_thread_while_workers_work() -> None:
    seen: list[list[int]] = []
    _workers.in_order([1, 2, 3], lambda task: threads_of_blas(), lambda task, found: seen.append(found), 2)
    assert {count for found in seen for count in found} == {1}
    _workers.in_order([1], lambda task: threads_of_blas(), lambda task, found: seen.append(found), 2)
    assert seen[-1] == threads_of_blas()


def test_an_error_in_a_worker_comes_out_and_ends_the_work() -> None:
    """np.errstate of the caller holds in the workers."""
    Q, K, V, _ = arrays((4,), 60, 40)
    Q[1, 0, 0] = np.inf
    with np.errstate(invalid="raise"), pytest.raises(FloatingPointError, match="invalid"):
        tiled_attention(Q, K, V, tile=16, workers=2)
    with np.errstate(invalid="ignore"):
        assert np.isnan(tiled_attention(Q, K, V, tile=16, workers=2)[0][1, 0]).all()


@pytest.mark.parametrize("fails", ["work", "collect"])
def test_tasks_not_yet_begun_are_dropped_after_an_error(fails: str) -> None:
    begun = []

    def work(task: int) -> int:
        begun.append(task)
        if task == 0 and fails == "work":
            raise RuntimeError("stop")
        threading.Event().wait(0.005)
        return task

    def collect(task: int, result: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        _workers.in_order(range(500), work, collect, 2)
    assert len(begun) < 100


@pytest.mark.parametrize("workers", [2, 40])
def test_every_worker_is_a_thread(workers: int) -> None:
    """They meet at a barrier, also where there are fewer cores."""
    barrier, names = threading.Barrier(workers), set()

    def work(task: int) -> str:
        barrier.wait(timeout=20)
        return threading.current_thread().name

    _workers.in_order(range(workers), work, lambda task, name: names.add(name), workers)
    assert names == {f"npattn_{i}" for i in range(workers)}


def test_results_come_in_the_order_of_the_tasks() -> None:
    waits, got = [0.03, 0.0, 0.02, 0.0, 0.01], []
    _workers.in_order(waits, threading.Event().wait, lambda task, _: got.append(task), 3)
    assert got == waits


def test_calls_from_threads_and_within_workers() -> None:
    """Nested and side by side: no deadlock, the right result, and BLAS as it was when the last has gone."""
    Q, K, V, dY = arrays((2, 3), 70, 50)
    expected = run(Q, K, V, dY, tile=16)

    def call(_: int) -> None:
        for got, want in zip(run(Q, K, V, dY, tile=16, workers=2), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(12)))
    _workers.in_order(range(6), call, lambda task, _: None, 3)


def test_default_workers() -> None:
    with mock.patch.object(_workers, "cores", return_value=7):
        assert _workers.default_workers() == 7
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(_workers.default_workers).result() == 1
        with mock.patch.object(_workers, "can_limit_blas", return_value=False):
            assert _workers.default_workers() == 1


@pytest.mark.parametrize(("N_Q", "workers"), [(100, 1), (101, 5)])
def test_a_long_call_gets_the_default_workers(N_Q: int, workers: int) -> None:
    """The number holds for backward as well; one that is given is taken for calls of any length."""
    Q, K, V, _ = arrays((2,), N_Q, 50)
    with mock.patch.object(tiled, "FEW", 2 * 100 * 50), mock.patch.object(tiled, "default_workers", lambda: 5):
        assert tiled_attention(Q, K, V)[1].workers == workers
        assert tiled_attention(Q, K, V, workers=3)[1].workers == 3


def test_a_short_call_starts_no_threads() -> None:
    with mock.patch.object(_workers, "ThreadPoolExecutor", side_effect=AssertionError):
        run(*arrays((2,), 60, 40), tile=16)
        with pytest.raises(AssertionError):
            run(*arrays((2,), 60, 40), workers=2, tile=16)


def test_workers_without_threadpoolctl_leave_blas_alone() -> None:
    seen: list[list[int]] = []
    with mock.patch.object(blas_threads, "can_limit_blas", return_value=False):
        _workers.in_order([1, 2, 3], lambda task: threads_of_blas(), lambda task, found: seen.append(found), 2)
    assert seen == [threads_of_blas()] * 3


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"workers": 2}])
def test_memory_grows_linearly(options: dict[str, Any]) -> None:
    """Eight times the length takes little more than eight times the memory, forward and backward; scores, 64 times."""
    run(*arrays((), 64, 64), **options)

    def peak(N: int) -> int:
        given = arrays((), N, N)
        tracemalloc.start()
        try:
            run(*given, tile=64, **options)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2048) < 10 * peak(256)
    assert peak(2048) < 2048 * 2048                            # a quarter of what the scores would take


def test_memory_does_not_grow_with_heads() -> None:
    """Many heads that fill a tile each: the scores of all of them would take 4 MB, and backward has two such tiles."""
    given = arrays((16,), 256, 256)
    run(*given, tile=256)
    tracemalloc.start()
    try:
        run(*given, tile=256)
        assert tracemalloc.get_traced_memory()[1] < 16 * 256 * 256 * 4
    finally:
        tracemalloc.stop()
