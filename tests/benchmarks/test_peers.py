"""The checks that README's comparison makes on other packages, made on npattn."""

from __future__ import annotations

import numpy as np

import peers


def test_the_results_of_npattn() -> None:
    results = dict(peers.npattn_results())
    assert all(results[name].startswith("right, largest error") for name in ("attention", "multi-head"))
    assert results["a query without keys"] == "[0. 0. 0.]"


def test_a_wrong_gradient_and_an_error_are_reported() -> None:
    def forward(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return X * X, X

    assert peers.check(forward, lambda dY, X: 2 * dY * X, peers.X).startswith("right")
    assert "not right for X" in " ".join(peers.check(forward, lambda dY, X: dY * X, peers.X).split())
    assert peers.check(forward, lambda dY, X: dY @ X, peers.X).startswith("ValueError: ")


def test_sizes_leave_out_compiled_files() -> None:
    assert 3 < peers.size_of("npattn") < 5                    # the shipped model has 2.8 MB
