"""Numbers of any size, as property-based tests find them, and the recipe for such a test."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npattn.gradcheck import GradientError, GradientWarning, check_gradients
from support import gradcheck_pairs as pairs
from support.planted_faults import LAYERS

FLOATS = st.floats(-1e3, 1e3)


def check_any(forward, backward, args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradientWarning)
        return check_gradients(forward, backward, args, **options)


@pytest.mark.parametrize("name", ["square", "softmax", "relu", "tanh", "logsumexp", "layer norm"])
@given(data=st.data())
def test_any_numbers(name, data):
    layer = LAYERS[name]
    if name == "layer norm":
        layer = layer._replace(forward=pairs.layer_norm, backward=pairs.layer_norm_backward)
    check_any(layer.forward, layer.backward, tuple(data.draw(arrays(float, s, elements=FLOATS)) for s in layer.shapes))


@pytest.mark.parametrize("method", ["auto", "central-difference"])
@pytest.mark.parametrize(
    "numbers",
    [
        (1.8e-295, 0.0, 2e-309),
        (5e-324, 1.0, -1e-300),
        (-1.06e-11, 5e-36, 7.1e2),
        (1e-310, 1e-320, 2e-308),
        (0.0, -0.0, 1e3),
    ],
)
def test_tiny_numbers(numbers, method):
    X = np.array([numbers, (-9.7e2, 1e-5, 846.0)])
    for name in ("tanh", "relu", "softmax", "logsumexp"):
        check_any(LAYERS[name].forward, LAYERS[name].backward, (X,), method=method)
        check_any(LAYERS[name].forward, LAYERS[name].backward, (X[:1],), method=method)
    check_any(pairs.linear, pairs.linear_backward, (X, X.T.copy(), X[:, 0].copy()), method=method)


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_the_hint_of_a_tiny_gradient_is_that_of_a_large_one(scale):
    """The gradient of a softmax mixes cotangents, however small it is."""

    def forward(X):
        A, cache = LAYERS["softmax"].forward(X)
        return scale * A, cache

    X = np.random.default_rng(3).standard_normal((3, 4))
    with pytest.raises(GradientError, match=r"✗ X: off by a factor of 3; 3 is the length of axis 0 of X\Z"):
        check_gradients(forward, lambda dA, cache: 3 * scale * LAYERS["softmax"].backward(dA, cache)[0], (X,))
