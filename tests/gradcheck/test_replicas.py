"""How an error is told from rounding noise, step by step: verdicts, neighbours, spread, replicas."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck.noise import Replicas
from npattn.gradcheck.numeric import Loss, Slope, norm
from npattn.gradcheck.pair import Pair
from npattn.gradcheck.probes import Probe
from support.gradcheck_pairs import loss_of

SIGNS = np.array([1.0, -1.0] * 4)  # with a variance of 8/7


@pytest.fixture
def replicas():
    def unused(loss, direction, scale, step=0.0):
        raise AssertionError("no slope is to be measured")

    return Replicas(loss_of(lambda x: x, [1.0]), unused, [np.ones(1)], 1e-7, np.random.default_rng(3))


def probe(error=0.0, scale=1.0, leaf=0, doubt=0.0, step=0.0, displacement=(1.0,)):
    return Probe({leaf: np.array(displacement)}, error * scale, Slope(0.0, doubt, step), scale)


# ---- the verdict ----------------------------------------------------------------------------------------------


@pytest.fixture
def judge(replicas):
    """Judge by scripted noise, relative to scripted neighbours; `asked` notes what was looked into."""

    def judge(errors, neighbours, noise=(), is_error=False, lasts=False):
        asked = []

        def noise_nearby(suspects, neighbour):
            asked.append(([suspect.error for suspect in suspects], neighbour.tolist()))
            return np.array(noise), is_error

        def lasts_far_away(suspects):
            asked.append([suspect.error for suspect in suspects])
            return lasts

        replicas._noise_nearby, replicas._lasts_far_away = noise_nearby, lasts_far_away
        replicas._reference = lambda suspect, neighbour: neighbour
        return (*replicas.judge([probe(error) for error in errors], neighbours), asked)

    return judge


def test_a_gradient_that_is_no_number_is_wrong(judge):
    assert judge([np.inf, 1.0], [1e30, 1e30]) == ("wrong", 0.0, [])


def test_a_gradient_below_16_eps_of_its_neighbours_is_zero(judge):
    assert judge([1.0, 2.0], [2.0**48, 2.0**49]) == ("zero", 0.0, [])
    assert judge([1.0, 2.0], [2.0**48, 2.0**47], [0.0, 0.0])[2] == [([1.0, 2.0], [2.0**48, 2.0**47])]


def test_an_error_below_4_eps_of_the_neighbours_is_rounding(judge):
    assert judge([2.0**-11, 2.0**-10], [2.0**40] * 2) == ("ok", 2.0**-10, [])
    assert judge([2.0**-10, 2.0**-9], [2.0**40] * 2, [0.0]) == ("ok", 0.0, [([2.0**-9], [2.0**40])])


def test_an_error_that_stays_is_given_another_chance_if_it_is_faint(judge):
    """Below 1e-9 of the neighbours."""
    nearby, far = ([1e-3, 2.0], [1e6, 2e9]), [1e-3, 2.0]
    assert judge([1e-3, 2.0], [1e6, 2e9], [0, 0], is_error=True, lasts=True) == ("wrong", 0.0, [nearby, far])
    assert judge([1e-3, 2.0], [1e6, 2e9], [0, 0], is_error=True, lasts=False) == ("zero", 2.0, [nearby, far])
    assert judge([1e-3, 2.1], [1e6, 2e9], [0, 0], is_error=True, lasts=False)[::2] == (
        "wrong",
        [([*far[:1], 2.1], nearby[1])],
    )
    assert judge([1e-3], [1e6], [9.0], is_error=False)[:2] == ("noisy", 9.0)


@pytest.mark.parametrize(
    ("noise", "neighbours", "verdict"),
    [
        ([1.1e-4, 0.0], [1e4, 1e4], "noisy"),
        ([0.9e-4, 0.0], [1e4, 1e4], "ok"),
        ([1e-4, 0.0], [1e4, 1e4], "ok"),
        ([0.0, 0.011], [1e4, 1e7], "noisy"),
        ([0.0, 0.009], [1e4, 1e7], "ok"),
        ([0.0, 0.01], [1e4, 1e7], "ok"),
        ([1e-8, 1e-3], [1.0, 1e7], "ok"),  # neither much nor above 1e-9 of the neighbours
        ([0.0, 0.033], [1e4, 1e9], "ok"),
        ([0.0, 0.034], [1e4, 1e9], "zero"),
        ([0.0, 0.25], [1e4, 1e9], "zero"),
    ],
)
def test_much_noise_hides_a_gradient_unless_its_neighbours_are_larger(judge, noise, neighbours, verdict):
    assert judge([1.0, 1.0], neighbours, noise)[:2] == (verdict, max(noise))


def test_zero_is_what_noise_has_a_thirtieth_of(judge):
    """Of 32 the reciprocal is exact."""
    assert judge([1.0], [1e9], [1 / 30])[0] == "zero"


# ---- neighbours -----------------------------------------------------------------------------------------------


def test_a_faint_gradient_is_compared_with_that_of_a_small_argument(replicas):
    replicas._unsaturated_slope = lambda leaf: 1e9 * (leaf + 1)
    assert replicas._reference(probe(scale=2.0), 5.0) == 2.5
    assert replicas._reference(probe(scale=1.0, displacement=(3.0, 4.0)), 1e7) == 5e9
    assert replicas._reference(probe(scale=1.0, displacement=(3.0, 4.0), leaf=1), 1e7) == 1e10
    assert replicas._reference(probe(scale=4.0), 1e8) == 0.25e9
    assert replicas._reference(probe(scale=4.0), 1e10) == 0.25e10
    assert replicas._reference(probe(scale=1.0), 1e6) == 1e6  # not faint
    shared = Probe({0: np.ones(1), 1: np.ones(1)}, 0.0, Slope(0.0), 1.0)
    assert replicas._reference(shared, 1e7) == 1e7


def test_the_slope_of_an_argument_that_is_small():
    """Of x² z at 1e-3 x/|x|, or 1e-3 x if x is small already."""
    calls = []

    def forward(x, z):
        calls.append((x, z))
        return x * x * z, (x, z)

    def backward(dy, cache):
        x, z = cache
        return 2 * dy * x * z, np.where(abs(x) > 2, [np.inf, -np.nan, -5.0], x * x * dy)

    values = [np.array([1.5, -1.0, 0.5]), np.array([3.0, -0.25, 0.125])]
    loss = Loss(Pair(forward, backward, tuple(values), {}), values, np.array([2.0, 1.0, 1.0]))
    replicas = Replicas(loss, None, [], 1e-7, None)
    assert replicas._unsaturated_slope(0) == pytest.approx(2 * 2 * 1e-3 * 3, rel=1e-12)
    assert replicas._unsaturated_slope(1) == pytest.approx(2 * 1.5**2, rel=1e-12)
    np.testing.assert_allclose(calls[-1][1], values[1] * 1e-3 / 3, rtol=1e-12)
    n = len(calls)
    assert replicas._unsaturated_slope(1) == pytest.approx(4.5, rel=1e-12) and len(calls) == n
    loss.values[1] = loss.values[1] / 6
    loss.sizes[1] = 0.5
    loss.values[0] = np.full(3, 9.0)
    assert Replicas(loss, None, [], 1e-7, None)._unsaturated_slope(1) == 5.0  # inf and nan say nothing
    np.testing.assert_allclose(calls[-1][1], values[1] / 6 * 1e-3, rtol=1e-12)
    loss.values[0] = np.array([9.0, 9.0, 1e-9])
    assert Replicas(loss, None, [], 1e-7, None)._unsaturated_slope(1) == pytest.approx(1e-18, rel=1e-9, abs=0)


# ---- noise nearby, and errors far away ------------------------------------------------------------------------


def scripted_slopes(replicas, differences, slopes=0.0):
    """Let these be the differences between analytic and numeric slopes; note what was asked for."""
    asked = []

    def slopes_at(probes, distance):
        asked.append((probes, distance))
        numeric = np.broadcast_to(slopes, np.shape(differences))
        return numeric + np.array(differences), numeric

    replicas._slopes = slopes_at
    return asked


def test_the_spread_is_pooled_relative_to_the_neighbours(replicas):
    asked = scripted_slopes(replicas, [6.0 * SIGNS, 8.0 * SIGNS + 1], 64 * SIGNS)
    suspects = [probe(scale=2.0), probe(scale=4.0)]
    noise, is_error = replicas._noise_nearby(suspects, np.array([1.0, 10.0]))
    pooled = np.sqrt(8 / 7 * (3.0**2 + 0.2**2) / 2)
    np.testing.assert_allclose(noise, [pooled, 10 * pooled], rtol=1e-14)
    assert not is_error and asked == [(suspects, 1e-7)]


def test_no_difference_at_all_is_no_error(replicas):
    scripted_slopes(replicas, np.zeros((2, 8)), SIGNS)
    noise, is_error = replicas._noise_nearby([probe(), probe()], np.ones(2))
    assert noise.tolist() == [0, 0] and not is_error


def test_the_doubt_of_a_slope_is_noise_as_well(replicas):
    scripted_slopes(replicas, [0.02 * SIGNS, 8.0 * SIGNS])
    suspects = [probe(scale=2.0, doubt=5.0), probe(scale=4.0, doubt=1.0)]
    noise, _ = replicas._noise_nearby(suspects, np.array([1e-3, 1.0]))
    assert noise[0] == 2.5 and noise[1] == pytest.approx(np.sqrt(8 / 7 * (10.0**2 + 2**2) / 2), rel=1e-14)


@pytest.mark.parametrize(
    ("mean", "error", "expected"), [(3.1, 0, False), (3.3, 0, True), (-3.3, 0, True), (0, 32, False), (0, 33, True)]
)
def test_an_error_stands_out_of_the_noise(replicas, mean, error, expected):
    """By three deviations of √(8/7), in the mean, or by thirty here."""
    scripted_slopes(replicas, [SIGNS, SIGNS + mean])
    assert replicas._noise_nearby([probe(), probe(error)], np.ones(2))[1] == expected
    scripted_slopes(replicas, [SIGNS + mean, SIGNS])
    assert replicas._noise_nearby([probe(error), probe()], np.ones(2))[1] == expected


@pytest.mark.parametrize(
    ("differences", "slopes", "lasts"),
    [
        (0.01, 1.0, True),
        (-0.01, 1.0, True),
        (0.01 * SIGNS, 1.0, False),
        (0.01 * SIGNS, SIGNS, True),  # its ratio to the slope
        (0.01 * np.array([1.0, 1000.0] * 4), np.array([1.0, 1000.0] * 4), True),
        (0.0, 0.0, False),
        (1.0, 0.0, True),
        (SIGNS, 0.0, False),
        (-3.1 - SIGNS, 1000.0, False),  # of deviations of √(8/7)
        (-3.3 - SIGNS, 1000.0, True),
        (3.1 + SIGNS, -1000.0, False),
        (3.3 + SIGNS, -1000.0, True),
        ((-1 - 0.5 * SIGNS) * 1e4, 1.0, True),  # the larger of the two slopes counts
    ],
)
def test_an_error_keeps_its_sign_far_away(replicas, differences, slopes, lasts):
    asked = scripted_slopes(
        replicas, [np.zeros(8), np.broadcast_to(differences, 8)], [np.ones(8), np.broadcast_to(slopes, 8)]
    )
    assert replicas._lasts_far_away(suspects := [probe(), probe()]) == lasts
    assert asked == [(suspects, 1e-2)]


def test_a_gradient_that_changes_much_beside_the_point_looks_like_noise(replicas):
    asked = []

    def look(*changes, gradients=((3.0, 4.0), (0.0, 0.0))):
        replicas.gradients = list(map(np.array, gradients))

        def take(n, distance):
            asked.append((n, distance))
            return [
                (None, [g + change for g, change in zip(replicas.gradients, both, strict=True)]) for both in changes
            ]

        replicas._take = take
        return [replicas.look_like_noise(leaves) for leaves in ([0], [1], [0, 1], [1, 0])]

    assert look((0.2, 0.0), (0.3, 0.0)) == [False, True, False, False]
    assert look((0.5, 0.0), (-0.5, 0.0)) == [True, True, True, True]
    assert look((0.5, 1.0), (0.2, 1.0)) == [False, True, False, False]
    assert look((0.2, 1.0), (0.5, 1.0)) == [False, True, False, False]
    assert set(asked) == {(2, 1e-7)}


# ---- replicas -------------------------------------------------------------------------------------------------


def test_slopes_at_eight_replicas_with_the_steps_that_were_best(replicas):
    measured = []

    def measure(loss, direction, scale, step):
        measured.append((loss, list(direction), scale, step))
        return Slope(100.0 * loss + scale)

    replicas.measure = measure
    replicas._take = lambda n, distance: [
        (k, [np.array([k]), np.array([10 * k])]) for k in range(n) if distance in (1e-7, 1e-2)
    ]
    probes = [probe(scale=2.0, step=0.5), probe(scale=3.0, step=0.25, leaf=1)]
    for distance, steps in ((1e-7, (0.5, 0.25)), (1e-2, (0.0, 0.0))):
        analytic, numeric = replicas._slopes(probes, distance)
        assert analytic.tolist() == [list(range(8)), list(range(0, 80, 10))]
        assert numeric.tolist() == [[100.0 * k + 2 for k in range(8)], [100.0 * k + 3 for k in range(8)]]
        assert measured == [(k, [0], 2.0, steps[0]) for k in range(8)] + [(k, [1], 3.0, steps[1]) for k in range(8)]
        measured.clear()


def test_replicas_are_made_once_beside_the_point():
    values = [np.array([2.0, 0.0]), np.array([0.0])]
    pair = Pair(lambda x, z: (x * x + z, x), lambda dy, x: (2 * x * dy, dy.sum(keepdims=True)), tuple(values), {})
    loss = Loss(pair, values, np.array([3.0, 5.0]), usual_size=1e3)
    replicas = Replicas(loss, None, loss.gradients(), 1e-7, np.random.default_rng(0))
    for distance in (1e-7, 1e-2):
        two = replicas._take(2, distance)
        three = replicas._take(3, distance)
        assert len(two) == 2 and len(three) == 3 and len(replicas._take(1, distance)) == 1
        assert all(one[0] is other[0] for one, other in zip(two, three, strict=False))
        assert len({float(beside.values[0][0]) for beside, _ in replicas._made[distance]}) == 3
        for beside, (dx, dz) in three:
            moves = [np.abs(there - here) for here, there in zip(values, beside.values, strict=True)]
            assert (moves[0] >= 0.99 * distance).all() and (moves[0] <= 2.01 * distance).all()
            assert 0.49 * distance <= moves[1][0] <= 1.01 * distance
            assert beside.sizes == loss.sizes == [2.0, 1.0] and beside.size == 1e3
            np.testing.assert_allclose(dx, 2 * beside.values[0] * loss.cotangent, rtol=1e-15)
            assert norm(dz) == 8.0
