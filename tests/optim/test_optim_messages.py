"""The exact error messages of Adam, clipping and the rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npattn import Adam, clip_gradients, noam_rate
from npattn._internal.checks import Array
from npattn.optim import cosine_rate, is_matrix, linear_rate


def adam(**options: Any) -> Adam:
    return Adam({"w": np.ones(2)}, **options)


def with_replaced_parameter() -> Adam:
    """Return an optimiser with one parameter replaced by another array."""
    params = {"w": np.ones(2)}
    optimiser = Adam(params)
    params["w"] = np.ones(3)
    return optimiser


def read_only() -> Array:
    array = np.ones(2)
    array.flags.writeable = False
    return array


def load(**changes: Any) -> None:
    """Load a state with changed entries; None removes an entry."""
    state = adam().state_dict() | {name.replace("_", "."): array for name, array in changes.items()}
    adam().load_state_dict({name: array for name, array in state.items() if array is not None})


W = np.ones((2, 3))

REFUSED: dict[str, Callable[[], Any]] = {
    "lr: expected 0 ≤ lr < 1.70141e+38, got -1": lambda: adam(lr=-1),
    "lr: expected 0 ≤ lr < 1.70141e+38, got inf": lambda: adam(lr=math.inf),
    "lr: expected 0 ≤ lr < 1.70141e+38, got -0.5": lambda: adam().step({"w": np.ones(2)}, lr=-0.5),
    "lr: expected 0 ≤ lr < 1.70141e+38, got nan": lambda: adam().step({"w": np.ones(2)}, lr=math.nan),
    "betas[0]: expected 0 ≤ betas[0] < 1, got 1.0": lambda: adam(betas=(1.0, 0.9)),
    "betas[1]: expected 0 ≤ betas[1] < 1, got -0.1": lambda: adam(betas=(0.9, -0.1)),
    "betas[1]: expected 0 ≤ betas[1] < 1, got 1": lambda: adam(betas=(0.9, 1)),
    "eps: expected 1.17549e-38 ≤ eps < 1.70141e+38, got 0.0": lambda: adam(eps=0.0),
    "eps: expected 1.17549e-38 ≤ eps < 1.70141e+38, got inf": lambda: adam(eps=math.inf),
    "weight_decay: expected 0 ≤ weight_decay < 1.70141e+38, got -0.1": lambda: adam(weight_decay=-0.1),
    "weight_decay: expected 0 ≤ weight_decay < 1.70141e+38, got inf": lambda: adam(weight_decay=math.inf),
    "params: expected a mapping of names to NumPy arrays, got list": lambda: Adam([W]),  # type: ignore[arg-type]
    "params: 'w': expected a NumPy array, got float": lambda: Adam({"w": 1.0}),  # type: ignore[dict-item]
    "params: 'w': expected float32 or float64, got int64": lambda: Adam({"w": np.ones(2, np.int64)}),
    "params: 'w': expected a writeable array, got a read-only one": lambda: Adam({"w": read_only()}),
    "params: 'W' and 'T' share memory: keep a tied array under one name": lambda: Adam({"W": W, "T": W.T}),
    "params: 'w': expected float64 (2,), got float64 (3,)": lambda: with_replaced_parameter().step({"w": np.ones(2)}),
    "gradients: missing 'w'; unexpected 'v'": lambda: adam().step({"v": np.ones(2)}),
    "gradients: expected a mapping of names to NumPy arrays, got NoneType":
        lambda: adam().step(None),  # type: ignore[arg-type]
    "gradient of 'w': expected finite numbers, 1 of 2 are not, the first nan at (1,)":
        lambda: adam().step({"w": np.array([1.0, math.nan])}),
    "gradient of 'w': its largest entry 1e+200 overflows float64 when Adam squares it: clip the gradients first":
        lambda: adam().step({"w": np.array([1.0, -1e200])}),
    "optimiser state: expected a mapping of names to NumPy arrays, got list":
        lambda: adam().load_state_dict([W]),  # type: ignore[arg-type]
    "optimiser state: missing 'm.w'": lambda: load(m_w=None),
    "optimiser state: 't': expected int64 (), got float64 ()": lambda: load(t=np.array(1.0)),
    "optimiser state: 'v.w': expected float64 (2,), got float64 (3,)": lambda: load(v_w=np.ones(3)),
    "optimiser state: 't': expected 0 or more, got -1": lambda: load(t=np.array(-1)),
    "optimiser state: 'w': expected finite m and v, and v of 0 or more": lambda: load(v_w=np.array([1.0, -1.0])),
    "max_norm: expected 0 < max_norm ≤ inf, got 0.0": lambda: clip_gradients({"w": W}, 0.0),
    "gradients: expected a mapping of names to NumPy arrays, got tuple":
        lambda: clip_gradients((W,), 1.0),  # type: ignore[type-var]
    "gradient of 'w': expected float32 or float64, got complex128": lambda: clip_gradients({"w": 1j * W}, 1.0),
    "gradient of 'w': expected finite numbers, 6 of 6 are not, the first inf at (0, 0)":
        lambda: clip_gradients({"w": W * math.inf}, 1.0),
    "step: expected 1 ≤ step < inf, got 0": lambda: noam_rate(0, 512, 4000),
    "d_model: expected 1 ≤ d_model < inf, got 0": lambda: noam_rate(1, 0, 4000),
    "warmup: expected 1 ≤ warmup < inf, got 0.5": lambda: noam_rate(1, 512, 0.5),  # type: ignore[arg-type]
    "step: expected 1 to total_steps=10, got 0": lambda: linear_rate(0, 10, 1.0, 2),
    "step: expected 1 to total_steps=10, got 11": lambda: cosine_rate(11, 10, 1.0, 2),
    "warmup: expected 0 to total_steps=10, got -1": lambda: linear_rate(1, 10, 1.0, -1),
    "warmup: expected -inf < warmup < inf, got nan": lambda: linear_rate(1, 10, 1.0, math.nan),  # type: ignore[arg-type]
    "step: expected -inf < step < inf, got inf": lambda: linear_rate(math.inf, 10, 1.0, 2),  # type: ignore[arg-type]
    "total_steps: expected a number, got '10'": lambda: cosine_rate(1, "10", 1.0, 2),  # type: ignore[arg-type]
    "peak: expected 0 ≤ peak < inf, got -1.0": lambda: linear_rate(1, 10, -1.0, 2),
    "peak: expected 0 ≤ peak < inf, got nan": lambda: cosine_rate(1, 10, math.nan, 2),
    "lr: expected a number, got 'a'": lambda: adam(lr="a"),
    "betas: expected two numbers, got (0.9,)": lambda: adam(betas=(0.9,)),
    "betas: expected two numbers, got 0.9": lambda: adam(betas=0.9),
    "betas[0]: expected a number, got '0'": lambda: adam(betas="09"),
    "betas[1]: expected a number, got None": lambda: adam(betas=(0.9, None)),
    "decay: expected a function of name and parameter, got 3": lambda: adam(decay=3),
    "pool: expected a concurrent.futures.Executor or None, got str":
        lambda: adam().step({"w": np.ones(2)}, pool="two"),  # type: ignore[arg-type]
    "parameter: expected a NumPy array, got list": lambda: is_matrix("w", [1.0]),  # type: ignore[arg-type]
    "in_place: expected True or False, got 1":
        lambda: clip_gradients({"w": W}, 1.0, in_place=1),  # type: ignore[arg-type]
    "params: 'w': expected a NumPy array, got MaskedArray": lambda: Adam({"w": np.ma.masked_array(np.ones(2))}),
    "warmup: expected 0 to total_steps=10, got 11": lambda: cosine_rate(1, 10, 1.0, 11),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_message(message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        REFUSED[message]()
    assert str(caught.value) == message
