"""How rows are divided into shards, and how the gradients of the shards are added."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn._internal.checks import Array
from npattn.training.shards import GradientSum, deal, write_gradients


class TestDeal:
    @given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 6))
    def test_every_row_is_in_one_shard_and_shards_are_balanced(self, tokens: list[int], n: int) -> None:
        shards = deal(np.array(tokens, dtype=int), n)
        assert sorted(row for shard in shards for row in shard) == list(range(len(tokens)))
        assert len(shards) == min(n, max(len(tokens), 1))
        sizes = [len(shard) for shard in shards]
        assert max(sizes) - min(sizes) <= 1
        loads = [sum(tokens[row] for row in shard) for shard in shards]
        assert max(loads) - min(loads) <= max(tokens, default=0)
        assert all((np.diff(shard) > 0).all() for shard in shards)

    def test_by_hand(self) -> None:
        """The longest rows come first, back and forth: 9 and 8; then 6 to the second, 5 and 1 to the first."""
        first, second = deal(np.array([5, 9, 1, 8, 6]), 2)
        assert (first.tolist(), second.tolist()) == ([0, 1, 2], [3, 4])


class TestGradientSum:
    @given(st.integers(0, 2**32), st.integers(1, 5))
    def test_the_same_bits_in_any_order_of_arrival(self, seed: int, shards: int) -> None:
        """Each shard adds `W` twice and `b` once. In float32 the bits of a sum depend on its order."""
        rng = np.random.default_rng(seed)
        parts = {
            (name, k, i): rng.normal(size=3).astype(np.float32) * np.float32(10.0) ** rng.integers(-4, 5)
            for name, uses in (("W", 2), ("b", 1))
            for k in range(uses)
            for i in range(shards)
        }
        todo = {i: [("W", 0), ("b", 0), ("W", 1)] for i in range(shards)}
        total, draw = GradientSum(shards), random.Random(seed)
        while any(todo.values()):
            shard = draw.choice([i for i in todo if todo[i]])
            name, k = todo[shard].pop(0)
            total.add(shard, name, parts[name, k, shard].copy())
        for name, uses in (("W", 2), ("b", 1)):
            expected = np.zeros(3, np.float32)
            for k in range(uses):
                for i in range(shards):
                    expected = parts[name, k, i] if (k, i) == (0, 0) else expected + parts[name, k, i]
            np.testing.assert_array_equal(total.blocks[name], expected)
        assert total.blocks.keys() == {"W", "b"}

    def test_from_threads_at_once(self) -> None:
        rng = np.random.default_rng(0)
        parts = rng.normal(size=(4, 200, 50))
        total, start = GradientSum(4), threading.Barrier(4)

        def work(shard: int) -> None:
            start.wait()
            for k in range(200):
                total.add(shard, f"W_{k % 5}", parts[shard, k].copy())

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in range(5):
            expected = parts[0, name].copy()
            for k in range(name, 200, 5):
                for i in range(4):
                    if (k, i) != (name, 0):
                        expected += parts[i, k]
            np.testing.assert_array_equal(total.blocks[f"W_{name}"], expected)


class Slow:
    """A gradient that is computed later. It records the thread, and waits for `event` if there is one."""

    def __init__(self, value: float, threads: list[str], event: threading.Event | None = None) -> None:
        self.value, self.threads, self.event = value, threads, event

    def __call__(self, out: Array) -> Array:
        self.threads.append(threading.current_thread().name)
        assert self.event is None or self.event.wait(20)
        out[...] = self.value
        return out


class TestWriteGradients:
    def test_of_a_name_used_twice_are_added(self) -> None:
        blocks = {"W": np.full(2, 9.0), "V": np.full(2, 9.0)}
        write_gradients([("V", np.ones(2)), ("W", Slow(5.0, [])), ("V", np.full(2, 2.0))], blocks, None)
        np.testing.assert_array_equal([blocks["V"], blocks["W"]], [[3, 3], [5, 5]])

    def test_a_helper_works_beside_the_backward(self) -> None:
        """The helper is in the first gradient until the backward has gone on; this thread computes what is left."""
        threads: list[str] = []
        event, blocks = threading.Event(), {f"W_{i}": np.zeros(2) for i in range(4)}

        def backward() -> Iterator[tuple[str, Any]]:
            yield "W_0", Slow(1.0, threads, event)
            yield "W_1", Slow(2.0, threads)
            yield "W_2", Slow(3.0, threads, event)
            event.set()
            yield "W_3", np.full(2, 4.0)

        with ThreadPoolExecutor(1, "helper") as helper:
            write_gradients(backward(), blocks, helper)
        np.testing.assert_array_equal([block[0] for block in blocks.values()], [1, 2, 3, 4])
        assert threads[0].startswith("helper") and len(threads) == 3

    def test_without_a_helper_each_is_computed_at_once(self) -> None:
        order: list[str] = []

        def backward() -> Iterator[tuple[str, Any]]:
            for name in ("W_0", "W_1"):
                order.append(name)
                yield name, lambda out: order.append("computed") or out

        write_gradients(backward(), {"W_0": np.zeros(1), "W_1": np.zeros(1)}, None)
        assert order == ["W_0", "computed", "W_1", "computed"]

    @pytest.mark.parametrize("where", ["helper", "backward"])
    def test_an_error_waits_for_the_helper(self, where: str) -> None:
        """After the error no thread writes to the blocks."""
        event, blocks = threading.Event(), {"W": np.zeros(1), "V": np.zeros(1)}
        busy: list[str] = []

        def fail(out: Array) -> Array:
            raise FloatingPointError("planted")

        def backward() -> Iterator[tuple[str, Any]]:
            yield "W", fail if where == "helper" else Slow(1.0, busy, event)
            threading.Timer(0.05, event.set).start()
            if where == "backward":
                raise FloatingPointError("planted")

        with ThreadPoolExecutor(1) as helper:
            with pytest.raises(FloatingPointError, match="planted"):
                write_gradients(backward(), blocks, helper)
            assert blocks["W"][0] == (where == "backward")

    def test_the_callers_error_state_holds_in_the_helper(self) -> None:
        """An overflow raises if the caller says so; underflow never does."""

        def backward(size: float) -> Iterator[tuple[str, Any]]:
            begun = threading.Event()

            def multiply(out: Array) -> Array:
                begun.set()
                return np.multiply(np.full(2, size), size, out=out)

            yield "W", multiply
            assert begun.wait(20)                             # by the helper, since this thread waits here

        with ThreadPoolExecutor(1) as helper, np.errstate(all="raise"):
            write_gradients(backward(1e-200), {"W": np.zeros(2)}, helper)
            with pytest.raises(FloatingPointError, match="overflow"):
                write_gradients(backward(1e200), {"W": np.zeros(2)}, helper)
