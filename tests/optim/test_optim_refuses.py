"""Adam names what it refuses, before anything is changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npattn import Adam, Parameters, clip_gradients
from npattn._internal.checks import Array
from support.named_arrays import draw


def refused(error: type[Exception], message: str, grads: Any) -> None:
    rng = np.random.default_rng(1)
    params = draw(rng)
    adam = Adam(params)
    adam.step(draw(rng))
    before = {name: p.copy() for name, p in params.items()} | adam.state_dict()
    with pytest.raises(error, match=message):
        adam.step(grads)
    after = params | adam.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_one_message_lists_all_names_that_do_not_fit() -> None:
    grads = draw(np.random.default_rng(0))
    del grads["b"]
    grads |= {"c": np.ones(4), "W": grads["W"].T, "W_E": grads["W_E"].astype(np.float32)}
    refused(
        ValueError,
        r"^gradients: missing 'b'; unexpected 'c'; 'W': expected float64 \(3, 4\), got float64 \(4, 3\); "
        r"'W_E': expected float64 \(5, 2\), got float32 \(5, 2\)$",
        grads,
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_gradients_that_are_not_finite(value: float) -> None:
    grads = draw(np.random.default_rng(0))
    grads["W_E"][3, 1] = value
    refused(ValueError, rf"'W_E'.*1 of 10 are not, the first {value} at \(3, 1\)", grads)


def test_gradients_whose_square_overflows() -> None:
    grads = draw(np.random.default_rng(0))
    grads["b"][2] = -1e200
    refused(ValueError, r"'b'.*1e\+200 overflows float64.*clip", grads)


def test_accepts_gradients_whose_sum_of_squares_overflows() -> None:
    params = {"w": np.zeros(100, np.float32)}
    Adam(params, lr=1.0).step({"w": np.full(100, 1.8e19, np.float32)})
    np.testing.assert_allclose(params["w"], -1, rtol=1e-6)


def test_accepts_the_largest_gradient_with_a_finite_square() -> None:
    root = np.sqrt(np.finfo(np.float64).max)
    params = {"w": np.zeros(2)}
    Adam(params, lr=1.0).step({"w": np.full(2, root)})
    np.testing.assert_allclose(params["w"], -1, rtol=1e-6)
    refused(ValueError, "overflows", draw(np.random.default_rng(0)) | {"b": np.full(4, np.nextafter(root, np.inf))})


@pytest.mark.parametrize("grads", [{"W": [1.0]}, [np.ones(2)], np.ones(2), None])
def test_gradients_that_are_no_mapping_of_arrays(grads: Any) -> None:
    refused(TypeError, "gradients: ", grads)


@pytest.mark.parametrize("lr", [-1e-3, math.nan, math.inf])
def test_rates_out_of_range(lr: float) -> None:
    with pytest.raises(ValueError, match=r"^lr: expected 0 ≤ lr < "):
        Adam({"w": np.ones(1)}).step({"w": np.ones(1)}, lr=lr)


@pytest.mark.parametrize(
    ("name", "options"),
    [("lr", {"lr": -1}), (r"betas\[0\]", {"betas": (1.0, 0.9)}), (r"betas\[1\]", {"betas": (0.9, -0.1)}),
     ("eps", {"eps": 0.0}), ("weight_decay", {"weight_decay": math.nan})],
)  # fmt: skip
def test_hyperparameters_out_of_range(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        Adam({"w": np.ones(1)}, **options)


@pytest.mark.parametrize("dtype", [np.int64, np.complex128, np.float16, ">f4", np.longdouble])
def test_other_dtypes(dtype: Any) -> None:
    with pytest.raises(TypeError, match="params: 'w': expected float32 or float64"):
        Adam({"w": np.ones(2, dtype)})


def test_one_array_under_two_names() -> None:
    W = np.ones((2, 3))
    with pytest.raises(ValueError, match="'W' and 'W_tied' share memory"):
        Adam({"W": W, "b": np.ones(2), "W_tied": W.T})


def test_a_read_only_array() -> None:
    W = np.ones(2)
    W.flags.writeable = False
    with pytest.raises(ValueError, match="'W': expected a writeable array"):
        Adam({"W": W})


def test_parameters_replaced_by_other_arrays() -> None:
    params = {"W": np.ones(2)}
    adam = Adam(params)
    params["W"] = np.ones(3)
    with pytest.raises(ValueError, match=r"params: 'W': expected float64 \(2,\), got float64 \(3,\)"):
        adam.step({"W": np.ones(2)})


@pytest.mark.parametrize(
    ("change", "message"),
    [({"m.w": None}, "missing 'm.w'"), ({"m.x": np.ones(2)}, "unexpected 'm.x'"), ({"v.w": np.ones(3)}, "'v.w'"),
     ({"t": np.array(-1)}, "'t': expected 0"), ({"v.w": np.array([1.0, -1.0])}, "'w': expected finite"),
     ({"m.w": np.array([1.0, np.nan])}, "'w': expected finite"), ({"t": np.array(1.0)}, "'t'")],
)  # fmt: skip
def test_a_state_that_does_not_fit(change: dict[str, Any], message: str) -> None:
    adam = Adam({"w": np.ones(2)})
    adam.step({"w": np.ones(2)})
    before = adam.state_dict()
    state = {name: a for name, a in (adam.state_dict() | change).items() if a is not None}
    with pytest.raises(ValueError, match=f"optimiser state: .*{message}"):
        adam.load_state_dict(state)
    assert all(np.array_equal(before[name], a) for name, a in adam.state_dict().items())


OVERLAPPING: list[Callable[[Array], dict[str, Array]]] = [
    lambda a: {"U": a[:3], "V": a[2:]},                       # with different addresses
    lambda a: {"V": a[2:], "b": np.ones(2), "U": a[:3]},
    lambda a: {"V": a[:, :3], "W": np.ones(1), "U": a[:, 2:]},
    lambda a: {"U": a, "b": np.ones(3), "V": a[4:, 1:2]},
    lambda a: {"U": a[1:2, 0], "b": a[3, 1:2], "V": a[:, 0]},  # b ends between the ends of U and V
]


@pytest.mark.parametrize("take", OVERLAPPING)
def test_arrays_that_overlap(take: Callable[[Array], dict[str, Array]]) -> None:
    """A number under two names would be updated twice, and in-place clipping would scale it twice."""
    arrays = take(np.ones((5, 4)))
    with pytest.raises(ValueError, match=r"^params: '[UV]' and '[UV]' share memory: keep a tied array under one name$"):
        Adam(arrays)
    with pytest.raises(ValueError, match=r"^gradients: '[UV]' and '[UV]' share memory"):
        clip_gradients(arrays, 1.0, in_place=True)
    clip_gradients(arrays, 1.0)


def test_accepts_neighbours_and_interlaced_arrays() -> None:
    a = np.ones((5, 6))
    Adam({"U": a[:2], "V": a[2:], "empty": a[1:1]})
    Adam({"U": a[:, :2], "V": a[:, 2:4], "W": a[:, 4:]})
    Adam({"U": a[::2, ::2], "V": a[::2, 1::2], "W": a[1::2]})


def test_arrays_that_became_read_only() -> None:
    grads = {"v": np.ones(1), "w": np.ones(2)}
    params = {"v": np.ones(1), "w": np.ones(2)}
    adam = Adam(params)
    for arrays in (grads, params):
        arrays["w"].flags.writeable = False
    with pytest.raises(ValueError, match=r"^params: 'w': expected a writeable array, got a read-only one$"):
        adam.step(grads)
    assert adam.t == 0 and (params["v"] == 1).all()
    with pytest.raises(ValueError, match=r"^gradients: 'w': expected a writeable array, got a read-only one$"):
        clip_gradients(grads, 0.1, in_place=True)
    assert (grads["v"] == 1).all()
    clip_gradients(grads, 0.1)


def test_a_buffer_that_became_read_only() -> None:
    params = Parameters({"w": (2,)})
    adam = Adam(params)
    params.flat.flags.writeable = False
    with pytest.raises(ValueError, match=r"^params: 'flat': expected a writeable array, got a read-only one$"):
        adam.step(params.like())


@pytest.mark.parametrize(("answer", "shown"), [(None, "None"), (1, "1"), (np.ones(2), "an array")])
def test_decay_must_answer_true_or_false(answer: Any, shown: str) -> None:
    with pytest.raises(TypeError, match=f"^decay of 'w': expected True or False, got .*{shown}"):
        Adam({"w": np.ones((2, 2))}, weight_decay=0.1, decay=lambda name, parameter: answer)
    Adam({"w": np.ones((2, 2))}, decay=lambda name, parameter: parameter.any())   # np.bool


def test_parameters_are_not_searched_for_overlaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their blocks never share a number, and the search takes longer than a small step."""
    params = Parameters({"W": (2, 3), "b": (3,)})
    monkeypatch.setattr(np.lib.array_utils, "byte_bounds", None)
    Adam(params)
    with pytest.raises(TypeError, match="not callable"):
        Adam({"W": np.ones(2)})
