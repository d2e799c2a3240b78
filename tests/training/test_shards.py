"""How rows are divided into shards, and how the gradients of the shards are added."""

from __future__ import annotations

import random
import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npattn.training.shards import GradientSum, deal


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
