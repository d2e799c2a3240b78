"""The time of the matrix products alone: the limit of a training step.

A step needs its products, so the difference to their time is the cost of everything else. Each product has its own
shape and its own arrays. They run in the order of a step, into memory that is allocated before. Two ways keep all cores
busy, and the faster one is the limit: BLAS spreads each product over its threads, or each core has a share of the batch
and one BLAS thread (this needs threadpoolctl).

The rate of one large square product is measured too. It is the highest rate of the processor. Products of a model's
shapes do not reach it, small ones least of all, so it is no fair limit.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from _common import machine
from _common.harness import Job, Result, timed
from _common.sizes import SQUARE, Attention, Linear, Product, Size, products

Call = Callable[[], object]


def limit(of_share: Callable[[int, int], Call], job: Job) -> Result:
    """Time both ways and return the faster one, and the square product.

    `of_share(i, n)` returns a call that runs share i of n of the products; (0, 1) means all of them.
    """
    whole = timed(of_share(0, 1), job)
    shared = timed(in_threads(of_share), job) if importlib.util.find_spec("threadpoolctl") else whole
    faster = min(whole, shared, key=lambda way: sorted(way["seconds"])[len(way["seconds"]) // 2])
    return {
        "seconds": faster["seconds"], "by_blas": whole["seconds"], "by_shares": shared["seconds"],
        "square_seconds": timed(square(), {"warm_up": 1, "repeats": 3})["seconds"],
    }  # fmt: skip


def in_threads(of_share: Callable[[int, int], Call]) -> Call:
    """Return a call that runs one share on each core, with one BLAS thread each."""
    import threadpoolctl

    shares = [of_share(i, machine.cores()) for i in range(machine.cores())]
    pool, blas = ThreadPoolExecutor(len(shares)), threadpoolctl.ThreadpoolController()

    def run() -> None:
        with blas.limit(limits=1, user_api="blas"):
            list(pool.map(lambda share: share(), shares))

    return run


def step(size: Size) -> Callable[[int, int], Call]:
    """The products of a training step, by shares of the batch."""

    def of_share(i: int, n: int) -> Call:
        return in_order(replace(size, batch=len(range(i, size.batch, n))))

    return of_share


def in_order(size: Size) -> Call:
    """Return a call that runs all products of a step: forward from the first layer, backward from the last."""
    layers = [_forward_and_backward(shape) for shape in products(size)]

    def run() -> None:
        for forward, _ in layers:
            forward()
        for _, backward in reversed(layers):
            backward()

    return run


def square() -> Call:
    """Return a call that runs one large square product."""
    A, B = random(SQUARE, SQUARE), random(SQUARE, SQUARE)
    out = np.zeros_like(A)
    return lambda: np.matmul(A, B, out=out)


def decoding(shapes: list[Product]) -> Call:
    """Return a call that runs products of a forward pass. Products of one shape share their arrays."""
    calls = {shape: _forward_and_backward(shape)[0] for shape in set(shapes)}

    def run() -> None:
        for shape in shapes:
            calls[shape]()

    return run


def _forward_and_backward(shape: Product) -> tuple[Call, Call]:
    return _linear(shape) if isinstance(shape, Linear) else _attention(shape)


def _linear(shape: Linear) -> tuple[Call, Call]:
    X, W = random(shape.rows, shape.inputs), random(shape.inputs, shape.outputs)
    Z, dX, dW = np.zeros((shape.rows, shape.outputs), X.dtype), np.zeros_like(X), np.zeros_like(W)

    def forward() -> None:
        np.matmul(X, W, out=Z)

    def backward() -> None:
        np.matmul(Z, W.T, out=dX)
        np.matmul(X.T, Z, out=dW)

    return forward, backward


def _attention(shape: Attention) -> tuple[Call, Call]:
    Q, K, V = random(shape.count, shape.N_Q, shape.D), *random(2, shape.count, shape.N_X, shape.D)
    A, Y = random(shape.count, shape.N_Q, shape.N_X), np.zeros_like(Q)
    E, dQ, dK, dV = np.zeros_like(A), np.zeros_like(Q), np.zeros_like(K), np.zeros_like(V)

    def forward() -> None:
        np.matmul(Q, K.mT, out=E)
        np.matmul(A, V, out=Y)

    def backward() -> None:
        np.matmul(Y, V.mT, out=E)                             # dA
        np.matmul(A.mT, Y, out=dV)
        np.matmul(A, K, out=dQ)                               # A stands for dE
        np.matmul(A.mT, Q, out=dK)

    return forward, backward


def random(*shape: int) -> np.ndarray:
    """Numbers in [0, 1) in float32. The time of a product does not depend on them."""
    return np.random.default_rng(0).random(shape, np.float32)


def tiles(count: int, tile: int, D: int) -> Call:
    """Return a call that runs the seven products of a tile of attention, forward and backward, `count` times."""
    Q, K, V, dY = (random(tile, D) for _ in range(4))
    A, E, dA, out = random(tile, tile), random(tile, tile), random(tile, tile), np.zeros_like(Q)

    def run() -> None:
        for _ in range(count):
            np.matmul(Q, K.T, out=E)
            np.matmul(A, V, out=out)                          # Y
            np.matmul(Q, K.T, out=E)                          # again, in the backward
            np.matmul(dY, V.T, out=dA)
            np.matmul(A.T, dY, out=out)                       # dV
            np.matmul(A, K, out=out)                          # dQ
            np.matmul(A.T, Q, out=out)                        # dK

    return run
