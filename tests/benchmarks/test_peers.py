"""The questions that README's comparison asks of other packages, asked of ours."""

from __future__ import annotations

import numpy as np

import peers


def test_our_own_answers() -> None:
    answers = dict(peers.of_npattn())
    assert all(answers[name].startswith("right, largest error") for name in ("attention", "multi-head"))
    assert answers["a query without keys"] == "[0. 0. 0.]"


def test_a_wrong_gradient_and_an_error_are_told() -> None:
    def forward(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return X * X, X

    assert peers.verdict(forward, lambda dY, X: 2 * dY * X, peers.X).startswith("right")
    assert "not right for X" in " ".join(peers.verdict(forward, lambda dY, X: dY * X, peers.X).split())
    assert peers.verdict(forward, lambda dY, X: dY @ X, peers.X).startswith("ValueError: ")


def test_sizes_leave_out_what_python_compiled() -> None:
    assert 3 < peers.size_of("npattn") < 5                    # the model that comes along has 2.8 MB
