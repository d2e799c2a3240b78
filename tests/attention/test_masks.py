"""Masks: causal from the top left, padding with axes for heads and queries, True = may attend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import causal_mask, padding_mask
from npattn._internal.checks import Array
from npattn._internal.checks import scalars as _scalars
from support.calls import examples


@given(st.integers(0, 6), st.none() | st.integers(0, 6), st.integers(-3, 3))
@examples(25)
def test_causal_mask(N_Q: int, N_X: int | None, offset: int) -> None:
    """Causal mask when N_Q ≠ N_X: top-left, query i sees keys 0 … i + offset."""
    mask = causal_mask(N_Q, N_X, offset)
    width = N_Q if N_X is None else N_X
    assert mask.dtype == bool and mask.shape == (N_Q, width)
    assert mask.tolist() == [[n <= i + offset for n in range(width)] for i in range(N_Q)]


def test_causal_mask_with_the_keys_of_a_cache() -> None:
    """An explicit `offset` for cached decoding: the last query of many is the only query after N − 1 keys."""
    whole = causal_mask(6)
    for t in range(6):
        assert (causal_mask(1, t + 1, offset=t) == whole[t, : t + 1]).all()
        assert (causal_mask(6 - t, 6, offset=t) == whole[t:]).all()


@given(st.lists(st.integers(0, 5), max_size=4), st.integers(0, 3), st.booleans())
@examples(25)
def test_padding_mask_of_lengths(lengths: list[int], more: int, is_given: bool) -> None:
    """A (B, N_X) padding mask read as (N_Q, N_X) when B == N_Q: `padding_mask` returns (B, 1, 1, N_X)."""
    N_X = max(lengths, default=0) + (more if is_given else 0)
    mask = padding_mask(np.array(lengths, int), N_X if is_given else None)
    assert mask.dtype == bool and mask.shape == (len(lengths), 1, 1, N_X)
    assert mask[:, 0, 0].tolist() == [[n < length for n in range(N_X)] for length in lengths]


@given(st.integers(0, 4), st.integers(0, 5), st.sampled_from([0, 2, -100]), st.integers(0, 9))
@examples(25)
def test_padding_mask_of_ids(B: int, N_X: int, pad_id: int, seed: int) -> None:
    """Pads may stand anywhere: at the end, at the front, between."""
    ids = np.random.default_rng(seed).choice([pad_id, 1, 3], size=(B, N_X))
    mask = padding_mask(ids, pad_id=pad_id)
    assert mask.dtype == bool and mask.shape == (B, 1, 1, N_X)
    assert mask[:, 0, 0].tolist() == [[i != pad_id for i in row] for row in ids.tolist()]
    assert (padding_mask(ids, N_X, pad_id=pad_id) == mask).all()


def test_masks_combine() -> None:
    """Causal ∩ padding: broadcast to (B, 1, N_Q, N_X), with a dead row where a pad comes first."""
    ids = np.array([[0, 5], [5, 0]])
    both = padding_mask(ids, pad_id=0) & causal_mask(2)
    assert both.astype(int).tolist() == [[[[0, 0], [0, 1]]], [[[1, 0], [1, 0]]]]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((-1,), "^N_Q: expected 0 or more, got -1$"), ((2, -3), "^N_X: expected 0 or more, got -3$")],
)
def test_bad_sizes(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        causal_mask(*sizes)


@pytest.mark.parametrize(
    ("given_array", "options", "error", "message"),
    [
        ([1, 2], {}, TypeError, "^lengths_or_ids: expected an integer array, got list$"),
        (np.array([1.0]), {}, TypeError, "^lengths_or_ids: expected an integer array, got float64$"),
        (np.array([[True]]), {"pad_id": 0}, TypeError, "^lengths_or_ids: expected an integer array, got bool$"),
        (np.array([[1, 2]]), {}, ValueError, r"^lengths: expected \(B,\), got \(1, 2\); for ids .* give their pad_id$"),
        (np.array([1, 3]), {"N_X": 2}, ValueError, "^lengths: expected 0 to N_X=2, got 3$"),
        (np.array([1, -2]), {}, ValueError, "^lengths: expected 0 to N_X=1, got -2$"),
        (np.array([1]), {"N_X": -1}, ValueError, "^N_X: expected 0 or more, got -1$"),
        (np.array([1, 2]), {"pad_id": 0}, ValueError, r"^ids: expected \(B, N_X\), got \(2,\)$"),
        (np.array([[1, 2]]), {"pad_id": 0, "N_X": 3}, ValueError, "^N_X: expected 2, the width of the ids, got 3$"),
    ],
)
def test_bad_padding(given_array: Array, options: dict[str, int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        padding_mask(given_array, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: causal_mask(2**40, 2**20), "N_Q, N_X: expected no more numbers than memory has room for, got "),
        (lambda: causal_mask(2, 3, offset=1.5), "offset: expected an integer, got 1.5"),  # type: ignore[arg-type]
        (lambda: padding_mask(np.array([2, 2**60])), "N_X: expected no more numbers than memory has room for, got "),
        (lambda: padding_mask(np.array([[1]]), pad_id="0"), "pad_id: expected an integer, got '0'"),  # type: ignore[arg-type]
    ],
)
def test_sizes_and_ids_of_no_use(call: Callable[[], Array], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_masks_as_large_as_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A boolean takes one byte."""
    monkeypatch.setattr(_scalars, "memory", lambda: 12)
    assert causal_mask(3, 4).shape == (3, 4)
    assert padding_mask(np.array([1, 2, 4])).shape == (3, 1, 1, 4)
    with pytest.raises(ValueError, match=r"^N_Q, N_X: .* got 16$"):
        causal_mask(4)
    with pytest.raises(ValueError, match=r"^N_X: .* got 15$"):
        padding_mask(np.array([1, 2, 4]), 5)


@pytest.mark.parametrize("offset", [-4, -3, 3, 4, -(2**62), 2**62])
def test_offsets_beyond_all_keys(offset: int) -> None:
    """From some offset on a query sees all keys, or none."""
    assert causal_mask(3, 4, offset).tolist() == [[n <= i + offset for n in range(4)] for i in range(3)]
