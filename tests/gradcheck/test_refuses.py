"""Wrong arguments, options and forwards raise an error with one clear sentence."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck import check_gradients
from support import gradcheck_pairs as pairs


@pytest.fixture
def X():
    return np.random.default_rng(11).standard_normal((3, 4))


def refusal(*args, **options):
    """Return the class and the text of the error that a call raises."""
    with pytest.raises((TypeError, ValueError)) as error:
        check_gradients(*args, **options)
    return f"{type(error.value).__name__}: {error.value}"


def test_wrong_arguments(X):
    softmax = pairs.softmax, pairs.softmax_backward
    assert refusal(*softmax, X) == "TypeError: args: expected a tuple of arguments, as in (x,), got ndarray"
    assert refusal(*softmax, (X + 0j,)) == "TypeError: E: expected real numbers, got complex128"
    assert refusal(*softmax, (X[0, 0] + 0j,)) == "TypeError: E: expected real numbers, got complex128"
    nameless = lambda *, scale: None  # noqa: E731
    assert refusal(nameless, None.__init__, (X + 0j,)) == "TypeError: args[0]: expected real numbers, got complex128"
    assert refusal(max, None.__init__, (X, X + 0j)) == "TypeError: args[1]: expected real numbers, got complex128"
    nested = {"W": [X.astype(np.complex64)]}
    assert refusal(lambda p: None, None.__init__, (nested,)) == (
        "TypeError: p['W'][0]: expected real numbers, got complex64"
    )
    masked = {"W": [X, np.ma.array(X)]}
    assert refusal(lambda p: None, None.__init__, (masked,)) == (
        "TypeError: p['W'][1]: expected a NumPy array, got MaskedArray"
    )
    none = "ValueError: args: expected at least one floating array to differentiate, got none"
    assert refusal(*softmax, (np.arange(3),)) == none


def test_wrong_options(X):
    softmax = pairs.softmax, pairs.softmax_backward
    assert refusal(3, pairs.softmax_backward, (X,)) == "TypeError: forward: expected a function, got int"
    assert refusal(pairs.softmax, "?", (X,)) == "TypeError: backward: expected a function, got str"
    names = "TypeError: kwargs: expected a mapping of names to arguments, got"
    assert refusal(*softmax, (X,), [("mask", None)]) == f"{names} [('mask', None)]"
    assert refusal(*softmax, (X,), {3: None}) == f"{names} {{3: None}}"
    methods = "auto, complex-step, central-difference"
    assert refusal(*softmax, (X,), method="exact") == f"ValueError: method: expected one of {methods}, got 'exact'"
    assert refusal(*softmax, (X,), rtol=0) == "ValueError: rtol: expected 0 < rtol < 1, got 0"
    assert refusal(*softmax, (X,), rng="?").startswith("TypeError: rng: expected ")
    for rtol in (1.0, np.inf):  # a gradient of zeros has the error 1
        assert refusal(*softmax, (X,), rtol=rtol).startswith("ValueError: rtol: expected 0 < rtol < 1, got")
    assert check_gradients(*softmax, [X], rtol=0.5).rtol == 0.5


def test_wrong_forwards(X):
    def check(y):
        return check_gradients(lambda X: y, pairs.softmax_backward, (X,))

    with pytest.raises(TypeError, match=r"^forward: expected to return a tuple \(y, cache\), got ndarray$"):
        check(X)
    with pytest.raises(TypeError, match=r"^forward: expected to return a tuple \(y, cache\), got 3 things$"):
        check((X, None, None))
    with pytest.raises(TypeError, match=r"^forward: expected to return a tuple \(y, cache\), got list$"):
        check([X, None])
    with pytest.raises(TypeError, match=r"^forward: expected a real output for real arguments, got a complex one$"):
        check((X + 0j, None))
    for nothing, kind in ((None, "NoneType"), (np.arange(3), "ndarray")):
        with pytest.raises(TypeError) as error:
            check((nothing, None))
        assert str(error.value) == f"forward: expected floating numbers in the output, got {kind} without any"
    with pytest.raises(ValueError, match=r"^forward: expected a finite output, got nan or inf"):
        check((X / X[0, 0] * np.inf, None))
