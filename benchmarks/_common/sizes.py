"""The four sizes of a training step, the matrix products of a step and of decoding, and their operations.

A product (m × k)(k × n) counts 2mkn operations, and only products count. The backward of a linear layer has two
products of the same size as its forward (dX = dZ Wᵀ, dW = Xᵀ dZ). So has that of each product of attention (dA and dV,
dQ and dK).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Size:
    """A training step: `layers` in the encoder and as many in the decoder, `length` tokens in source and target."""

    vocabulary: int
    d_model: int
    heads: int
    d_ff: int
    layers: int
    batch: int
    length: int


SIZES = {
    "tiny": Size(64, 64, 4, 256, 2, 32, 16),
    "small": Size(64, 128, 4, 512, 3, 64, 24),
    "medium": Size(1000, 256, 8, 1024, 3, 32, 32),
    "base": Size(8000, 512, 8, 2048, 6, 8, 64),               # the paper's
}
TOY = Size(16, 16, 2, 32, 1, 4, 5)

#: The side of the square product that measures the highest rate of the processor.
SQUARE = 2048


class Linear(NamedTuple):
    """Z = X W, with X (rows, inputs) and W (inputs, outputs)."""

    rows: int
    inputs: int
    outputs: int


class Attention(NamedTuple):
    """E = Q Kᵀ and Y = A V, in `count` heads of Q (N_Q, D), K and V (N_X, D)."""

    count: int
    N_Q: int
    N_X: int
    D: int


Product = Linear | Attention


def products(size: Size) -> Iterator[Product]:
    """Every layer with matrix products in a training step, in the order of the forward pass."""
    rows, D = size.batch * size.length, size.d_model
    heads = Attention(size.batch * size.heads, size.length, size.length, D // size.heads)
    attention = [*[Linear(rows, D, D)] * 3, heads, Linear(rows, D, D)]
    feed_forward = [Linear(rows, D, size.d_ff), Linear(rows, size.d_ff, D)]
    for _ in range(size.layers):
        yield from attention + feed_forward                   # encoder
    for _ in range(size.layers):
        yield from attention + attention + feed_forward       # decoder: self-attention, cross-attention
    yield Linear(rows, D, size.vocabulary)


def decoding_products(size: Size, rows: int, N_S: int, steps: int, copies: int) -> Iterator[Product]:
    """The same for decoding with caches: `copies` targets of `steps` tokens for each of `rows` sources (N_S,)."""
    D, D_H = size.d_model, size.d_model // size.heads
    heads = Attention(rows * size.heads, N_S, N_S, D_H)
    source = rows * N_S
    for _ in range(size.layers):
        yield from [*[Linear(source, D, D)] * 4, heads, Linear(source, D, size.d_ff), Linear(source, size.d_ff, D)]
    for _ in range(size.layers):
        yield from [Linear(source, D, D)] * 2                 # keys and values of the encoder's output
    rows *= copies
    for t in range(steps):
        for _ in range(size.layers):
            yield from [*[Linear(rows, D, D)] * 4, Attention(rows * size.heads, 1, t + 1, D_H)]
            yield from [*[Linear(rows, D, D)] * 2, Attention(rows * size.heads, 1, N_S, D_H)]
            yield from [Linear(rows, D, size.d_ff), Linear(rows, size.d_ff, D)]
        yield Linear(rows, D, size.vocabulary)


def operations(shapes: Iterable[Product]) -> int:
    """Floating-point operations of the products in the forward; forward and backward have three times as many."""
    return sum(2 * math.prod(shape) * (1 if isinstance(shape, Linear) else 2) for shape in shapes)
