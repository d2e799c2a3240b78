"""How an error is distinguished from rounding noise: verdicts, reference slopes, noise, replicas."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck.noise import Replicas
from npattn.gradcheck.numeric import Loss, Slope
from npattn.gradcheck.pair import PairUnderTest
from npattn.gradcheck.points import norm
from npattn.gradcheck.probes import Probe
from support.gradcheck_pairs import loss_of

SIGNS = np.array([1.0, -1.0] * 4)  # their variance is 8/7


@pytest.fixture
def replicas():
    def unused(loss, direction, scale, step=0.0):
        raise AssertionError("no slope should be measured")

    return Replicas(loss_of(lambda x: x, [1.0]), unused, [np.ones(1)], 1e-7, np.random.default_rng(3))


def probe(error=0.0, scale=1.0, leaf=0, uncertainty=0.0, step=0.0, displacement=(1.0,)):
    return Probe({leaf: np.array(displacement)}, error * scale, Slope(0.0, uncertainty, step), scale)


@pytest.mark.parametrize(
    ("eps", "much_noise", "tiny", "faint"), [(2.0**-52, 1e-4, 1e-9, 1e-6), (2.0**-23, 1e-2, 1e-2, 1e-2)]
)
def test_limits_follow_the_precision(replicas, eps, much_noise, tiny, faint):
    replicas.loss.pair.eps = eps
    made = Replicas(replicas.loss, None, [], 1e-7, None)
    assert made.limits == (much_noise, tiny, faint) and (made.invisible, made.blurred) == (16 * eps, 4 * eps)


# ---- the verdict ----------------------------------------------------------------------------------------------


@pytest.fixture
def judge(replicas):
    """Judge by given noise and given reference slopes; `calls` records the methods that were called."""

    def judge(errors, references, noise=(), is_error=False, persists=False):
        calls = []

        def noise_nearby(failing, reference):
            calls.append(([probe.error for probe in failing], reference.tolist()))
            return np.array(noise), is_error

        def persists_far_away(failing):
            calls.append([probe.error for probe in failing])
            return persists

        replicas._noise_nearby, replicas._persists_far_away = noise_nearby, persists_far_away
        replicas._reference = lambda probe, reference: reference
        return (*replicas.judge([probe(error) for error in errors], references), calls)

    return judge


def test_an_infinite_error_is_wrong(judge):
    assert judge([np.inf, 1.0], [1e30, 1e30]) == ("wrong", 0.0, [])


def test_a_gradient_below_16_eps_of_the_reference_is_zero(judge):
    assert judge([1.0, 2.0], [2.0**48, 2.0**49]) == ("zero", 0.0, [])
    assert judge([1.0, 2.0], [2.0**48, 2.0**47], [0.0, 0.0])[2] == [([1.0, 2.0], [2.0**48, 2.0**47])]


def test_an_error_below_4_eps_of_the_reference_is_rounding(judge):
    assert judge([2.0**-11, 2.0**-10], [2.0**40] * 2) == ("ok", 2.0**-10, [])
    assert judge([2.0**-10, 2.0**-9], [2.0**40] * 2, [0.0]) == ("ok", 0.0, [([2.0**-9], [2.0**40])])


def test_an_error_below_1e_9_of_the_reference_is_measured_far_away_too(judge):
    nearby, far = ([1e-3, 2.0], [1e6, 2e9]), [1e-3, 2.0]
    assert judge([1e-3, 2.0], [1e6, 2e9], [0, 0], is_error=True, persists=True) == ("wrong", 0.0, [nearby, far])
    assert judge([1e-3, 2.0], [1e6, 2e9], [0, 0], is_error=True, persists=False) == ("zero", 2.0, [nearby, far])
    assert judge([1e-3, 2.1], [1e6, 2e9], [0, 0], is_error=True, persists=False)[::2] == (
        "wrong",
        [([*far[:1], 2.1], nearby[1])],
    )
    assert judge([1e-3], [1e6], [9.0], is_error=False)[:2] == ("noisy", 9.0)


@pytest.mark.parametrize(
    ("noise", "references", "verdict"),
    [
        ([1.1e-4, 0.0], [1e4, 1e4], "noisy"),
        ([0.9e-4, 0.0], [1e4, 1e4], "ok"),
        ([1e-4, 0.0], [1e4, 1e4], "ok"),
        ([0.0, 0.011], [1e4, 1e7], "noisy"),
        ([0.0, 0.009], [1e4, 1e7], "ok"),
        ([0.0, 0.01], [1e4, 1e7], "ok"),
        ([1e-8, 1e-3], [1.0, 1e7], "ok"),  # neither above 1e-4 nor above 1e-9 of the reference
        ([0.0, 0.033], [1e4, 1e9], "ok"),
        ([0.0, 0.034], [1e4, 1e9], "zero"),
        ([0.0, 0.25], [1e4, 1e9], "zero"),
    ],
)
def test_a_gradient_with_much_noise_is_noisy_unless_the_reference_is_larger(judge, noise, references, verdict):
    assert judge([1.0, 1.0], references, noise)[:2] == (verdict, max(noise))


def test_a_gradient_of_30_times_its_noise_is_zero(judge):
    assert judge([1.0], [1e9], [1 / 30])[0] == "zero"


# ---- reference slopes -----------------------------------------------------------------------------------------


def test_the_reference_of_a_faint_gradient_includes_that_of_a_small_argument(replicas):
    replicas._unsaturated_slope = lambda leaf: 1e9 * (leaf + 1)
    assert replicas._reference(probe(scale=2.0), 5.0) == 2.5
    assert replicas._reference(probe(scale=1.0, displacement=(3.0, 4.0)), 1e7) == 5e9
    assert replicas._reference(probe(scale=1.0, displacement=(3.0, 4.0), leaf=1), 1e7) == 1e10
    assert replicas._reference(probe(scale=4.0), 1e8) == 0.25e9
    assert replicas._reference(probe(scale=4.0), 1e10) == 0.25e10
    assert replicas._reference(probe(scale=1.0), 1e6) == 1e6  # not faint
    shared = Probe({0: np.ones(1), 1: np.ones(1)}, 0.0, Slope(0.0), 1.0)
    assert replicas._reference(shared, 1e7) == 1e7


def test_the_slope_of_an_argument_scaled_down():
    """For x² z: x is scaled to a size of 1e-3, or by 1e-3 if its size is below 1."""
    calls = []

    def forward(x, z):
        calls.append((x, z))
        return x * x * z, (x, z)

    def backward(dy, cache):
        x, z = cache
        return 2 * dy * x * z, np.where(abs(x) > 2, [np.inf, -np.nan, -5.0], x * x * dy)

    values = [np.array([1.5, -1.0, 0.5]), np.array([3.0, -0.25, 0.125])]
    loss = Loss(PairUnderTest(forward, backward, tuple(values), {}), values, np.array([2.0, 1.0, 1.0]))
    replicas = Replicas(loss, None, [], 1e-7, None)
    assert replicas._unsaturated_slope(0) == pytest.approx(2 * 2 * 1e-3 * 3, rel=1e-12)
    assert replicas._unsaturated_slope(1) == pytest.approx(2 * 1.5**2, rel=1e-12)
    np.testing.assert_allclose(calls[-1][1], values[1] * 1e-3 / 3, rtol=1e-12)
    n = len(calls)
    assert replicas._unsaturated_slope(1) == pytest.approx(4.5, rel=1e-12) and len(calls) == n
    loss.values[1] = loss.values[1] / 6
    loss.sizes[1] = 0.5
    loss.values[0] = np.full(3, 9.0)
    assert Replicas(loss, None, [], 1e-7, None)._unsaturated_slope(1) == 5.0  # inf and nan are left out
    np.testing.assert_allclose(calls[-1][1], values[1] / 6 * 1e-3, rtol=1e-12)
    loss.values[0] = np.array([9.0, 9.0, 1e-9])
    assert Replicas(loss, None, [], 1e-7, None)._unsaturated_slope(1) == pytest.approx(1e-18, rel=1e-9, abs=0)


# ---- noise nearby, and errors far away ------------------------------------------------------------------------


def give_slopes(replicas, differences, slopes=0.0):
    """Give `replicas` these differences between analytic and numeric slopes. Return a record of the calls."""
    calls = []

    def slopes_at(probes, distance):
        calls.append((probes, distance))
        numeric = np.broadcast_to(slopes, np.shape(differences))
        return numeric + np.array(differences), numeric

    replicas._slopes = slopes_at
    return calls


def test_the_variance_is_averaged_relative_to_the_reference_slopes(replicas):
    calls = give_slopes(replicas, [6.0 * SIGNS, 8.0 * SIGNS + 1], 64 * SIGNS)
    failing = [probe(scale=2.0), probe(scale=4.0)]
    noise, is_error = replicas._noise_nearby(failing, np.array([1.0, 10.0]))
    pooled = np.sqrt(8 / 7 * (3.0**2 + 0.2**2) / 2)
    np.testing.assert_allclose(noise, [pooled, 10 * pooled], rtol=1e-14)
    assert not is_error and calls == [(failing, 1e-7)]


def test_no_difference_at_all_is_no_error(replicas):
    give_slopes(replicas, np.zeros((2, 8)), SIGNS)
    noise, is_error = replicas._noise_nearby([probe(), probe()], np.ones(2))
    assert noise.tolist() == [0, 0] and not is_error


def test_the_noise_is_at_least_the_uncertainty_of_the_slope(replicas):
    give_slopes(replicas, [0.02 * SIGNS, 8.0 * SIGNS])
    failing = [probe(scale=2.0, uncertainty=5.0), probe(scale=4.0, uncertainty=1.0)]
    noise, _ = replicas._noise_nearby(failing, np.array([1e-3, 1.0]))
    assert noise[0] == 2.5 and noise[1] == pytest.approx(np.sqrt(8 / 7 * (10.0**2 + 2**2) / 2), rel=1e-14)


@pytest.mark.parametrize(
    ("mean", "error", "expected"), [(3.1, 0, False), (3.3, 0, True), (-3.3, 0, True), (0, 32, False), (0, 33, True)]
)
def test_an_error_is_larger_than_3_times_the_noise_or_30_times_at_the_point(replicas, mean, error, expected):
    """The noise is √(8/7). The mean is compared with 3 times that, the error at the arguments with 30 times."""
    give_slopes(replicas, [SIGNS, SIGNS + mean])
    assert replicas._noise_nearby([probe(), probe(error)], np.ones(2))[1] == expected
    give_slopes(replicas, [SIGNS + mean, SIGNS])
    assert replicas._noise_nearby([probe(error), probe()], np.ones(2))[1] == expected


@pytest.mark.parametrize(
    ("differences", "slopes", "persists"),
    [
        (0.01, 1.0, True),
        (-0.01, 1.0, True),
        (0.01 * SIGNS, 1.0, False),
        (0.01 * SIGNS, SIGNS, True),  # its ratio to the slope is constant
        (0.01 * np.array([1.0, 1000.0] * 4), np.array([1.0, 1000.0] * 4), True),
        (0.0, 0.0, False),
        (1.0, 0.0, True),
        (SIGNS, 0.0, False),
        (-3.1 - SIGNS, 1000.0, False),  # the deviation is √(8/7)
        (-3.3 - SIGNS, 1000.0, True),
        (3.1 + SIGNS, -1000.0, False),
        (3.3 + SIGNS, -1000.0, True),
        ((-1 - 0.5 * SIGNS) * 1e4, 1.0, True),  # relative to the larger of the two slopes
    ],
)
def test_an_error_keeps_its_sign_far_away(replicas, differences, slopes, persists):
    calls = give_slopes(
        replicas, [np.zeros(8), np.broadcast_to(differences, 8)], [np.ones(8), np.broadcast_to(slopes, 8)]
    )
    assert replicas._persists_far_away(failing := [probe(), probe()]) == persists
    assert calls == [(failing, 1e-2)]


def test_a_gradient_that_changes_by_a_tenth_at_replicas_looks_like_noise(replicas):
    calls = []

    def look(*changes, gradients=((3.0, 4.0), (0.0, 0.0))):
        replicas.gradients = list(map(np.array, gradients))

        def points(n, distance):
            calls.append((n, distance))
            return [
                (None, [g + change for g, change in zip(replicas.gradients, both, strict=True)]) for both in changes
            ]

        replicas._points = points
        return [replicas.look_like_noise(leaves) for leaves in ([0], [1], [0, 1], [1, 0])]

    assert look((0.2, 0.0), (0.3, 0.0)) == [False, True, False, False]
    assert look((0.5, 0.0), (-0.5, 0.0)) == [True, True, True, True]
    assert look((0.5, 1.0), (0.2, 1.0)) == [False, True, False, False]
    assert look((0.2, 1.0), (0.5, 1.0)) == [False, True, False, False]
    assert set(calls) == {(2, 1e-7)}


# ---- replicas -------------------------------------------------------------------------------------------------


def test_slopes_at_eight_replicas_with_the_best_steps(replicas):
    measured = []

    def measure(loss, direction, scale, step):
        measured.append((loss, list(direction), scale, step))
        return Slope(100.0 * loss + scale)

    replicas.measure = measure
    replicas._points = lambda n, distance: [
        (k, [np.array([k]), np.array([10 * k])]) for k in range(n) if distance in (1e-7, 1e-2)
    ]
    probes = [probe(scale=2.0, step=0.5), probe(scale=3.0, step=0.25, leaf=1)]
    for distance, steps in ((1e-7, (0.5, 0.25)), (1e-2, (0.0, 0.0))):
        analytic, numeric = replicas._slopes(probes, distance)
        assert analytic.tolist() == [list(range(8)), list(range(0, 80, 10))]
        assert numeric.tolist() == [[100.0 * k + 2 for k in range(8)], [100.0 * k + 3 for k in range(8)]]
        assert measured == [(k, [0], 2.0, steps[0]) for k in range(8)] + [(k, [1], 3.0, steps[1]) for k in range(8)]
        measured.clear()


def test_replicas_are_computed_once():
    values = [np.array([2.0, 0.0]), np.array([0.0])]
    forward, backward = lambda x, z: (x * x + z, x), lambda dy, x: (2 * x * dy, dy.sum(keepdims=True))
    pair = PairUnderTest(forward, backward, values)
    loss = Loss(pair, values, np.array([3.0, 5.0]), usual_size=1e3)
    replicas = Replicas(loss, None, loss.gradients(), 1e-7, np.random.default_rng(0))
    for distance in (1e-7, 1e-2):
        two = replicas._points(2, distance)
        three = replicas._points(3, distance)
        assert len(two) == 2 and len(three) == 3 and len(replicas._points(1, distance)) == 1
        assert all(one[0] is other[0] for one, other in zip(two, three, strict=False))
        assert len({float(beside.values[0][0]) for beside, _ in replicas._made[distance]}) == 3
        for beside, (dx, dz) in three:
            moves = [np.abs(there - here) for here, there in zip(values, beside.values, strict=True)]
            assert (moves[0] >= 0.99 * distance).all() and (moves[0] <= 2.01 * distance).all()
            assert 0.49 * distance <= moves[1][0] <= 1.01 * distance
            assert beside.sizes == loss.sizes == [2.0, 1.0] and beside.size == 1e3
            np.testing.assert_allclose(dx, 2 * beside.values[0] * loss.cotangent, rtol=1e-15)
            assert norm(dz) == 8.0
