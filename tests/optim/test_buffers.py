"""How Adam and clipping iterate over named arrays: in as few arrays as possible, and in shares of equal size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from npattn.optim import buffers as module
from npattn.optim.buffers import buffers, pieces, spans
from npattn.transformer.parameters import Blocks

SHAPES, SIDE_BY_SIDE = {"W_Q": (3, 2), "W_K": (3, 4), "b": (5,)}, {"W_QK": ("W_Q", "W_K")}


def blocks() -> Blocks:
    return Blocks(SHAPES, SIDE_BY_SIDE, {"W_QK": np.ones((3, 6)), "b": np.ones(5)})


def test_blocks_are_yielded_as_blocks() -> None:
    """Matrices side by side are one contiguous block. By name they would be two strided arrays."""
    one, other = blocks(), blocks()
    assert [[id(array) for array in arrays] for arrays in buffers(one, other)] == [
        [id(one.blocks[name]), id(other.blocks[name])] for name in ("W_QK", "b")
    ]
    assert [array.shape for (array,) in buffers(one)] == [(3, 6), (5,)]


def test_arrays_of_another_layout_are_yielded_by_name() -> None:
    arrays = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    found = list(buffers(blocks(), arrays))
    assert [one.shape for one, _ in found] == list(SHAPES.values())
    assert all(other is array for (_, other), array in zip(found, arrays.values(), strict=True))


def test_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contiguous array is cut into runs of SPAN numbers, any other array is not."""
    monkeypatch.setattr(module, "SPAN", 4)
    found = list(spans({"W": np.arange(10.0).reshape(5, 2), "T": np.ones((2, 3)).T}))
    assert [array.tolist() for (array,) in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [[1, 1]] * 3]


class Pool(ThreadPoolExecutor):
    """A pool of two threads with a list of the sizes of the arrays in each share."""

    def __init__(self) -> None:
        super().__init__(2)
        self.shares: list[list[int]] = []

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Any:
        (shares,) = (list(iterable) for iterable in iterables)
        self.shares += [[array.size for (array,) in share] for share in shares]
        return super().map(fn, shares, **options)


@pytest.mark.parametrize(
    ("sizes", "shares"),
    [
        ([4, 5, 1, 4, 5, 1], [[4, 5, 1], [4, 5, 1]]),
        ([9, 12, 3, 10, 1, 1], [[9, 12], [3, 10], [1, 1]]),
        ([4, 5, 1], []),                                      # one share needs no pool
        ([], []),
    ],
)
def test_a_share_holds_several_small_arrays(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], shares: list[list[int]]
) -> None:
    """A share is complete with ten numbers."""
    monkeypatch.setattr(module, "SPAN", 10)
    with Pool() as pool:
        assert module.run_in_pool(pool, np.size, [(np.zeros(size),) for size in sizes]) == sizes
    assert pool.shares == shares


def test_pieces_have_one_axis() -> None:
    assert [piece.shape for (piece,) in pieces([np.zeros((2, 3))], [False], length=4)] == [(4,), (2,)]
