"""Slopes of known functions by the complex step and by central differences, and their uncertainty."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck.numeric import Loss, NotComplexSafe, Slope
from npattn.gradcheck.pair import PairUnderTest
from support.gradcheck_pairs import loss_of


@pytest.mark.parametrize("x", [1e-6, 0.3, 1.0, 40.0])
@pytest.mark.parametrize(
    ("function", "derivative"),
    [(np.exp, np.exp), (np.log, np.reciprocal), (np.tanh, lambda x: np.cosh(x) ** -2.0), (np.sin, np.cos)],
)
def test_slopes_of_known_functions(function, derivative, x):
    loss, direction = loss_of(function, [x]), {0: np.array([3.0])}
    exact = 3 * derivative(np.array(x))
    size = max(abs(exact), 3e-3 / x)  # tanh is flat at 40
    assert abs(loss.complex_slope(direction).value - exact) <= 1e-15 * abs(exact)
    central = loss.central_slope(direction)
    assert abs(central.value - exact) <= 1e-10 * size
    assert abs(central.value - exact) <= max(central.uncertainty, 1e-13 * size)


def test_central_difference_does_not_reach_a_kink_nearby():
    for distance in (1e-2, 1e-4, 1e-6):
        loss = loss_of(lambda x: np.maximum(x, 0) + x**2, [distance, 1.0])
        slope = loss.central_slope({0: np.array([1.0, 1.0])})
        assert slope.value == pytest.approx(2 * distance + 1 + 2 + 1, rel=1e-7)
        assert not loss.has_kink({0: np.array([1.0, 1.0])})


def test_central_difference_is_uncertain_at_a_kink():
    loss = loss_of(lambda x: np.maximum(x, 0), [0.0, 1.0])
    assert loss.central_slope({0: np.array([1.0, 1.0])}).uncertainty > 0.5
    assert loss.has_kink({0: np.array([1.0, 0.0])}) and not loss.has_kink({0: np.array([0.0, 1.0])})


def test_central_difference_of_a_forward_that_computes_in_float32():
    loss = loss_of(lambda x: np.exp(x).astype(np.float32).astype(float), [1.0])
    slope = loss.central_slope({0: np.array([1.0])})
    assert 0 < abs(slope.value - np.e) < 1e-3


# ---- where a slope is measured --------------------------------------------------------------------------------


class Recorded:
    """A function that records the points at which it is called."""

    def __init__(self, function):
        self.function, self.points = function, []

    def __call__(self, *xs):
        self.points.append([np.array(x) for x in xs])
        return self.function(*xs)


@pytest.fixture
def product():
    """x·z at x = (1, −4, 0) and z = 0.5, with a direction that moves both; x's unit is 4/2, z's is 0.5/0.25."""
    function = Recorded(lambda x, z: x * z)
    loss = loss_of(function, [1.0, -4.0, 0.0], 0.5)
    function.points.clear()
    return function, loss, {0: np.array([0.0, 2.0, 1.0]), 1: np.array(0.25)}


def test_unit_and_finest_step(product):
    _, loss, direction = product
    assert loss._unit(direction) == 2.0  # moves z, and -4, by their own size
    assert loss._unit({0: np.array([0.0, 1.0, 0.0])}) == 4.0 and loss._unit({1: np.array(4.0)}) == 0.125
    assert loss._unit({0: np.array([0.0, 2.0, 1.0]), 1: np.array(0.5)}) == 1.0
    assert loss._unit({0: np.zeros(3)}) == loss._unit({0: np.zeros(0)}) == 1.0
    assert loss._finest({0: np.array([5.0, 1.0, 1.0])}) == 0.2  # a zero has no size
    assert loss._finest({0: np.array([0.0, 1.0, 0.0]), 1: np.array(2.0)}) == 0.25
    assert loss._finest({0: np.array([0.1, 1.0, 0.0])}) == 4.0  # at most the unit
    loss.sizes = [8.0, 1.0]
    assert loss._unit({0: np.array([0.0, 1.0, 0.0])}) == 8.0  # the size at the user's arguments


def test_complex_slope_moves_by_1e_20_of_the_size(product):
    function, loss, direction = product
    slope = loss.complex_slope(direction)
    [[x, z]] = function.points
    np.testing.assert_allclose(x.imag, [0, 4e-20, 2e-20], rtol=1e-15)
    assert x.real.tolist() == [1, -4, 0]
    assert z.real == 0.5 and z.imag / 1e-20 == pytest.approx(0.5, rel=1e-15)
    assert slope == (pytest.approx(0.25 * 1 + 2 * 0.5 - 4 * 0.25 + 0.5, rel=1e-15), 0.0, 0.0)
    assert loss.values[0].dtype == np.float64 and not loss.is_output_real
    assert loss.complex_slope({1: np.array(1.0)}).value == pytest.approx(-3.0, rel=1e-15)
    assert function.points[1][0].dtype == np.complex128 and not function.points[1][0].imag.any()


def test_complex_slope_gives_the_reason_for_its_failure():
    def refuses(x):
        if np.iscomplexobj(x):
            raise RuntimeError("real numbers only")
        return x

    with pytest.raises(NotComplexSafe, match=r"^RuntimeError on complex input: real numbers only$"):
        loss_of(refuses, [1.0]).complex_slope({0: np.ones(1)})
    real = loss_of(lambda x: x.real, [1.0])
    assert real.complex_slope({0: np.ones(1)}).value == 0 and real.is_output_real


def test_rough_slope(product):
    function, loss, direction = product
    slope = loss.rough_slope(direction)
    (right, z_right), (left, z_left) = function.points
    np.testing.assert_allclose(right - [1, -4, 0], [0, 4e-5, 2e-5], rtol=1e-9)
    np.testing.assert_allclose(left - [1, -4, 0], [0, -4e-5, -2e-5], rtol=1e-9)
    assert z_right - 0.5 == pytest.approx(0.5e-5, rel=1e-9) and z_left - 0.5 == pytest.approx(-0.5e-5, rel=1e-9)
    assert slope.value == pytest.approx(0.75, rel=1e-9) and slope.step == 0.0
    assert slope.uncertainty == pytest.approx(4 * loss.rounding / 2e-5, rel=1e-12, abs=0)


def test_a_change_is_subtracted_before_it_is_summed():
    loss = loss_of(lambda x: 1e10 + np.array([-1e10, 0.0]) + x, [1.0, 1.0])
    loss.cotangent = np.array([3.0, 1e-5])
    loss.terms = loss.cotangent * loss.y
    assert loss._change({0: np.array([1.0, 0.0])}, 2.0**-30) == 3 * 2.0**-30


def test_sizes_and_rounding_of_a_loss():
    def forward(x, z):
        return (x.astype(np.float32), 2.0 * z), "the cache"

    values = [np.array([3.0, -4.0]), np.array([0.0])]
    pair = PairUnderTest(forward, lambda dy, cache: (dy[0], None), tuple(values), {})
    loss = Loss(pair, values, np.array([1.0, 0.5, 7.0]))
    assert loss.cache == "the cache" and loss.terms.tolist() == [3.0, -2.0, 0.0]
    assert loss.size == pytest.approx(13**0.5, rel=1e-15) and loss.sizes == [4.0, 1.0]
    assert loss.rounding == pytest.approx(2.0**-23 * 13**0.5, rel=1e-15)  # the eps of the least precise output
    assert [value.dtype for value in loss.complex_values] == [np.complex128] * 2 and loss.is_output_real is False
    assert loss_of(lambda x: 0 * x, [1.0]).size == 0
    loss = Loss(pair, values, np.array([1.0, 0.5, 7.0]), 100.0, [5.0, 6.0])
    assert loss.size == 100 and loss.rounding == 100 * 2.0**-23 and loss.sizes == [5.0, 6.0]


def test_gradients_at_a_point_are_copies_and_zeros():
    buffer = np.zeros(2)
    values = [np.array([3.0, -4.0]), np.array([[1.0]])]

    def backward(dy, cache):
        buffer[:] = cache * dy
        return buffer, None

    loss = Loss(PairUnderTest(lambda x, z: (x * z[0], 2.0), backward, tuple(values), {}), values, np.array([1.0, 5.0]))
    dx, dz = loss.gradients()
    buffer[:] = 0
    assert dx.tolist() == [2.0, 10.0] and dz.tolist() == [[0.0]] and dz.dtype == np.float64


# ---- extrapolation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("power", "value", "uncertainty"),
    [(1, 1.0, 0.0), (2, 0.0, 0.0), (3, 0.0, 0.0), (5, 0.0, 15 / 64), (7, 1 / 64, 315 / 1024)],
)
def test_richardson_extrapolation_of_powers_at_zero(power, value, uncertainty):
    """D(h) of xᵖ is hᵖ⁻¹ for odd p; h² and h⁴ are removed. The uncertainty is an estimate from h⁴."""
    function = Recorded(lambda x: x**power)
    loss = loss_of(function, [0.0])
    loss.sizes, loss.rounding = [4.0], 0.0
    function.points.clear()
    slope = loss._richardson({0: np.array([2.0])}, 0.5)  # x = ±1, ±½, ±¼; the unit is 2
    assert sorted(float(x[0]) for [x] in function.points) == [-1.0, -0.5, -0.25, 0.25, 0.5, 1.0]
    assert slope.value == pytest.approx(2 * value, abs=1e-15)
    assert slope.uncertainty == pytest.approx(2 * uncertainty, abs=1e-15)
    assert slope.step == 0.25
    loss.rounding = 0.125
    assert loss._richardson({0: np.array([2.0])}, 0.5).uncertainty == pytest.approx(2 * uncertainty + 1.0, rel=1e-15)


def test_a_kink_adds_to_the_uncertainty_but_curvature_does_not():
    loss = loss_of(lambda x: np.abs(x) + 3 * x, [0.0])
    loss.rounding = 0.0
    assert loss._richardson({0: np.array([1.0])}, 0.5) == (3.0, 2.0, 0.5)
    loss = loss_of(lambda x: x * x + np.where(x > 0.3, x - 0.3, 0), [0.0])  # h and h/2 cross the kink, h/4 does not
    loss.rounding = 0.0
    assert loss._richardson({0: np.array([1.0])}, 0.8).uncertainty >= 0.1


# ---- the choice of the step -----------------------------------------------------------------------------------


def steps_of(outcomes, rounding=0.0, values=(1.0,), **options):
    """Give `central_slope` these (value, uncertainty). Return the steps it tries and the slope it chooses."""
    loss = loss_of(lambda x: x, list(values))
    loss.rounding, steps, script = rounding, [], iter(outcomes)

    def richardson(direction, h):
        steps.append(h)
        return Slope(*next(script), h)

    loss._richardson = richardson
    slope = loss.central_slope({0: np.array([0.5] * len(values))}, **options)
    return steps, slope


def test_the_first_step_is_used_if_its_uncertainty_is_small_enough():
    for outcome, options in [((1.0, 1e-9), {}), ((-1.0, 1e-9), {}), ((0.0, 1e-9), {"scale": 1.0})]:
        assert steps_of([outcome], **options) == ([pytest.approx(4e-3)], (*outcome, pytest.approx(4e-3)))
    assert len(steps_of([(1e-3, 5e-10), (1e-3, 1e-12)])[0]) == 2
    assert steps_of([(1.0, 0.5)], step=0.01) == ([0.02], (1.0, 0.5, 0.02))  # a given step is used without a search


def test_shorter_steps_follow_if_rounding_does_not_dominate():
    """Each step is a tenth, or five steps lead to 0.002 of the smallest number."""
    uncertainties = [1.0, 0.5, 0.7, 0.25, 0.6, 0.3]
    steps, slope = steps_of([(k, uncertainty) for k, uncertainty in enumerate(uncertainties, start=1)])
    assert steps == pytest.approx([4e-3 * 10.0**-k for k in range(6)]) and slope[:2] == (4, 0.25)
    steps, _ = steps_of([(1.0, 1.0)] * 6, values=(1.0, 1e-10))
    assert steps == pytest.approx([4e-3 * 100.0**-k for k in range(6)], rel=1e-9, abs=0)
    steps, slope = steps_of([(1.0, 1.0), (2.0, 0.5), (3.0, 1e-9 * 3), (4.0, 0.0)])
    assert len(steps) == 3 and slope.value == 3.0
    steps, slope = steps_of([(1.0, 0.1), (9.0, 0.1), (2.0, 0.05), *[(1.0, 1.0)] * 3])
    assert slope[:2] == (2.0, 0.05)
    steps, slope = steps_of([(1.0, np.nan), (9.0, np.nan), (2.0, 0.05), *[(1.0, 1.0)] * 3])
    assert slope[:2] == (2.0, 0.05)
    steps, slope = steps_of([(7.0, np.inf)] * 6)
    assert len(steps) == 6 and np.isnan(slope.value) and slope.uncertainty == np.inf


def test_shorter_steps_end_if_rounding_is_worse_or_no_bit_changes():
    """At the first step rounding is 4·1e-6/4e-3 = 1e-3. Three steps later, rounding alone is 1."""
    steps, slope = steps_of([(1.0, 0.5), (2.0, 0.4), (3.0, 0.3), *[(4.0, 0.9)] * 3], rounding=1e-6)
    assert len(steps) == 3 and slope[:2] == (3.0, 0.3)
    steps, slope = steps_of([(1.0, 0.5), (2.0, 0.11), (3.0, 0.1)], rounding=1e-6)  # rounding of 0.1 at the third step
    assert len(steps) == 3 and slope[:2] == (3.0, 0.1)
    steps, slope = steps_of([(1.0, 0.4), (0.0, 0.1), (5.0, 0.0)])
    assert len(steps) == 2 and slope[:2] == (1.0, 0.4)
    steps, slope = steps_of([(1.0, 0.5), (0.0, 0.1), (5.0, 0.0)])  # twice the uncertainty or less: the slope may be 0
    assert len(steps) == 3 and slope[:2] == (5.0, 0.0)
    steps, slope = steps_of([(-1.0, 0.4), (0.0, 0.1), (5.0, 0.0)])
    assert len(steps) == 2 and slope[:2] == (-1.0, 0.4)
    steps, slope = steps_of([(1.0, 0.4), (1.0, 0.1), (5.0, 0.0)])
    assert len(steps) == 3 and slope[:2] == (5.0, 0.0)


def test_longer_steps_follow_if_rounding_dominates():
    """Each step is 30 times longer, while it helps. There are at most three steps."""
    steps, slope = steps_of([(1.0, 1.9e-3), (2.0, 1e-3), (3.0, 5e-4)], rounding=1e-6)
    assert steps == pytest.approx([4e-3, 0.12, 3.6]) and slope[:2] == (3.0, 5e-4)
    steps, slope = steps_of([(1.0, 1.9e-3), (2.0, 2e-3), (3.0, 5e-4)], rounding=1e-6)
    assert len(steps) == 2 and slope[:2] == (1.0, 1.9e-3)
    assert steps_of([(1.0, 2.1e-3)], rounding=1e-6)[1][:2] == (1.0, 2.1e-3)  # neither longer nor shorter steps help
    assert steps_of([(1.0, 1.9e-3)], rounding=1e-6, step=2e-3)[1][:2] == (1.0, 1.9e-3)


# ---- kinks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "has_kink"),
    [
        (np.abs, True),
        (lambda x: -np.abs(x), True),
        (lambda x: x + 6e-6 * np.abs(x), True),  # a gap of 1.2e-5 of the slope
        (lambda x: x + 4e-6 * np.abs(x), False),
        (lambda x: 100 * x + 4e-4 * np.abs(x), False),
        (lambda x: -x + 6e-6 * np.abs(x), True),
        (lambda x: -x + 4e-6 * np.abs(x), False),
        (lambda x: np.where(x > 0, x, 1e-9 * x), True),
        (lambda x: np.where(x > 0, 1e-9 * x, x), True),
        (lambda x: np.abs(x) ** 1.1, True),  # its gap shrinks by 13 %, as the step to the power of 0.1
        (lambda x: np.abs(x) ** 1.2, False),
        (lambda x: 1e5 * x * x, False),
        (np.sqrt, False),  # nan on one side
    ],
)
def test_which_functions_have_a_kink(function, has_kink):
    with np.errstate(invalid="ignore"):
        assert loss_of(function, [0.0]).has_kink({0: np.array([1.0])}) == has_kink


def test_a_kink_must_be_larger_than_rounding():
    """The smallest nonzero number is 4 and moves by 2. So the last step, 2.5e-6, gives h = 5e-6."""
    function = Recorded(lambda x: np.abs(x[:1]))
    loss = loss_of(function, [0.0, 4.0])
    function.points.clear()
    direction = {0: np.array([0.5, 2.0])}
    assert loss.has_kink(direction)
    moved = [float(x[0]) for [x] in function.points]
    assert moved == pytest.approx([1e-5, -1e-5, 2.5e-6, -2.5e-6], rel=1e-9)
    for rounding, has_kink in ((0.99 * 5e-6 / 50, True), (1.01 * 5e-6 / 50, False)):
        loss.rounding = rounding  # the gap is 1, twice 0.5
        assert loss.has_kink(direction) == has_kink
