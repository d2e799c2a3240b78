"""More than a thousand right pairs pass, and an error in any entry is found."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npattn.gradcheck import check_gradients
from support.gradcheck_pairs import KINDS, failing_report, random_pair


def test_no_false_alarm_in_a_thousand_right_pairs():
    """Most of them are single layers, because these are quick to check."""
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        kind = KINDS[seed % 6] if seed % 20 else KINDS[6 + seed // 20 % 2]
        report = check_gradients(*random_pair(kind, rng, 10.0 ** rng.integers(-2, 3)), rng=seed)
        assert report.method == "complex-step", f"{seed}: {report}"
        assert all(a.error <= 1e-12 or a.noise for a in report.arguments), f"{seed}: {report}"


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]))
def test_no_false_alarm_at_any_magnitude(kind, seed, scale):
    assert check_gradients(*random_pair(kind, np.random.default_rng(seed), scale), rng=seed).ok


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 10.0]))
def test_central_differences_raise_no_false_alarm(kind, seed, scale):
    pair = random_pair(kind, np.random.default_rng(seed), scale)
    assert check_gradients(*pair, method="central-difference", rng=seed).ok


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.floats(-0.1, 0.1).filter(lambda x: abs(x) > 1e-9))
def test_an_error_in_any_entry_is_found(kind, seed, size):
    """Change one entry of one gradient by a part of the largest entry."""
    rng = np.random.default_rng(seed)
    forward, backward, args = random_pair(kind, rng)
    place = rng.random(3)

    def changed(dy, cache):
        gradients = backward(dy, cache)
        first = gradients[0] if isinstance(gradients, tuple) else gradients
        largest = np.max(abs(first))
        first[tuple(int(u * n) for u, n in zip(place, first.shape, strict=False))] += size * largest
        return gradients

    failing_report(forward, changed, args, rng=seed)
