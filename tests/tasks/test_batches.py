"""Batches: an epoch has every pair once, a step decides its batch, rows are padded, lengths in a batch are similar."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.tasks import batches as module
from npattn.tasks.batches import BucketedBatches, Pair, pad, prediction_batches
from npattn.tasks.vocabulary import BOS, EOS, PAD


def random_pairs(n: int, seed: int, longest: int = 12) -> list[Pair]:
    """Return different pairs: the first id of a source is its number plus 4."""
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(n):
        source = [4 + i, *rng.integers(4, 9, rng.integers(0, longest)).tolist()]
        target = [BOS, *rng.integers(4, 9, rng.integers(0, longest)).tolist(), EOS]
        pairs.append(Pair(source, target))
    return pairs


def unpad(row: np.ndarray) -> list[int]:
    """Return the ids of a row that are not pads."""
    return [int(i) for i in row if i != PAD]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**40), st.integers(0, 3), st.integers(1, 4))
def test_every_pair_comes_once_in_every_epoch(n: int, size: int, seed: int, epoch: int, pool: int) -> None:
    pairs = random_pairs(n, seed)
    batches = BucketedBatches(pairs, size, seed=seed, pool=pool)
    seen = []
    for step in range(epoch * len(batches), (epoch + 1) * len(batches)):
        src, tgt = batches[step]
        assert src.dtype == tgt.dtype == np.int64
        assert 1 <= len(src) == len(tgt) <= size
        seen += [(unpad(s), unpad(t)) for s, t in zip(src, tgt, strict=True)]
    assert sorted(seen) == sorted((list(p.source), list(p.target)) for p in pairs)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**40), st.data())
def test_a_batch_depends_on_its_step_alone(n: int, size: int, seed: int, data: st.DataObject) -> None:
    pairs = random_pairs(n, seed)
    in_order, resumed = BucketedBatches(pairs, size, seed=seed), BucketedBatches(pairs, size, seed=seed)
    expected = [in_order[step] for step in range(3 * len(in_order))]
    for step in data.draw(st.lists(st.integers(0, len(expected) - 1), max_size=6)):
        for got, wanted in zip(resumed[step], expected[step], strict=True):
            assert np.array_equal(got, wanted)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**40), st.integers(1, 400))
def test_no_batch_of_several_pairs_has_too_many_scores(n: int, size: int, seed: int, limit: int) -> None:
    """All pairs come once, also pairs that are too long for the usual batch: they are with others of the kind."""
    pairs = random_pairs(n, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SCORES", limit)
        batches = BucketedBatches(pairs, size, seed=seed, pool=2)
        epochs = [[batches[step + epoch * len(batches)] for step in range(len(batches))] for epoch in range(2)]
    for epoch in epochs:
        assert sorted(unpad(row) for src, _ in epoch for row in src) == sorted(list(p.source) for p in pairs)
        for src, tgt in epoch:
            width = max(src.shape[1], tgt.shape[1])
            assert len(src) == 1 or (len(src) <= size and len(src) * width**2 <= limit)


def test_one_long_pair_leaves_the_other_batches_as_large_as_before() -> None:
    """It is alone; three a little too long for a batch of four share one."""
    usual = [Pair([4] * 5, [BOS, 5, EOS])] * 8
    pairs = [*usual, Pair([6] * 3000, [BOS, EOS]), *[Pair([7], [BOS, *[5] * 1498, EOS])] * 3]
    sizes = {(len(src), src.shape[1], tgt.shape[1]) for src, tgt in BucketedBatches(pairs, 4)}
    assert sizes == {(4, 5, 3), (1, 3000, 2), (3, 1, 1500)}
    assert len(BucketedBatches(usual, 4)) == 2


def test_epochs_and_seeds_give_different_batches() -> None:
    pairs = random_pairs(200, seed=5)
    batches = BucketedBatches(pairs, 8, seed=1)
    first = [batches[step].src[:, 0].tolist() for step in range(len(batches))]
    second = [batches[step + len(batches)].src[:, 0].tolist() for step in range(len(batches))]
    other = BucketedBatches(pairs, 8, seed=2)
    assert first != second
    assert {frozenset(b) for b in first} != {frozenset(b) for b in second}
    assert first != [other[step].src[:, 0].tolist() for step in range(len(other))]
    assert first == [batch.src[:, 0].tolist() for batch in batches]


def share_of_ids(arrays: Iterable[np.ndarray]) -> float:
    """Return the share of ids that are not pads."""
    arrays = list(arrays)
    return float(sum((a != PAD).sum() for a in arrays) / sum(a.size for a in arrays))


def test_a_batch_has_similar_target_lengths_and_then_similar_source_lengths() -> None:
    pairs = random_pairs(4_000, seed=3)
    sorted_pools, no_pools = BucketedBatches(pairs, 8, seed=0), BucketedBatches(pairs, 8, seed=0, pool=1)
    assert share_of_ids(batch.tgt for batch in sorted_pools) > 0.98
    assert share_of_ids(batch.src for batch in sorted_pools) > 0.75
    assert max(share_of_ids(batch.tgt for batch in no_pools), share_of_ids(batch.src for batch in no_pools)) < 0.7


def test_the_batches_of_a_pool_have_a_random_order() -> None:
    batches = BucketedBatches(random_pairs(400, seed=3), 10, seed=0)
    assert len(batches) <= batches.pool
    widths = np.array([batch.tgt.shape[1] for batch in batches])
    assert 0.3 < np.mean(np.diff(widths) > 0) < 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": [], "batch_size": 2}, "pairs: expected at least one pair, got none"),
        ({"pairs": random_pairs(1, 0), "batch_size": 0}, "batch_size: expected 1 or more, got 0"),
    ],
)
def test_an_error_names_the_bad_argument(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BucketedBatches(**arguments)  # type: ignore[arg-type]


def test_a_negative_step_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="step: expected 0 or more, got -1"):
        BucketedBatches(random_pairs(3, 0), 2)[-1]


def test_empty_rows_can_be_padded() -> None:
    assert pad([]).shape == (0, 0)
    assert pad([[], [5]]).tolist() == [[PAD], [5]]


@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 2**40))
def test_rows_put_predictions_in_the_order_of_the_sources(n: int, size: int, seed: int) -> None:
    sources = [pair.source for pair in random_pairs(n, seed)]
    outputs: dict[int, list[int]] = {}
    widths = []
    for rows, src in prediction_batches(sources, size):
        assert len(rows) == len(src) <= size
        outputs |= {int(row): unpad(ids) for row, ids in zip(rows, src, strict=True)}
        widths.append(src.shape[1])
    assert [outputs[i] for i in range(n)] == sources
    assert widths == sorted(widths)


def test_prediction_needs_a_positive_batch_size() -> None:
    with pytest.raises(ValueError, match="batch_size: expected 1 or more, got 0"):
        next(prediction_batches([[4]], 0))
