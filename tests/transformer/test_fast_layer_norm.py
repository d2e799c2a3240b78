"""The layer norm of the fast path: the bits of the layer, also beside rows that it leaves to the layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn import TransformerConfig, check_gradients
from npattn._internal.checks import Array
from npattn.layers import layer_norm, layer_norm_backward
from npattn.transformer.fast.layer_norm import normalise, normalise_backward

CONFIG = TransformerConfig(9, 7, d_model=12, n_heads=2, d_ff=8, norm_eps=1e-3)


def draw(dtype: Any = np.float64, kind: str = "near") -> tuple[Array, dict[str, Array]]:
    """Return six rows and γ and β; in each batch but the near one, one row is special."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(6, 12)) + 0.5
    if kind in ("far", "far below"):
        X[2] += -9 if kind == "far below" else 9
    elif kind == "rather far":                                # 2.1 standard deviations; the limit is 2
        X[2] += 2.1 * X[2].std() - X[2].mean()
    elif kind == "constant":
        X[2] = 7
    elif kind == "huge":
        X[2] *= 0.3 * np.finfo(dtype).max
    return X.astype(dtype), {name: rng.normal(size=12).astype(dtype) for name in ("gamma", "beta")}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["near", "far", "far below", "rather far", "constant", "huge"])
@pytest.mark.parametrize("biased", [True, False])
def test_equals_the_layer(dtype: Any, kind: str, biased: bool) -> None:
    X, p = draw(dtype, kind)
    given, p = X.copy(), p if biased else {"gamma": p["gamma"]}
    dY = np.random.default_rng(4).normal(size=X.shape).astype(dtype)
    with np.errstate(all="raise", under="ignore"):            # as everywhere inside the model
        Y, cache = normalise(X, p, CONFIG)
        expected, c = layer_norm(X, p["gamma"], p.get("beta"), CONFIG.norm_eps)
        dX, grads = normalise_backward(dY, cache)
        dX_expected, *d = layer_norm_backward(dY, c)
    assert Y.dtype == dX.dtype == dtype and np.array_equal(X, given)
    np.testing.assert_array_equal(Y, expected)
    for got, wanted in zip(cache, c, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert (grads["beta"] is None) == (d[1] is None) == (not biased)
    pairs = [(dX, dX_expected), (grads["gamma"], d[0])] + [(grads["beta"], d[1])] * biased
    for got, wanted in pairs:
        np.testing.assert_allclose(got, wanted, rtol=0, atol=20 * np.finfo(dtype).eps * abs(wanted).max())


def test_rows_keep_their_bits_beside_rows_far_from_0() -> None:
    near, p = draw()
    Y = normalise(near, p, CONFIG)[0]
    for kind in ("far", "constant"):
        others = np.arange(6) != 2
        np.testing.assert_array_equal(normalise(draw(kind=kind)[0], p, CONFIG)[0][others], Y[others])


def test_what_is_not_finite_spoils_its_row_alone() -> None:
    X, p = draw()
    X[1, 3], X[4, 5] = np.nan, np.inf
    with np.errstate(all="raise", under="ignore"):            # the layer does not raise either
        Y = normalise(X, p, CONFIG)[0]
    assert np.isnan(Y).all(1).tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize(("method", "bound"), [("complex-step", 1e-12), ("central-difference", 1e-7)])
@pytest.mark.parametrize("kind", ["near", "far"])
def test_gradients(method: Any, bound: float, kind: str) -> None:
    X, p = draw(kind=kind)
    check_gradients(normalise, normalise_backward, (X, p), {"config": CONFIG}, method=method, rtol=bound)


def test_without_a_norm_the_gradient_passes() -> None:
    dY = np.ones((2, 3))
    dX, grads = normalise_backward(dY, None)
    assert dX is dY and grads == {}


def test_no_rows() -> None:
    X, p = draw()
    Y, cache = normalise(X[:0], p, CONFIG)
    assert Y.shape == (0, 12)
    dX, grads = normalise_backward(Y, cache)
    assert dX.shape == (0, 12) and not grads["gamma"].any() and not grads["beta"].any()
