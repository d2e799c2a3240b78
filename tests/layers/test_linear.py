"""Linear: the definition row by row, and sums over very many rows in float32."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.attention import v7_multi_head
from npattn.attention.dot_product import sum_to_shape
from npattn.layers import layer_norm, layer_norm_backward, linear, linear_backward
from npattn.layers.kernels import CHUNK, ones, sum_rows
from support.calls import Setting, cotangent, examples, settings
from support.pairs import PAIRS


@given(setting=settings(dtype="float64", n_batch=st.integers(0, 1)))
@examples(10)
def test_definition(setting: Setting) -> None:
    """Y = X W + b row by row, and gradients summed over the rows of every batch axis."""
    X, W, b = PAIRS["npattn.layers.linear.linear"].call(setting).args
    Y, cache = linear(X, W, b)
    dY = cotangent(Y)
    dX, dW, db = linear_backward(dY, cache)
    expected_dW, expected_db = np.zeros(W.shape), np.zeros(W.shape[1])
    for row in np.ndindex(X.shape[:-1]):
        np.testing.assert_allclose(Y[row], X[row] @ W + (0.0 if b is None else b), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(dX[row], W @ dY[row], rtol=1e-12, atol=1e-14)
        expected_dW += np.outer(X[row], dY[row])
        expected_db += dY[row]
    np.testing.assert_allclose(dW, expected_dW, rtol=1e-11, atol=1e-12)
    assert (db is None) == (b is None)
    if db is not None:
        np.testing.assert_allclose(db, expected_db, rtol=1e-11, atol=1e-12)


def test_a_single_row() -> None:
    Y, cache = linear(np.array([1.0, 2.0]), np.array([[3.0], [4.0]]), np.array([0.5]))
    assert Y.tolist() == [11.5]
    dX, dW, db = linear_backward(np.array([2.0]), cache)
    assert (dX.tolist(), dW.tolist(), db.tolist()) == ([6, 8], [[2], [4]], [2])


def test_a_sum_of_more_ones_than_float32_can_count() -> None:
    """float32 `.sum(0)` over 2²⁵ ones = 16,777,216: a bias gradient sees all 33,554,432.

    With one column NumPy adds pairwise; with two, row after row. So there are two, of one number in memory.
    """
    ones = np.broadcast_to(np.ones(1, np.float32), (2**25, 2))
    start = time.process_time()
    assert sum_rows(ones).tolist() == [2**25, 2**25]
    assert time.process_time() - start < 5
    assert ones[: 2**24 + 2].sum(0).tolist() == [2**24, 2**24]  # what the trap is


def test_every_bias_gradient_takes_that_sum() -> None:
    """float32 `.sum(0)`: after 2²⁴ the ones that follow would be lost, were they added one by one."""
    n = 10 * CHUNK
    least = 2**24 + 9 * CHUNK  # all chunks but that of the large number
    dY = np.ones((n, 2), np.float32)
    assert dY.sum(0).max() == n
    dY[0] = 2**24
    assert dY.sum(0).max() == 2**24  # what the trap is
    X, b = np.ones((n, 2), np.float32), np.zeros(2, np.float32)
    W = np.eye(2, dtype=np.float32)
    assert (linear_backward(dY, linear(X, W, b)[1])[2] >= least).all()
    _, dgamma, dbeta = layer_norm_backward(dY, layer_norm(X, b, b)[1]._replace(X_hat=X))
    assert (dgamma >= least).all() and (dbeta >= least).all()
    *_, db_O = v7_multi_head.backward(dY, v7_multi_head.forward(X, X[:3], W, W, W, W, b, b, b, b, n_heads=1)[1])
    assert (db_O >= least).all()
    assert (sum_to_shape(dY, (2,)) >= least).all() and (sum_to_shape(dY.T, (2, 1)) >= least).all()


@pytest.mark.parametrize("n", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_sum_rows_at_the_seams_of_its_chunks(n: int, batch: tuple[int, ...]) -> None:
    dY = np.random.default_rng(n).integers(-9, 9, size=(*batch, n, 3)).astype(np.float64)
    assert sum_rows(dY).tolist() == dY.reshape(-1, 3).sum(0).tolist()
    assert sum_rows(dY.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("shape", [(0, 3), (4, 0, 3), (0, 2, 3)])
def test_empty_axes(shape: tuple[int, ...]) -> None:
    """Empty axes: no rows give zero gradients of the weights."""
    Y, cache = linear(np.zeros(shape), np.ones((3, 2)), np.ones(2))
    dX, dW, db = linear_backward(Y, cache)
    assert (Y.shape, dX.shape) == ((*shape[:-1], 2), shape)
    assert dW.tolist() == np.zeros((3, 2)).tolist() and db.tolist() == [0, 0]


def test_shared_ones_cannot_be_written_to() -> None:
    """Every caller gets the same vector."""
    vector = ones(3, np.dtype(np.float32))
    assert not vector.flags.writeable
    np.testing.assert_array_equal(vector, np.ones(3, np.float32))
