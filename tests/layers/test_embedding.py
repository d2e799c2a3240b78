"""Embedding: every repeat counts, wrong ids are refused, and a tied table gathers all its gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import check_gradients
from npattn._internal.checks import Array
from npattn.layers import embedding, embedding_backward, linear, linear_backward
from support.calls import examples


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 60), V=st.integers(1, 9), kind=st.sampled_from("bBhil"))
@examples(15)
def test_every_repeat_counts(seed: int, n: int, V: int, kind: str) -> None:
    """Embedding backward `dW[ids] += d` loses repeats: here the sum is written out."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(V, size=(2, n)).astype(kind)
    W_E = rng.standard_normal((V, 3))
    Y, cache = embedding(ids, W_E)
    assert Y.tolist() == [[W_E[i].tolist() for i in row] for row in ids]
    dY = rng.standard_normal(Y.shape)
    expected = np.zeros((V, 3))
    for row, d_row in zip(ids, dY, strict=True):
        for i, d in zip(row, d_row, strict=True):
            expected[i] += d
    np.testing.assert_allclose(embedding_backward(dY, cache), expected, rtol=1e-13, atol=1e-14)


def test_a_table_of_rows_without_entries() -> None:
    Y, cache = embedding(np.array([[1, 0, 1]]), np.zeros((2, 0)))
    assert Y.shape == (1, 3, 0) and embedding_backward(Y, cache).shape == (2, 0)


@pytest.mark.parametrize("bad", [-1, 5, 127])
def test_an_id_out_of_range(bad: int) -> None:
    """id −1 or ≥ V is an IndexError: Python's −1 for "last" has no meaning here."""
    with pytest.raises(IndexError, match=f"^ids: expected ids from 0 to 4, got {bad}$"):
        embedding(np.array([0, bad, 4], np.int8), np.ones((5, 2)))


def test_an_id_of_an_empty_table() -> None:
    with pytest.raises(IndexError, match=r"^ids: expected no ids of an empty table, got 3$"):
        embedding(np.array([3]), np.ones((0, 2)))
    assert embedding(np.array([], int), np.ones((0, 2)))[0].shape == (0, 2)


@pytest.mark.parametrize(
    "ids", [np.array([1], "m8[s]"), np.array([True]), np.array([1.0]), [0, 1], np.array(["a"]), np.array([None])]
)
def test_ids_that_are_no_integers(ids: Array) -> None:
    """bool or float ids a TypeError; NumPy calls a timedelta an integer."""
    with pytest.raises(TypeError, match=r"^ids: expected an integer array, got "):
        embedding(ids, np.ones((5, 2)))


def test_a_table_of_a_wrong_rank() -> None:
    with pytest.raises(ValueError, match=r"^W_E: expected \(V, D\), got \(2, 5, 3\)$"):
        embedding(np.array([0]), np.ones((2, 5, 3)))


def test_tied_embedding() -> None:
    """Tied embedding: three uses, and three gradients added: source, target, output."""
    rng = np.random.default_rng(0)
    src, tgt = rng.integers(5, size=(2, 7))
    M = rng.standard_normal((7, 7))

    def forward(W_E: Array):  # type: ignore[no-untyped-def]
        S, c_src = embedding(src, W_E)
        T, c_tgt = embedding(tgt, W_E)
        Y, c_out = linear(np.tanh(M @ S) * T, W_E.T)
        return Y, (S, T, c_src, c_tgt, c_out)

    def backward(dY: Array, cache) -> Array:  # type: ignore[no-untyped-def]
        S, T, c_src, c_tgt, c_out = cache
        G = np.tanh(M @ S)
        dZ, dW_out, _ = linear_backward(dY, c_out)
        dS = M.T @ (dZ * T * (1 - G * G))
        return embedding_backward(dS, c_src) + embedding_backward(dZ * G, c_tgt) + dW_out.T

    W_E = rng.standard_normal((5, 3))
    assert check_gradients(forward, backward, (W_E,), method="complex-step").max_error <= 1e-12
