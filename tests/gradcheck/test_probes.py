"""The slopes that are compared: entries, random directions, and halves in the search for a wrong entry."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck.numeric import Slope
from npattn.gradcheck.probes import Prober, analytic_slope
from support.gradcheck_pairs import loss_of


class Measured:
    """Returns slopes of given gradients, without a function, and records the arguments of its calls."""

    def __init__(self, *gradients):
        self.gradients, self.calls = [np.array(gradient, float) for gradient in gradients], []

    def __call__(self, loss, direction, scale, step=0.0):
        self.calls.append((loss, direction, scale, step))
        return Slope(analytic_slope(self.gradients, direction))


def prober_of(analytic, numeric, seed=0):
    loss = loss_of(lambda *xs: sum(x.sum() for x in xs), *(np.full(np.shape(g), 3.0) for g in analytic))
    gradients = [np.array(gradient, float) for gradient in analytic]
    return Prober(loss, Measured(*numeric), gradients, np.random.default_rng(seed))


def test_analytic_slope():
    gradients = [np.array([1.0, 2.0]), np.array([[3.0]]), np.array([5.0])]
    assert analytic_slope(gradients, {0: np.array([10.0, 100.0]), 2: np.array([-1.0])}) == 205.0


# ---- entries --------------------------------------------------------------------------------------------------


def test_one_entry_is_compared_relative_to_the_largest():
    prober = prober_of([[0.0], [[1.0, -6.0], [2.0, np.nan]]], [[0.0], [[1.0, -6.0], [9.0, 3.0]]])
    probe = prober.entry(1, (1, 0))
    [(loss, direction, scale, step)] = prober.measure.calls
    assert loss is prober.loss and list(direction) == [1] and direction[1].tolist() == [[0, 0], [1, 0]]
    assert (scale, step) == (6.0, 0.0)
    assert (probe.analytic, probe.numeric, probe.scale, probe.index) == (2.0, Slope(9.0), 9.0, (1, 0))
    assert probe.direction[1] is direction[1] and probe.gap == 7.0 and probe.error == 7 / 9
    assert prober.entry(1, (0, 0)).scale == 6.0 and prober.entry(1, (0, 0)).error == 0.0
    assert prober.entry(1, (1, 1)).error == np.inf
    assert prober.entry(0, (0,)).scale == 0.0 and prober.entry(0, (0,)).error == 0.0


def test_every_entry_is_compared_relative_to_the_largest_slope_of_all():
    prober = prober_of([[9.0], [[1.0, -6.0], [2.0, 3.0]]], [[9.0], [[1.0, -6.0], [8.0, 3.0]]])
    probes = prober.every_entry(1)
    assert [probe.index for probe in probes] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [probe.analytic for probe in probes] == [1.0, -6.0, 2.0, 3.0]
    assert [probe.numeric.value for probe in probes] == [1.0, -6.0, 8.0, 3.0]
    assert {probe.scale for probe in probes} == {8.0}
    assert [probe.direction[1].tolist() for probe in probes][2] == [[0, 0], [1, 0]]


# ---- directions -----------------------------------------------------------------------------------------------


def test_a_direction_moves_by_one_over_the_gradient():
    tiny = [[np.full(1000, 2e-301 / 1000**0.5)], [np.full(1000, 2e-300)]]
    prober = prober_of([np.full(1000, 2.0), np.zeros(1000), np.full(1000, np.inf)], [])
    moves = prober.direction([0, 1, 2])
    assert list(moves) == [0, 1, 2]
    for i, unit in ((0, 1 / 2000**0.5 / 2**0.5), (1, 3.0), (2, 3.0)):  # if 1/‖gradient‖ is not usable, the size
        assert 0.5 <= np.abs(moves[i] / unit).min() < 0.51 and 1.49 < np.abs(moves[i] / unit).max() <= 1.5
        assert 0.4 < np.mean(moves[i] > 0) < 0.6
    assert np.unique(np.abs(moves[0])).size == 1000  # all different
    assert not np.array_equal(prober.direction([0])[0], moves[0])
    for [gradient], unit in zip(tiny, (3.0, 1 / (2e-300 * 1000**0.5)), strict=True):
        assert np.abs(prober_of([gradient], []).direction([0])[0] / unit).max() == pytest.approx(1.5, rel=0.01)


def test_samples_of_a_group():
    gradients = [np.full((10, 50), 2.0), np.full(300, -1.0), np.zeros(7)]
    gradients[1][200] = 8.0
    numeric = [gradients[0] * 1.5, gradients[1] * 1.5, gradients[2]]
    prober = prober_of(gradients, numeric)
    probes = list(prober.samples([0, 1]))
    assert len(probes) == 5
    for probe, (loss, direction, scale, _) in zip(probes[:3], prober.measure.calls, strict=False):
        assert loss is prober.loss and direction is probe.direction and list(direction) == [0, 1]
        assert scale == 1.0 and probe.index is None and probe.scale == max(1.0, abs(probe.numeric.value))
        assert probe.numeric.value == pytest.approx(1.5 * probe.analytic, rel=1e-12)
    [leaf], largest = probes[3].direction, probes[3].index
    assert largest == ((0, 0) if leaf == 0 else (200,)) and list(probes[4].direction) == [leaf]
    leaves, positions = set(), set()
    for seed in range(9):
        *_, entry, _ = prober_of(gradients, numeric, seed).samples([0, 1])
        leaves |= set(entry.direction)
        *_, entry = prober_of(gradients, numeric, seed).samples([1])
        positions.add(entry.index)
    assert leaves == {0, 1} and len(positions) > 5
    assert list(prober_of(gradients, numeric).samples([1]))[3].index == (200,)


def test_samples_of_a_zero_gradient_are_relative_to_the_slope():
    prober = prober_of([np.zeros(2000)], [np.full(2000, 1e-3)])
    for probe in list(prober.samples([0]))[:3]:
        assert probe.scale == abs(probe.numeric.value) and probe.error == 1.0
    assert {scale for _, _, scale, _ in prober.measure.calls} == {0.0}
    mixed = prober_of([np.zeros(2000), np.ones(2000)], [np.zeros(2000), np.ones(2000)])
    assert {probe.scale >= 1 for probe in list(mixed.samples([0, 1]))[:3]} == {True}


# ---- the search for an entry ---------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 700, 1499, 2998, 2999])
def test_halving_finds_the_wrong_entry(position):
    right = np.random.default_rng(1).standard_normal((60, 50))
    wrong = right.copy()
    wrong.flat[position] += 0.5
    prober = prober_of([[1.0], wrong], [[1.0], right])
    probe = prober.worst_entry(1)
    assert probe.index == (position // 50, position % 50) and probe.gap == pytest.approx(0.5)
    calls = prober.measure.calls
    assert len(calls) <= 2 * 12 + 1  # 3,000 is less than 2¹²
    assert {scale for _, _, scale, _ in calls[:-1]} == {0.0}
    assert all(list(direction) == [1] for _, direction, _, _ in calls)
    first, second = calls[0][1][1], calls[1][1][1]
    assert np.flatnonzero(first).tolist() == list(range(1500)) and np.flatnonzero(second).tolist() == list(
        range(1500, 3000)
    )
    assert np.unique(np.abs(first[first != 0])).size == 1500


def test_the_first_nan_or_inf_is_found_without_halving():
    gradient = np.ones(2000)
    gradient[[1234, 1900]] = np.nan, np.inf
    prober = prober_of([gradient], [np.ones(2000)])
    assert prober.worst_entry(0).index == (1234,) and len(prober.measure.calls) == 1


# ---- a block --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "index", "lengths"),
    [
        ((3000,), (1234,), (201,)),
        ((3000,), (0,), (200,)),
        ((150,), (7,), (150,)),
        ((50, 60), (1, 1), (8, 29)),
        ((5, 900), (4, 899), (5, 28)),
        ((900, 5), (450, 2), (8, 5)),
        ((60, 60), (59, 0), (14, 14)),
        ((60, 60), (5, 7), (16, 16)),
        ((3, 4, 60, 60), (2, 1, 5, 7), (1, 1, 16, 16)),
        ((4, 50, 60), (3, 1, 1), (1, 8, 29)),
    ],
)
def test_a_block_holds_the_index_and_the_corners(shape, index, lengths):
    right = np.arange(float(np.prod(shape))).reshape(shape)
    prober = prober_of([right + 1], [right])
    probes, block = prober.block(0, index)
    assert right[block].shape == lengths and len(probes) == right[block].size
    assert [probe.analytic for probe in probes] == (right[block] + 1).ravel().tolist()
    assert [probe.numeric.value for probe in probes] == right[block].ravel().tolist()
    assert index in [probe.index for probe in probes]
    for n, chosen, i in zip(shape, block, index, strict=True):
        assert chosen.min() in (0, i) and chosen.max() in (n - 1, i)
    if len(shape) > 1 and shape[-1] == shape[-2]:
        assert block[-1].ravel().tolist() == block[-2].ravel().tolist()
