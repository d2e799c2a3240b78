"""Cross-entropy: definition of smoothing, ignored positions, exact values of huge logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.layers import cross_entropy, cross_entropy_backward
from support.calls import Setting, examples, settings
from support.pairs import PAIRS

PAIR = PAIRS["npattn.layers.cross_entropy.cross_entropy"]


@given(setting=settings(dtype="float64"), smoothing=st.sampled_from([0.0, 0.1, 0.7]))
@examples(10)
def test_definition(setting: Setting, smoothing: float) -> None:
    """Label smoothing: ε/V on every class (torch): −Σ q log p with q = (1 − ε) onehot + ε/V, mean over positions."""
    logits, targets = PAIR.call(setting).args
    V = logits.shape[-1]
    losses, dlogits = [], np.zeros_like(logits)
    for at in np.ndindex(targets.shape):
        p = [math.exp(z) for z in logits[at]]
        p = [x / math.fsum(p) for x in p]
        q = [(1 - smoothing) * (v == targets[at]) + smoothing / V for v in range(V)]
        losses.append(-math.fsum(b * math.log(a) for a, b in zip(p, q, strict=True)))
        dlogits[at] = np.subtract(p, q) * 2.5 / targets.size
    loss, cache = cross_entropy(logits, targets, smoothing)
    assert loss.shape == () and float(loss) == pytest.approx(math.fsum(losses) / len(losses), rel=1e-13)
    np.testing.assert_allclose(cross_entropy_backward(2.5, cache), dlogits, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(cross_entropy_backward(np.array(2.5), cache), dlogits, rtol=1e-11, atol=1e-15)


def test_the_definitions_of_smoothing_differ() -> None:
    """Label smoothing: torch's ε/V, not fairseq's ε/(V−1) nor the Annotated Transformer's ε/(V−2)."""
    z, eps, V = np.log([[0.5, 0.25, 0.125, 0.125]]), 0.2, 4
    loss = float(cross_entropy(z, np.array([0]), eps)[0])
    nats = -z[0]
    assert loss == pytest.approx((1 - eps) * nats[0] + eps / V * nats.sum(), rel=1e-15)
    for others in (V - 1, V - 2):
        assert loss != pytest.approx((1 - eps) * nats[0] + eps / others * nats[1 : others + 1].sum(), rel=1e-3)


@given(setting=settings(dtype="float64"), pad=st.sampled_from([0, 1, -100]), smoothing=st.sampled_from([0.0, 0.1]))
@examples(10)
def test_pads_are_ignored(setting: Setting, pad: int, smoothing: float) -> None:
    """Pads in the mean of the loss: divide by real tokens; adding pads changes nothing, whatever their logits."""
    logits, targets = PAIR.call(setting).args
    targets = np.where(targets == pad, 2 if logits.shape[-1] > 2 else 1 - pad % 2, targets)
    padded_targets = np.concatenate([targets, np.full_like(targets, pad)], -1)
    padded_logits = np.concatenate([logits, np.full_like(logits, np.nan)], -2)
    loss, cache = cross_entropy(padded_logits, padded_targets, smoothing, ignore_id=pad)
    expected, cache_expected = cross_entropy(logits, targets, smoothing)
    assert float(loss) == pytest.approx(float(expected), rel=1e-14)
    dlogits = cross_entropy_backward(1.0, cache)
    N = targets.shape[-1]
    assert not dlogits[..., N:, :].any()
    np.testing.assert_allclose(dlogits[..., :N, :], cross_entropy_backward(1.0, cache_expected), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_no_real_token_at_all(dtype: str, smoothing: float) -> None:
    """Pads in the mean of the loss: no real token at all → loss 0, zero gradient; and so for no tokens."""
    with np.errstate(all="raise"):
        loss, cache = cross_entropy(np.ones((2, 3, 4), dtype), np.zeros((2, 3), int), smoothing, ignore_id=0)
        dlogits = cross_entropy_backward(1.0, cache)
        nothing, empty = cross_entropy(np.ones((0, 4), dtype), np.zeros(0, int), smoothing)
        assert cross_entropy_backward(1.0, empty).shape == (0, 4)
    assert loss == nothing == 0 and loss.dtype == nothing.dtype == dlogits.dtype == dtype
    assert dlogits.shape == (2, 3, 4) and not dlogits.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_scores(dtype: str) -> None:
    """Huge scores ±1e4 … 1e300: cross-entropy of such logits exact: loss 2e4, gradient [1, 0, −1]."""
    with np.errstate(all="raise"):
        loss, cache = cross_entropy(np.array([[1e4, 0.0, -1e4]], dtype), np.array([2]))
        dlogits = cross_entropy_backward(1.0, cache)
    assert float(loss) == 2e4
    assert dlogits.tolist() == [[1, 0, -1]]


@pytest.mark.parametrize("magnitude", [1e100, 1e300])
def test_the_largest_scores(magnitude: float) -> None:
    """Huge scores ±1e4 … 1e300."""
    loss, cache = cross_entropy(magnitude * np.array([[1.0, 0.0, -1.0]]), np.array([2]))
    assert float(loss) == 2 * magnitude
    assert cross_entropy_backward(1.0, cache).tolist() == [[1, 0, -1]]
    sure, cache = cross_entropy(magnitude * np.array([[1.0, 0.0, -1.0]]), np.array([0]))
    assert float(sure) == 0 and not cross_entropy_backward(1.0, cache).any()


def test_a_certain_answer_keeps_its_digits() -> None:
    """Smoothing computed from probabilities: 0·log 0; from logits, a weight of 0 and a tiny loss are both exact."""
    logits = np.array([[0.0, -1000.0, -1000.0]])
    assert float(cross_entropy(logits, np.array([0]), 0.3)[0]) == pytest.approx(0.2 * 1000, rel=1e-15)
    assert float(cross_entropy(np.array([[0.0, -30.0]]), np.array([0]))[0]) == pytest.approx(
        math.log1p(math.exp(-30)), abs=3e-16
    )


def test_a_class_that_is_ruled_out() -> None:
    """NaN or inf in an input: a logit of −∞ has probability 0, and the loss stays a number unless it is the target."""
    logits = np.array([[0.0, -np.inf, 0.0]])
    loss, cache = cross_entropy(logits, np.array([0]))
    assert float(loss) == pytest.approx(math.log(2), rel=1e-15)
    assert cross_entropy_backward(1.0, cache).tolist() == [[-0.5, 0, 0.5]]
    assert float(cross_entropy(logits, np.array([1]))[0]) == np.inf
    assert np.isnan(cross_entropy(np.array([[np.nan, 0.0]]), np.array([1]))[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_one_class_or_none(smoothing: float) -> None:
    """The only class is certain: loss 0, zero gradient. A vocabulary of none has no targets."""
    loss, cache = cross_entropy(np.array([[7.0], [-2.0]]), np.array([0, 0]), smoothing)
    np.testing.assert_allclose(cross_entropy_backward(1.0, cache), [[0], [0]], atol=1e-15)
    nothing, empty = cross_entropy(np.zeros((0, 0)), np.zeros(0, int), smoothing)
    assert loss == nothing == 0 and cross_entropy_backward(1.0, empty).shape == (0, 0)


@pytest.mark.parametrize(
    ("targets", "options", "error", "message"),
    [
        (np.array([0, 3]), {}, IndexError, "^targets: expected ids from 0 to 2, got 3$"),
        (np.array([0, -100]), {}, IndexError, "^targets: expected ids from 0 to 2, got -100$"),
        (np.array([5, -1]), {"ignore_id": 5}, IndexError, "^targets: expected ids from 0 to 2, got -1$"),
        (np.array([0.0, 1.0]), {}, TypeError, "^targets: expected an integer array, got float64$"),
        (np.array([True, False]), {}, TypeError, "^targets: expected an integer array, got bool$"),
        ([0, 1], {"ignore_id": 0}, TypeError, "^targets: expected an integer array, got list$"),
        (np.array([[0, 1]]), {}, ValueError, r"^targets: expected \(2,\) like logits, got \(1, 2\)$"),
        (np.array([0]), {}, ValueError, r"^targets: expected \(2,\) like logits, got \(1,\)$"),
        (np.array([0, 1]), {"smoothing": 1.0}, ValueError, "^smoothing: expected 0 ≤ smoothing < 1, got 1.0$"),
        (np.array([0, 1]), {"smoothing": -0.1}, ValueError, "^smoothing: expected 0 ≤ smoothing < 1, got -0.1$"),
    ],
)
def test_bad_input_is_named(targets, options, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        cross_entropy(np.zeros((2, 3)), targets, **options)


def test_targets_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"^targets: expected \(2, 5\) like logits, got \(5, 2\)$"):
        cross_entropy(np.zeros((2, 5, 3)), np.zeros((5, 2), int))


@pytest.mark.parametrize(
    ("dloss", "shown"),
    [(np.ones(1), "an array of float64 (1,)"), (np.ones((1, 1)), "an array of float64 (1, 1)"), (1j, "1j"),
     ("1", "'1'"), (True, "True"), (None, "None"), (np.array(True), "an array of bool ()"),
     (np.ma.masked_array(1.0), "an array of float64 ()")],
)  # fmt: skip
def test_a_cotangent_that_is_no_real_number(dloss: Any, shown: str) -> None:
    _, cache = cross_entropy(np.zeros((2, 3)), np.array([0, 1]))
    with pytest.raises(TypeError) as caught:
        cross_entropy_backward(dloss, cache)
    assert str(caught.value) == f"dloss: expected a number, got {shown}"


def test_a_cotangent_that_is_not_finite() -> None:
    _, cache = cross_entropy(np.zeros((2, 3)), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"^dloss: expected -inf ≤ dloss ≤ inf, got nan$"):
        cross_entropy_backward(np.nan, cache)
    assert np.isinf(cross_entropy_backward(np.inf, cache)).all()
    assert np.isinf(cross_entropy_backward(-np.inf, cache)).all()


@pytest.mark.parametrize("one", [1, 1.0, np.float32(1), np.array(1.0), np.array(1, np.uint8)])
def test_a_cotangent_of_any_real_kind(one: Any) -> None:
    _, cache = cross_entropy(np.zeros((1, 2)), np.array([0]))
    assert cross_entropy_backward(one, cache).tolist() == [[-0.5, 0.5]]
