"""The pictures: what they show, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npattn import plot, sinusoidal_positions

matplotlib = pytest.importorskip("matplotlib")


def test_an_attention_map_shows_the_weights() -> None:
    A = np.random.default_rng(0).dirichlet(np.ones(5), 3)
    ax = plot.attention_map(A, ["x", "y", "z"], list("abcde"))
    (image,) = ax.get_images()
    np.testing.assert_array_equal(image.get_array(), A)
    assert image.get_clim() == (0, 1)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == list("abcde")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["x", "y", "z"]


def test_pictures_are_drawn_into_the_axes_that_are_given(tmp_path: Path) -> None:
    axes = plot.panels(3)
    assert len({id(ax.figure) for ax in axes}) == 1
    assert plot.attention_map(np.eye(3), ax=axes[0]) is axes[0]
    assert plot.positions(sinusoidal_positions(5, 4), ax=axes[1]) is axes[1]
    assert plot.learning_curve({"minutes": [1.0, 2.0], "WER": [0.5, 0.4]}, "WER", ax=axes[2]) is axes[2]
    plot.save(axes[0], tmp_path / "three.svg")
    assert "<svg" in (tmp_path / "three.svg").read_text()


def test_runs_can_be_compared_in_one_picture() -> None:
    ax = plot.learning_curve({"minutes": [1.0, 2.0], "WER": [0.5, 0.25]}, "WER", label="ours")
    plot.learning_curve({"minutes": [1.0], "WER": [0.7]}, "WER", label="theirs", ax=ax)
    assert [line.get_label() for line in ax.get_lines()] == ["ours", "theirs"]
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [50, 25])
    assert ax.get_ylabel() == "WER on validation items, %" and ax.get_legend() is not None


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"A: expected \(N_Q, N_X\), got \(2, 3, 4\)"):
        plot.attention_map(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="inputs: expected 3 labels"):
        plot.attention_map(np.zeros((2, 3)), inputs=["a", "b"])
    with pytest.raises(ValueError, match="queries: expected 2 labels"):
        plot.attention_map(np.zeros((2, 3)), ["a"])
    with pytest.raises(ValueError, match="P"):
        plot.positions(np.zeros(3))
    with pytest.raises(ValueError, match="expected PER among its columns, got minutes, WER"):
        plot.learning_curve({"minutes": [1.0], "WER": [0.5]}, "PER")
    with pytest.raises(ValueError, match="count"):
        plot.panels(0)


def test_pyplot_stays_away() -> None:
    script = "import sys, numpy, npattn.plot; npattn.plot.attention_map(numpy.eye(2)); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "matplotlib.figure" in loaded and "matplotlib.pyplot" not in loaded
