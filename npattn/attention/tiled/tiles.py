"""The pieces of tiled attention: parts for the workers, tiles of scores, and the memory that tiles share."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from npattn._internal.checks import Array
from npattn.attention.dot_product import sum_to_shape

#: Picks some heads out of (*batch, …): integers for the leading batch axes, a slice for the last.
Heads: TypeAlias = tuple[int | slice, ...]

#: A call is cut into at least about so many parts, to give all cores work. Each part costs a few passes over Q and dY.
#: The number of workers must not enter, because it would change the last bits of sums.
PARTS = 8

#: Short heads go together until they have a tile of scores, or this many. With fewer, Python's own time counts most.
FULL = 1 << 14

#: exp(−16) and exp(16) are 1e-7 and 9e6. In that range sums and products with V keep all their digits, in float32 for
#: any V between 1e-28 and 1e27.
BOUND = 16.0

ALL = slice(None)


class HeadTiles(NamedTuple):
    """A part of the work: some heads, and some of their tiles in a row."""

    heads: Heads
    tiles: list[slice]

    @property
    def span(self) -> slice:
        return slice(self.tiles[0].start, self.tiles[-1].stop)


def split_work(scores: tuple[int, ...], axis: int, tile: int) -> list[HeadTiles]:
    """Cut the scores (*batch, N_Q, N_X) along axis −2 or −1 into parts: several short heads each, or a piece of one."""
    *batch, N_Q, N_X = scores
    at_once = max(tile**2, FULL) // max(min(N_Q, tile) * min(N_X, tile), 1)   # heads that go together
    heads: list[Heads] = [()]
    if batch:
        heads = [(*lead, some) for lead in np.ndindex(*batch[:-1]) for some in slices(batch[-1], at_once)]
    tiles = slices(scores[axis], tile)
    run = math.ceil(len(tiles) * len(heads) / PARTS)          # tiles in one part
    return [HeadTiles(some, tiles[few]) for some in heads for few in slices(len(tiles), max(run, 1))]


def slices(N: int, tile: int) -> list[slice]:
    """Cut 0 … N into tiles; the last may be shorter."""
    return [slice(start, min(start + tile, N)) for start in range(0, N, tile)]


class Order(NamedTuple):
    """Query i sees the keys i + low < n ≤ i + high alone: with a window W, low = high − W."""

    low: int
    high: int


def order_of(N_Q: int, N_X: int, offset: int, window: int | None) -> Order:
    """Return the order of a causal call. Beyond −N_Q and N_X nothing changes."""
    high = int(offset)
    low = -N_Q if window is None else high - int(window)
    return Order(min(max(low, -N_Q), N_X), min(max(high, -N_Q), N_X))


class Scratch(threading.local):
    """Memory for the current tiles, separate for each thread.

    If every operation made a new tile, the system would map and clear its memory each time. That takes half as long as
    the whole computation.
    """

    def __init__(self) -> None:
        self.buffers: dict[str, Array] = {}

    def product(self, A: Array, B: Array, name: str = "rows") -> Array:
        """A B, in the buffer of that name; valid until the next use of the buffer."""
        return np.matmul(A, B, out=self.room((*A.shape[:-1], B.shape[-1]), A.dtype, name))

    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Array:
        """Return the buffer of that name in this shape."""
        size = math.prod(shape)
        if name not in self.buffers or self.buffers[name].size < size:
            self.buffers[name] = np.empty(size, dtype)
        return self.buffers[name][:size].reshape(shape)


class Exponential(NamedTuple):
    """exp of scores that come multiplied with `unit`: np.exp with 1, or np.exp2 with log₂ e. `logarithm` undoes it."""

    function: Callable[..., Array]
    logarithm: Callable[..., Array]
    unit: float

    @property
    def bound(self) -> float:
        """`BOUND` in this unit."""
        return BOUND * self.unit

    def safe_shift(self, x: Array) -> Array:
        """Return what to subtract from scores with the maximum x, (…, 1): 0 within ±BOUND, and for −∞ (no score)."""
        return np.where((x >= -self.bound) & (x <= self.bound) | np.isneginf(x), 0, x)


EXP, EXP2 = Exponential(np.exp, np.log, 1.0), Exponential(np.exp2, np.log2, math.log2(math.e))


def exponential(dtype: np.dtype[Any], has_bias: bool) -> Exponential:
    """Return the quicker one; a bias needs the unit 1.

    With instructions of AVX-512 exp2 takes 0.18 ns for a float32 number and exp 0.32, and its error is the smaller one,
    1.0e-7 instead of 2.0e-7. Without them exp2 takes twice the time of exp.
    """
    return EXP2 if dtype == np.float32 and not has_bias and exp2_is_quick() else EXP


@functools.cache
def exp2_is_quick() -> bool:
    """Return whether NumPy's exp2 of float32 uses instructions of AVX-512 here."""
    found = np.lib.introspect.opt_func_info(func_name="^exp2$", signature="^float32$")
    used = [each["current"] for of_types in found.values() for each in of_types.values()]
    return any(name.startswith(("AVX512", "X86_V4")) for name in used)   # X86_V4 since NumPy 2.4


class ScoreTiles:
    """The scores of some heads, a tile at a time. With `order` query i sees the keys i + low < n ≤ i + high alone.

    Scores are in the unit of `exp`, and so is the cap.
    """

    def __init__(
        self, K: Array, mask: Array | None, bias: Array | None, order: Order | None, cap: float | None, tile: int,
        exp: Exponential, scratch: Scratch,
    ) -> None:  # fmt: skip
        self.K, self.mask, self.bias, self.order, self.scratch = K, mask, bias, order, scratch
        self.cap, self.size, self.exp = None if cap is None else cap * exp.unit, tile, exp
        self.norms = largest_norms(K, tile)

    def tile(self, Q: Array, i: slice, j: slice, norm: float) -> tuple[Array, float, bool] | None:
        """Return Q K_jᵀ, capped, + bias_ij for the queries Q at i, −∞ where hidden; None if the whole tile is hidden.

        - norm: the largest norm of a row of Q.

        The number beside it is at most the least score that is not hidden. The flag tells that nothing is hidden and
        all scores lie within ±BOUND, because |q·k| ≤ ‖q‖ ‖k‖: that saves the search for the extremes.
        """
        hidden = self._hidden(i, j)
        if hidden is not None and hidden.all():
            return None
        E = self.scratch.product(Q, self.K[..., j, :].mT, "E")
        if self.cap is not None:
            self.T = self.scratch.room(E.shape, E.dtype, "T")
            with np.errstate(over="ignore"):                  # E/c beyond the largest number gives c
                np.tanh(np.divide(E, self.cap, out=E), out=self.T)
            np.multiply(self.T, self.cap, out=E)
        if self.bias is not None:
            E += tile_of(self.bias, i, j)
        bound = self.exp.bound
        if hidden is None and self.bias is None and norm * self.norms[j.start // self.size] <= bound:
            return E, -bound, True
        low = E.real.min()
        if hidden is not None:
            np.copyto(E, -np.inf, where=hidden)
        return E, low, False

    def capped_back(self, dE: Array) -> None:
        """Multiply dE by 1 − tanh²(S/c), where S are the scores of the tile that was made last."""
        if self.cap is not None:
            dE *= 1 - self.T * self.T

    def _hidden(self, i: slice, j: slice) -> Array | None:
        """Return True where query i may not attend to key j, broadcastable to the tile; None if nothing is hidden."""
        hidden, order = None, self.order
        if order and (j.start >= i.stop + order.high or j.stop <= i.start + order.low + 1):
            return np.ones((), bool)                          # every key lies outside for every query
        if self.mask is not None:
            seen = tile_of(self.mask, i, j)
            hidden = None if seen.all() else ~seen
        if order and j.stop > i.start + order.high + 1:       # the diagonal runs through this tile
            hidden = either(hidden, beyond(i, j, order.high))
        if order and j.start < i.stop + order.low:            # the far end of the window does
            hidden = either(hidden, ~beyond(i, j, order.low))
        return hidden


def beyond(i: slice, j: slice, diagonal: int) -> Array:
    """Return where key n > i + diagonal, for the queries at i and the keys at j."""
    keys, queries = (np.arange(n.start, n.stop, dtype=np.int32) for n in (j, i))   # half as wide, half the time
    return keys > queries[:, None] + diagonal


def either(one: Array | None, other: Array) -> Array:
    """Return where one or the other is True; None is False everywhere."""
    return other if one is None else one | other


def of_heads(array: Array | None, batch: tuple[int, ...], heads: Heads) -> Array | None:
    """Return the rows of a mask or bias for some heads, (…, 1 or N_Q, 1 or N_X)."""
    if array is None:
        return None
    array = np.atleast_2d(array)
    return np.broadcast_to(array, (*batch, *array.shape[-2:]))[heads]


def tile_of(array: Array, i: slice, j: slice) -> Array:
    """Return the tile i, j of a mask or bias; an axis of size 1 broadcasts and stays whole."""
    if array.shape[-2] != 1:
        array = array[..., i, :]
    return array if array.shape[-1] == 1 else array[..., j]


def add_for_heads(total: Array, share: Array, part: HeadTiles) -> None:
    """Add the share of a part, (…, 1 or N_Q, 1 or span), to dbias; summed over the heads that share a bias."""
    whole = total.reshape((1,) * (len(part.heads) + 2 - total.ndim) + total.shape)
    at = tuple(0 if size == 1 else h for size, h in zip(whole.shape, part.heads, strict=False))
    target = tile_of(whole[at], ALL, part.span)
    target += sum_to_shape(share, target.shape)


def largest_norms(X: Array, tile: int) -> list[float]:
    """Return the largest norm of a row in each tile of rows; ∞ or NaN where a square is no number."""
    with np.errstate(over="ignore"):
        squares = np.vecdot(X, X).real                        # (…, N)
        return [math.sqrt(squares[..., i].max(initial=0)) for i in slices(X.shape[-2], tile)]


def weighted_cotangent(dY: Array, Y: Array, w: Array) -> Array:
    """[w dY, −w δ], (…, N_Q, D_V + 1), with δ = rowsum(dY ⊙ Y)."""
    wdY = np.empty((*dY.shape[:-1], dY.shape[-1] + 1), dY.dtype)
    np.multiply(dY, w, out=wdY[..., :-1])
    np.multiply(np.vecdot(Y, dY)[..., None], -w, out=wdY[..., -1:])
    return wdY


def with_ones(V: Array) -> Array:
    """[V, 1], (…, T, D_V + 1)."""
    return np.concatenate([V, np.ones((*V.shape[:-1], 1), V.dtype)], -1)
