"""Learning rates: formulas, first and last steps, and steps that are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import noam_rate
from npattn.optim import cosine_rate, linear_rate


@given(st.integers(1, 10**6), st.integers(1, 4096), st.integers(1, 10**5))
def test_noam(step: int, d_model: int, warmup: int) -> None:
    rate = noam_rate(step, d_model, warmup)
    assert rate == pytest.approx(d_model**-0.5 * min(step**-0.5, step * warmup**-1.5), rel=1e-12)
    assert 0 < rate <= noam_rate(warmup, d_model, warmup)


def test_the_paper() -> None:
    assert noam_rate(4000, 512, 4000) == pytest.approx(6.99e-4, rel=1e-3)
    assert noam_rate(1, 512, 4000) == pytest.approx(1.75e-7, rel=1e-2)


@pytest.mark.parametrize("rate", [linear_rate, cosine_rate])
@given(total=st.integers(1, 500), data=st.data())
def test_up_to_the_peak_and_down_to_zero(rate: Any, total: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, total))
    rates = np.array([rate(step, total, 0.3, warmup) for step in range(1, total + 1)])
    np.testing.assert_allclose(rates[:warmup], 0.3 * np.arange(1, warmup + 1) / max(warmup, 1), rtol=1e-12)
    assert (np.diff(rates[max(warmup - 1, 0) :]) < 0).all() and rates.max() <= 0.3
    assert rates[-1] == (0.3 if warmup == total else 0)


@pytest.mark.parametrize("rate", [linear_rate, cosine_rate])
@pytest.mark.parametrize("arguments", [(0, 10, 1.0, 2), (11, 10, 1.0, 2), (1, 10, 1.0, 11), (1, 10, 1.0, -1)])
def test_refuse_steps_and_warmups_out_of_range(rate: Any, arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"^(step|warmup): expected [01] to total_steps=10, got"):
        rate(*arguments)


@pytest.mark.parametrize("arguments", [(0, 512, 4000), (1, 0, 4000), (1, 512, 0), (math.nan, 1, 1)])
def test_noam_refuses_numbers_below_1(arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"^(step|d_model|warmup): expected 1 ≤ .* < inf, got"):
        noam_rate(*arguments)
