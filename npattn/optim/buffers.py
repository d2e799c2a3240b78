"""Iterate over named arrays of any memory layout, in short contiguous pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from npattn._internal.checks import Array, Layout, Params

#: Elements of one piece. Adam over 20 M float32 parameters, median ms on one core with 512 KiB of L2: 4 k 91, 8 k 63,
#: 16 k 54, 32 k 45, 64 k 42, 128 k 40, 256 k 39, and 161 without pieces. Shorter pieces cost more Python; longer pieces
#: gain little and would not fit into a smaller cache.
PIECE = 1 << 16

#: Elements of one piece when threads share the work. They exchange Python's lock at every ufunc, so the pieces must be
#: longer: Adam over 48 M parameters in two threads took 115 ms with 64 k, 118 with 128 k, 77 with 256 k and 79 with
#: 1 M; one thread took 114, 107, 134 and 125.
SHARED_PIECE = 1 << 18

#: Elements that one thread of a pool takes at a time: 20 M parameters make 20 tasks.
SPAN = 1 << 20

if TYPE_CHECKING:                                             # keeps `import npattn` quick
    from concurrent.futures import Executor

T = TypeVar("T")
Arrays = TypeVar("Arrays", bound=Params)

#: The dtypes that can be trained.
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def buffers(*mappings: Params) -> Iterator[tuple[Array, ...]]:
    """Yield corresponding arrays of the mappings, as few and as large as possible.

    These are flat buffers or contiguous blocks if all mappings have them in the same layout; otherwise, the arrays by
    name.
    """
    layouts = [(list(arrays), getattr(arrays, "side_by_side", None)) for arrays in mappings]
    alike = all(layout == layouts[0] for layout in layouts)
    flats: list[Any] = [getattr(arrays, "flat", None) for arrays in mappings]
    blocks: list[Any] = [getattr(arrays, "blocks", None) for arrays in mappings]
    if alike and all(flat is not None for flat in flats):
        yield tuple(flats)
    elif alike and all(block is not None for block in blocks):
        yield from (tuple(block[name] for block in blocks) for name in blocks[0])
    else:
        yield from (tuple(arrays[name] for arrays in mappings) for name in mappings[0])


def spans(*mappings: Params) -> Iterator[tuple[Array, ...]]:
    """Yield the arrays of `buffers` as work for several threads: contiguous arrays flat, in runs of at most SPAN."""
    for arrays in buffers(*mappings):
        if all(array.flags.c_contiguous for array in arrays):
            flats = [array.reshape(-1) for array in arrays]
            yield from (tuple(flat[i : i + SPAN] for flat in flats) for i in range(0, flats[0].size, SPAN))
        else:
            yield arrays


def run_in_pool(pool: Executor | None, task: Callable[..., T], work: Iterable[tuple[Any, ...]]) -> list[T]:
    """Return task(*arrays) for all `work`, in its order; the threads of the pool share the work.

    A thread takes about SPAN elements at a time: a part of one array, or many small arrays.
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


def check_floats(what: str, layout: Layout) -> None:
    """Raise a TypeError that names an array of another dtype than float32 and float64."""
    for name, (_, dtype) in layout.items():
        if dtype not in FLOATS:
            raise TypeError(f"{what} {name!r}: expected float32 or float64, got {dtype}")


def check_unshared(what: str, arrays: Params) -> None:
    """Raise a ValueError unless all arrays are writeable and no two share a number, which would be updated twice."""
    check_writeable(what, arrays)
    if hasattr(arrays, "blocks"):                             # `Blocks` and `Parameters` never share numbers
        return
    bounds = [(*np.lib.array_utils.byte_bounds(array), name) for name, array in arrays.items() if array.size]
    reach: list[tuple[int, str]] = []                         # ends and names of arrays that the next may overlap
    for low, high, name in sorted(bounds, key=lambda bound: bound[0]):
        reach = [(end, other) for end, other in reach if end > low]
        for _, other in reach:
            if np.shares_memory(arrays[other], arrays[name]):
                raise ValueError(f"{what}: {other!r} and {name!r} share memory: keep a tied array under one name")
        reach.append((high, name))


def check_writeable(what: str, arrays: Params) -> None:
    """Raise a ValueError that names an array that is read-only."""
    if all(array.flags.writeable for (array,) in buffers(arrays)):
        return
    name = next((name for name, array in arrays.items() if not array.flags.writeable), "flat")
    raise ValueError(f"{what}: {name!r}: expected a writeable array, got a read-only one")


def pieces(arrays: Sequence[Array], write: Sequence[bool], length: int = PIECE) -> Iterator[tuple[Array, ...]]:
    """Yield 1-D pieces of arrays of one shape, at most `length` long; `write` tells which arrays are written to.

    The pieces are views if all arrays are in C order. Otherwise `np.nditer` yields views where the memory layout allows
    it. In other cases, for example a parameter in Fortran order and its gradient in C order, it copies each piece and
    copies a written piece back.
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


def zeros_like(arrays: Arrays) -> Arrays:
    """Return zeros with the same names, shapes, dtypes and memory layout; for `Parameters` these are `Parameters`."""
    if hasattr(arrays, "like"):
        return cast(Arrays, arrays.like())
    return cast(Arrays, {name: np.zeros_like(array) for name, array in arrays.items()})
