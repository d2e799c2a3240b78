"""Checks in several threads at once, and caches that are chains of many steps."""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from npattn.gradcheck import GradientError, check_gradients
from npattn.gradcheck.memory import fingerprint, walk
from npattn.gradcheck.quiet import quiet
from support import gradcheck_pairs as pairs


def test_threads_leave_the_warning_filters_as_they_were():
    before = list(warnings.filters)

    def slow(X):
        time.sleep(1e-4)
        return pairs.softmax(X)

    def check(seed):
        return check_gradients(slow, pairs.softmax_backward, (np.random.default_rng(seed).standard_normal((2, 3)),)).ok

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(check, range(12)))
    assert warnings.filters == before


def test_the_last_thread_restores_the_filters():
    """Two checks that overlap without nesting: the first to start is the first to end."""
    before, first, second = list(warnings.filters), quiet(), quiet()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(np.exceptions.ComplexWarning):
        np.array([1j]).astype(float)
    second.__exit__(None, None, None)
    assert warnings.filters == before


class Step:
    def __init__(self, X, before):
        self.X, self.before = X, before


def chain(X, length):
    step = None
    for _ in range(length):
        step = Step(X.copy(), step)
    return step


def test_a_cache_of_a_thousand_linked_steps():
    X = np.random.default_rng(3).standard_normal(3)
    forward = lambda X: (X * X, chain(X, 1000))  # noqa: E731
    assert check_gradients(forward, lambda dY, last: 2 * last.X * dY, (X,)).ok

    def changes_the_first_step(dY, last):
        step = last
        while step.before is not None:
            step = step.before
        step.X = step.X + 1
        return 2 * last.X * dY

    with pytest.raises(GradientError) as error:
        check_gradients(forward, changes_the_first_step, (X,))
    [problem] = error.value.report.problems
    assert problem.startswith("backward: changed cache.before.before") and problem.endswith(".X")


def test_names_in_a_chain_are_unique_and_short():
    names = [name for name, _ in walk(chain(np.ones(2), 5000), "cache")]
    assert len(set(names)) == len(names) == 5001 and max(map(len, names)) < 120
    assert names[:2] == ["cache.X", "cache.before.X"]


def test_a_container_is_entered_once():
    """A chain of pairs that holds each pair twice has 2ⁿ paths and n containers."""
    pair = (np.ones(2), np.ones(2))
    for _ in range(60):
        pair = (pair, pair)
    assert len(fingerprint({"cache": pair})) == 62
