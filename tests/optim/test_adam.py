"""Adam against its algorithm and PyTorch's numbers, on every memory layout."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import Adam, Parameters
from npattn._internal.checks import Array
from npattn.optim.buffers import PIECE
from support.named_arrays import draw, flat, same

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "optim.npz")
DTYPES = st.sampled_from([np.float32, np.float64])


def textbook(
    p: Array, gradients: list[Array], lr: float, betas: tuple[float, float], eps: float, decay: float
) -> Array:
    """Algorithm 1 as in the paper, with decoupled weight decay."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p = p - lr * decay * p - lr * m_hat / (np.sqrt(v_hat) + eps)
    return p


@pytest.mark.parametrize("case", ["adam", "adamw", "adamw_matrices"])
@pytest.mark.parametrize("flatten", [False, True])
def test_three_steps_like_pytorch(case: str, flatten: bool) -> None:
    names = ("W", "b", "W_E")
    params: Any = {name: GOLDEN[f"start.{name}"].copy() for name in names}
    params = flat(params) if flatten else params
    options: dict[str, Any] = {"lr": 0.01, "eps": 1e-4, "weight_decay": 0.1 * (case != "adam")}
    if case == "adamw":
        options["decay"] = lambda name, parameter: True
    adam = Adam(params, **options)
    for step in (1, 2, 3):
        grads = {name: GOLDEN[f"gradient.{step}.{name}"] for name in names}
        adam.step(flat(grads) if flatten else grads)
        for name in names:
            np.testing.assert_allclose(params[name], GOLDEN[f"{case}.{step}.{name}"], rtol=1e-13, atol=1e-15)


@given(st.integers(0, 2**32), st.integers(1, 4), st.floats(-6, 6), DTYPES, st.sampled_from([0.0, 0.3]))
def test_follows_the_algorithm(seed: int, steps: int, scale: float, dtype: Any, decay: float) -> None:
    rng = np.random.default_rng(seed)
    params = draw(rng, dtype)
    gradients = [draw(rng, dtype, 10**scale) for _ in range(steps)]
    expected = {
        name: textbook(p.astype(np.float64), [g[name].astype(np.float64) for g in gradients],
                       0.01, (0.8, 0.95), 1e-3, decay * (p.ndim >= 2))
        for name, p in params.items()
    }  # fmt: skip
    before = [{name: g.copy() for name, g in grads.items()} for grads in gradients]
    adam = Adam(params, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=decay)
    for grads in gradients:
        adam.step(grads)
    tolerance = 1e-5 if dtype is np.float32 else 1e-13
    for name, p in params.items():
        assert p.dtype == dtype
        np.testing.assert_allclose(p, expected[name], rtol=tolerance, atol=tolerance)
        assert all(np.array_equal(a[name], b[name]) for a, b in zip(gradients, before, strict=True))


@given(st.integers(0, 2**32), DTYPES)
def test_flat_and_named_parameters_give_the_same_bits(seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    named = draw(rng, dtype)
    buffers = [flat(named) for _ in range(3)]
    optimisers = [Adam(params, weight_decay=0.1) for params in (named, *buffers)]
    for _ in range(3):
        grads = draw(rng, dtype)
        in_another_order = flat(dict(reversed(grads.items())))
        for adam, g in zip(optimisers, (in_another_order, flat(grads), in_another_order, grads), strict=True):
            adam.step(g)
    for name, p in named.items():
        assert all(np.array_equal(p, buffer[name]) for buffer in buffers)


def test_matrices_side_by_side_get_their_own_gradients() -> None:
    """Parameters and gradients, each with matrices in one block or one after another."""
    rng = np.random.default_rng(4)
    shapes = {"W_Q": (3, 2), "W_K": (3, 2), "b": (2,)}
    start, gradient = ({name: rng.normal(size=shape) for name, shape in shapes.items()} for _ in range(2))
    layouts: list[dict[str, tuple[str, ...]]] = [{}, {"W": ("W_Q", "W_K")}]
    expected = {name: p.copy() for name, p in start.items()}
    Adam(expected).step(gradient)
    for side_by_side, other in itertools.product(layouts, layouts):
        params = Parameters(shapes, np.float64, side_by_side)
        grads = Parameters(shapes, np.float64, other)
        for name in shapes:
            params[name], grads[name] = start[name], gradient[name]
        Adam(params).step(grads)
        assert same(params, expected)


@pytest.mark.parametrize("shape", [(3, 4), (PIECE // 64 + 1, 129)])
def test_updates_any_memory_layout_in_place(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    rows, columns = shape
    start, gradient = rng.normal(size=shape), rng.normal(size=shape)
    holes = np.full((2 * rows, 3 * columns), 7.0)
    layouts = {
        "C": np.empty(shape),
        "F": np.empty(shape, order="F"),
        "every other": holes[::2, ::3],
        "backwards": np.empty(shape)[::-1, ::-1],
    }
    addresses = {name: p.__array_interface__["data"] for name, p in layouts.items()}
    for p in layouts.values():
        p[...] = start
    adam = Adam(layouts)
    for _ in range(2):
        adam.step({"C": np.asfortranarray(gradient), "F": gradient, "every other": gradient,
                   "backwards": np.asfortranarray(gradient)[:, :]})  # fmt: skip
    expected = textbook(start, [gradient] * 2, 1e-3, (0.9, 0.98), 1e-9, 0)
    for name, p in layouts.items():
        np.testing.assert_allclose(p, expected, rtol=1e-13, err_msg=name)
        assert p.__array_interface__["data"] == addresses[name]
    holes[::2, ::3] = 7.0
    assert (holes == 7.0).all(), "wrote between the elements of a view"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_epsilon_stands_outside_the_root_and_t_starts_at_1(dtype: Any) -> None:
    params = {"w": np.zeros(1, dtype)}
    Adam(params, lr=1e-3, eps=1e-8).step({"w": np.array([1e-10], dtype)})
    np.testing.assert_allclose(params["w"], -1e-3 * 1e-10 / (1e-10 + 1e-8), rtol=1e-6)  # −9.90e-6


def test_the_first_step_has_the_length_of_the_rate_for_any_gradient() -> None:
    params = {"w": np.zeros(4)}
    Adam(params, lr=0.5).step({"w": np.array([1e150, -3.0, 1e-3, 0.0])})
    np.testing.assert_allclose(params["w"], [-0.5, 0.5, -0.5, 0.0], rtol=1e-5)


def test_decays_matrices_only_and_independently_of_the_gradient() -> None:
    params = {"W": np.full((2, 2), 4.0), "b": np.full(2, 4.0), "gamma": np.full(2, 4.0)}
    adam = Adam(params, lr=0.5, weight_decay=0.1)
    adam.step({name: np.zeros_like(p) for name, p in params.items()})
    assert (params["W"] == 4 * (1 - 0.5 * 0.1)).all() and (params["b"] == 4).all() and (params["gamma"] == 4).all()


def test_a_function_chooses_by_name_what_decays() -> None:
    params = {"W": np.full((2, 2), 4.0), "b": np.full(2, 4.0)}
    adam = Adam(params, lr=0.5, weight_decay=0.1, decay=lambda name, parameter: name == "b")
    adam.step({name: np.zeros_like(p) for name, p in params.items()})
    assert (params["W"] == 4).all() and (params["b"] == 4 * (1 - 0.5 * 0.1)).all()


def test_a_read_only_gradient() -> None:
    """For example one number as a matrix, the gradient of a sum."""
    params, same_for_all = {"W": np.zeros((2, 3))}, {"W": np.full((2, 3), -2.0)}
    Adam(params).step({"W": np.broadcast_to(np.array(5.0), (2, 3))})
    Adam(same_for_all).step({"W": np.full((2, 3), 5.0)})
    np.testing.assert_allclose(params["W"], same_for_all["W"] + 2, rtol=1e-12)


def test_a_rate_for_one_step() -> None:
    params = {"w": np.zeros(1)}
    adam = Adam(params, lr=0.5)
    adam.step({"w": np.ones(1)}, lr=0.0)
    assert params["w"] == 0 and adam.t == 1
    adam.step({"w": np.ones(1)}, lr=np.float64(0.25))
    np.testing.assert_allclose(params["w"], -0.25)


def test_rates_of_numpy_and_of_python_give_the_same_bits() -> None:
    grads = {"w": np.random.default_rng(0).normal(size=1000).astype(np.float32)}
    results = []
    for kind in (float, np.float64):
        params = {"w": np.zeros(1000, np.float32)}
        Adam(params, weight_decay=kind(0.1), betas=(kind(0.9), kind(0.98))).step(grads, lr=kind(0.1))
        results.append(params["w"])
    assert np.array_equal(*results)


@pytest.mark.parametrize("flatten", [False, True])
def test_continues_from_its_state_with_the_same_bits(flatten: bool) -> None:
    rng = np.random.default_rng(3)
    whole: Any = draw(rng)
    interrupted: Any = {name: p.copy() for name, p in whole.items()}
    if flatten:
        whole, interrupted = flat(whole), flat(interrupted)
    gradients = [draw(rng) for _ in range(4)]
    adam, first, second = Adam(whole), Adam(interrupted), Adam(interrupted)
    for grads in gradients:
        adam.step(grads)
    for grads in gradients[:2]:
        first.step(grads)
    state = first.state_dict()
    second.load_state_dict(state)
    for array in state.values():
        array[...] = 99  # saving and loading both copy
    for grads in gradients[2:]:
        second.step(grads)
    assert second.t == 4
    assert same(whole, interrupted)


def test_a_state_from_before_the_first_step() -> None:
    """m and v of 0 and t = 0 are allowed, as after a gradient of 0."""
    fresh, used = Adam({"w": np.ones(2)}), Adam({"w": np.ones(2)})
    used.step({"w": np.ones(2)})
    used.load_state_dict(fresh.state_dict())
    assert used.t == 0 and same(used.state_dict(), fresh.state_dict())


def test_a_state_is_a_copy() -> None:
    adam = Adam({"w": np.ones(2)})
    adam.step({"w": np.ones(2)})
    state = adam.state_dict()
    before = {name: array.copy() for name, array in state.items()}
    adam.step({"w": np.ones(2)})
    assert same(state, before) and not same(state, adam.state_dict())


def test_needs_no_large_temporaries() -> None:
    params = Parameters({"W": (1000, 2000)})
    grads = params.like()
    grads.flat[:] = 1
    adam = Adam(params, weight_decay=0.1)
    tracemalloc.start()
    adam.step(grads)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * PIECE * params.flat.itemsize < params.flat.nbytes / 16


def test_gives_no_warning_when_small_numbers_become_0() -> None:
    params, fading = {"w": np.ones(3, np.float32)}, np.array([1e-30, 1e-44, 0], np.float32)
    small = {"W": np.full((2, 2), 1e-44, np.float32)}
    adam = Adam(params)
    with np.errstate(all="raise"):
        adam.step({"w": fading})
        adam.step({"w": np.zeros(3, np.float32)})
        Adam(small, lr=0.5, weight_decay=1.0).step({"W": np.zeros((2, 2), np.float32)})
    assert np.isfinite(params["w"]).all()
    assert (small["W"] < 1e-44).all()


@pytest.mark.parametrize(("eps", "kept"), [(1e-8, False), (1e-15, True)])
def test_subnormal_moments_become_zero_only_beside_a_larger_epsilon(eps: float, kept: bool) -> None:
    params = {"W": np.ones(3, np.float32)}
    adam = Adam(params, lr=0.1, eps=eps)
    adam.step({"W": np.full(3, 1e-38, np.float32)})           # m is 1e-39, a subnormal number
    adam.step({"W": np.zeros(3, np.float32)})
    assert adam.state_dict()["m.W"].any() == kept
