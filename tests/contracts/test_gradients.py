"""Every backward of layers and attention equals two numeric derivatives, and every pair is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npattn
from npattn import GradientError, GradientReport, attention, check_gradients, layers
from npattn._internal.checks import Array
from support.calls import Setting, examples, settings
from support.pairs import PAIRS, Pair, discover

# A softmax over one key is constant, and so is a query that sees none: every gradient is zero, as it should be.
pytestmark = pytest.mark.filterwarnings("ignore::npattn.gradcheck.GradientWarning")
each_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


def check(pair: Pair, setting: Setting, method: str, rtol: float) -> GradientReport:
    """Check the gradients of one call. A wrong gradient raises."""
    call = pair.call(setting)
    report = check_gradients(
        call.forward, pair.backward, call.args, call.kwargs, method=method, rtol=rtol, rng=setting.seed % 997
    )
    assert report.method == method
    return report


@each_pair
@given(setting=settings())
@examples(6)
def test_complex_step(pair: Pair, setting: Setting) -> None:
    check(pair, setting, "complex-step", 1e-12)


@each_pair
@given(setting=settings())
@examples(2)
def test_central_differences(pair: Pair, setting: Setting) -> None:
    check(pair, setting, "central-difference", 1e-7)


@each_pair
@pytest.mark.parametrize("mask", ["none", "dead"])
def test_the_errors_in_numbers(pair: Pair, mask: str) -> None:
    """No gradient of these calls is ill-conditioned, so the errors are below 1e-12 without a margin for rounding."""
    report = check(pair, Setting(seed=3, mask=mask, optional=15), "complex-step", 1e-12)
    assert report.max_error <= 1e-12


@pytest.mark.parametrize("name", [name for name in PAIRS if PAIRS[name].attends])
@given(setting=settings(sizes=st.sampled_from([{"N_X": 1}, {"N_X": 1, "N_Q": 1}])))
@examples(3)
def test_one_key_only(name: str, setting: Setting) -> None:
    """A single key has the weight 1 for any score, so the gradient of the scores is zero."""
    check(PAIRS[name], setting, "complex-step", 1e-12)


def softmax_per_batch(dA: Array, A: Array) -> Array:
    return layers.softmax_backward(dA, A) / len(A)


def softmax_without_row_sum(dA: Array, A: Array) -> Array:
    return A * dA


def layer_norm_gamma_outside(dY: Array, cache: Any) -> tuple[Array, ...]:
    ones = cache._replace(gamma=np.ones_like(cache.gamma))
    _, dgamma, dbeta = layers.layer_norm_backward(dY, cache)
    return layers.layer_norm_backward(dY, ones)[0] * cache.gamma, dgamma, dbeta


def embedding_without_repeats(dY: Array, cache: Any) -> Array:
    dW_E = np.zeros(cache.shape)
    dW_E[cache.ids] += dY
    return dW_E


def linear_of_the_last_batch_member(dY: Array, cache: Any) -> tuple[Array, ...]:
    dX, _, db = layers.linear_backward(dY, cache)
    return dX, cache.X[-1].T @ dY[-1], db


def dropout_with_another_mask(dY: Array, cache: Any) -> Array:
    return layers.dropout_backward(dY, layers.dropout(dY, 0.4, np.random.default_rng(99))[1])


@pytest.mark.parametrize(
    "planted",
    [softmax_per_batch, softmax_without_row_sum, layer_norm_gamma_outside, embedding_without_repeats,
     linear_of_the_last_batch_member, dropout_with_another_mask],
)  # fmt: skip
@pytest.mark.parametrize(("method", "rtol"), [("complex-step", 1e-12), ("central-difference", 1e-7)])
def test_planted_bugs_are_caught(planted: Callable[..., Any], method: Any, rtol: float) -> None:
    """These tests can fail: they find, for instance, a softmax backward without the row sum."""
    name = next(name for name in PAIRS if planted.__name__.startswith(name.rpartition(".")[2]))
    call = PAIRS[name].call(Setting(optional=15))
    with pytest.raises(GradientError):
        check_gradients(call.forward, planted, call.args, call.kwargs, method=method, rtol=rtol)


def test_no_pair_without_a_check() -> None:
    """Every public forward/backward pair is in `pairs.PAIRS`. Those of models have tests of their own."""
    package = Path(npattn.__file__).parent
    models = discover(package / "transformer") | discover(package / "language_model")
    assert discover() - models == set(PAIRS)


def test_every_exported_backward_belongs_to_a_pair() -> None:
    backwards = {pair.backward for pair in PAIRS.values()}
    for namespace in (npattn, layers, attention.dot_product, attention.tiled):
        for name, backward in vars(namespace).items():
            if name.endswith("_backward"):
                assert backward in backwards
                assert callable(getattr(namespace, name.removesuffix("_backward")))
    for version in (*attention.VERSIONS, *attention.MODERN_VERSIONS):
        assert PAIRS[f"{version.module.__name__}.forward"].backward is version.module.backward
