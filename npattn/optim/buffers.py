"""Walk over named arrays of any memory layout in short contiguous pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from npattn._internal.checks import Array, Params

#: Elements that one piece holds. Adam over 20 M float32 parameters, median ms on one core with 512 KiB of L2:
#: 4 k 91, 8 k 63, 16 k 54, 32 k 45, 64 k 42, 128 k 40, 256 k 39, and 161 when written without pieces. Shorter
#: pieces pay for Python at every ufunc, longer ones gain little and would fall out of a smaller cache.
CHUNK = 1 << 16

#: The same for threads that share the work. They hand Python's lock to one another at every ufunc, so their pieces
#: have to be longer: Adam over 48 M parameters in two threads took 115 ms with 64 k, 118 with 128 k, 77 with 256 k
#: and 79 with 1 M, where one thread took 114, 107, 134 and 125.
SHARED_CHUNK = 1 << 18

#: Elements that one thread of a pool takes at a time: 20 M parameters make 20 tasks.
SPAN = 1 << 20

if TYPE_CHECKING:                                             # `import npattn` is to be quick
    from concurrent.futures import Executor

T = TypeVar("T")
Arrays = TypeVar("Arrays", bound=Params)

#: The dtypes that can be trained.
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def buffers(*trees: Params) -> Iterator[tuple[Array, ...]]:
    """Yield corresponding arrays: flat buffers or contiguous blocks if all trees have the same, else name by name."""
    layouts = [(list(tree), getattr(tree, "side_by_side", None)) for tree in trees]
    alike = all(layout == layouts[0] for layout in layouts)
    flats: list[Any] = [getattr(tree, "flat", None) for tree in trees]
    blocks: list[Any] = [getattr(tree, "blocks", None) for tree in trees]
    if alike and all(flat is not None for flat in flats):
        yield tuple(flats)
    elif alike and all(block is not None for block in blocks):
        yield from (tuple(block[name] for block in blocks) for name in blocks[0])
    else:
        yield from (tuple(tree[name] for tree in trees) for name in trees[0])


def spans(*trees: Params) -> Iterator[tuple[Array, ...]]:
    """Yield what `buffers` yields, what is contiguous flat and in runs of at most SPAN: work for several threads."""
    for arrays in buffers(*trees):
        if all(array.flags.c_contiguous for array in arrays):
            flats = [array.reshape(-1) for array in arrays]
            yield from (tuple(flat[i : i + SPAN] for flat in flats) for i in range(0, flats[0].size, SPAN))
        else:
            yield arrays


def run_in_pool(pool: Executor | None, task: Callable[..., T], work: Iterable[tuple[Any, ...]]) -> list[T]:
    """Return task(*arrays) for all of `work`, in its order, from the threads of the pool if there is one.

    A thread takes SPAN elements at a time, be it a part of one array or many small arrays.
    """
    if pool is not None and not hasattr(pool, "map"):
        raise TypeError(f"pool: expected a concurrent.futures.Executor or None, got {type(pool).__name__}")
    shares: list[list[tuple[Any, ...]]] = [[]]
    taken = 0
    for arrays in work:
        if taken >= SPAN:
            shares.append([])
            taken = 0
        shares[-1].append(arrays)
        taken += arrays[0].size

    def run(share: list[tuple[Any, ...]]) -> list[T]:
        return [task(*arrays) for arrays in share]

    done = map(run, shares) if pool is None or len(shares) < 2 else pool.map(run, shares)
    return [result for results in done for result in results]


def require_own(what: str, tree: Params) -> None:
    """Raise a ValueError unless all arrays can be written to, and none shares a number with another.

    Such a number would be updated twice. `Parameters` and `Blocks` are apart by the way they are made.
    """
    require_writeable(what, tree)
    if hasattr(tree, "blocks"):
        return
    reach: list[tuple[int, str]] = []                         # ends and names of arrays that the next may overlap
    for low, _, high, name in sorted((low, i, high, name) for i, (low, high, name) in enumerate(_bounds(tree))):
        reach = [(end, other) for end, other in reach if end > low]
        for _, other in reach:
            if np.shares_memory(tree[other], tree[name]):
                raise ValueError(f"{what}: {other!r} and {name!r} share memory: keep a tied array under one name")
        reach.append((high, name))


def require_writeable(what: str, tree: Params) -> None:
    """Raise a ValueError that names an array which cannot be written to."""
    if all(array.flags.writeable for (array,) in buffers(tree)):
        return
    name = next((name for name, array in tree.items() if not array.flags.writeable), "flat")
    raise ValueError(f"{what}: {name!r}: expected a writeable array, got a read-only one")


def _bounds(tree: Params) -> Iterator[tuple[int, int, str]]:
    """Yield the first address of each array that has numbers, the end of its last number, and its name."""
    for name, array in tree.items():
        if array.size:
            yield *np.lib.array_utils.byte_bounds(array), name


def pieces(arrays: Sequence[Array], write: Sequence[bool], length: int = CHUNK) -> Iterator[tuple[Array, ...]]:
    """Yield 1-D pieces of arrays of one shape, at most `length` long; `write` tells which arrays are written to.

    They are views where all arrays are in C order. Elsewhere `np.nditer` hands out views wherever the memory allows
    it. Where it does not (one array in Fortran order, say, and its gradient in C order), it copies the piece, and
    copies it back if it is to be written.
    """
    if all(array.flags.c_contiguous for array in arrays):
        flats = [array.reshape(-1) for array in arrays]
        yield from (tuple(flat[i : i + length] for flat in flats) for i in range(0, flats[0].size, length))
        return
    access = [["readwrite"] if writable else ["readonly"] for writable in write]
    flags = ["external_loop", "buffered", "zerosize_ok"]
    with np.nditer(arrays, flags, access, buffersize=length) as walk:  # type: ignore[arg-type, call-overload, unused-ignore]
        for piece in walk:
            yield piece if isinstance(piece, tuple) else (piece,)


def zeros_like(tree: Arrays) -> Arrays:
    """Return zeros with the names, shapes, dtypes and memory layout of `tree`, flat if it is."""
    if hasattr(tree, "like"):
        return cast(Arrays, tree.like())
    return cast(Arrays, {name: np.zeros_like(array) for name, array in tree.items()})
