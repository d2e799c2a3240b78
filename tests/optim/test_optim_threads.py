"""Adam and clipping give the same bits with a pool of threads as without."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from npattn import Adam, clip_gradients
from npattn.optim import buffers
from support.named_arrays import draw, flat, same


class CountingPool(ThreadPoolExecutor):
    """A pool of two threads with a list of the number of tasks in each call of `map`."""

    def __init__(self) -> None:
        super().__init__(2)
        self.tasks: list[int] = []

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Any:
        (work,) = (list(iterable) for iterable in iterables)
        self.tasks.append(len(work))
        return super().map(fn, work, **options)


@pytest.fixture(autouse=True)
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "SPAN", 10)


@pytest.mark.parametrize("flatten", [True, False])
def test_adam(flatten: bool) -> None:
    rng = np.random.default_rng(0)
    start, gradients = draw(rng), [draw(rng) for _ in range(2)]
    alone: Any = {name: p.copy() for name, p in start.items()}
    shared: Any = {name: p.copy() for name, p in start.items()}
    if flatten:
        alone, shared = flat(alone), flat(shared)
    first, second = Adam(alone, weight_decay=0.1), Adam(shared, weight_decay=0.1)
    with CountingPool() as pool:
        for grads in gradients:
            first.step(flat(grads) if flatten else grads)
            second.step(flat(grads) if flatten else grads, pool=pool)
    assert same(alone, shared) and same(first.state_dict(), second.state_dict())
    assert len(pool.tasks) == 4 and min(pool.tasks) > 1  # two steps: each checks the squares and then updates


@pytest.mark.parametrize("scale", [1.0, 1e200])
def test_clipping(scale: float) -> None:
    grads = flat(draw(np.random.default_rng(1), scale=scale))
    alone, norm = clip_gradients(grads, 0.5)
    with CountingPool() as pool:
        shared, same_norm = clip_gradients(grads, 0.5, pool=pool)
    assert norm == same_norm and same(alone, shared)
    assert len(pool.tasks) == 2 + (scale > 1) and min(pool.tasks) > 1  # the norm (twice for large numbers), the scaling


def test_arrays_of_any_layout() -> None:
    """An array that is not contiguous cannot be cut: it is one task of any size."""
    grads = {"W": np.ones((4, 5), order="F"), "b": np.arange(25.0)}
    with CountingPool() as pool:
        clipped, norm = clip_gradients(grads, 7.0, pool=pool)
    assert len(pool.tasks) == 2 and min(pool.tasks) > 1
    assert norm == pytest.approx(np.sqrt(20 + 4900))
    np.testing.assert_allclose(clipped["b"], np.arange(25.0) * 7 / norm, rtol=1e-15)
