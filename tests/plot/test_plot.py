"""The drawing functions: what they draw, in which colours, and which arguments they refuse."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

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


def test_numbers_and_masks_are_drawn_into_the_cells() -> None:
    A = np.array([[0.25, 0.75, 0.0], [0.5, 0.125, 0.375]])
    mask = np.array([[True, True, False], [True, True, True]])
    ax = plot.attention_map(A, mask=mask, numbers=True)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(n, i): f"{A[i, n]:.2f}" for i in range(2) for n in range(3)}
    (crosses,) = ax.collections
    assert crosses.get_offsets().tolist() == [[2, 0]]


def test_negative_and_positive_numbers_have_different_colours() -> None:
    Z = np.array([[-2.0, 0.0], [1.0, 0.5]])
    (image,) = plot.signed_map(Z).get_images()
    assert image.get_clim() == (-2, 2)
    assert plot.signed_map(Z, limit=3.0).get_images()[0].get_clim() == (-3, 3)
    assert plot.signed_map(np.zeros((2, 2))).get_images()[0].get_clim() == (-1, 1)
    page = matplotlib.colors.to_rgb(plot.palette_of(plot.signed_map(Z)).page)
    np.testing.assert_allclose(image.cmap(0.5)[:3], page, atol=0.02)


@pytest.mark.parametrize("theme", get_args(plot.Theme))
def test_a_colour_bar_has_the_scale_and_the_ink_of_its_maps(theme: plot.Theme) -> None:
    axes = plot.heads(np.full((2, 3, 4), 0.25), theme=theme)
    bar = plot.colour_bar(axes, "weights $A$")
    assert bar.get_ylim() == (0, 1) and bar.get_label() == "<colorbar>"
    ink = plot.palette_of(axes[0]).ink
    texts = [bar.yaxis.label, *bar.get_yticklabels()]
    assert {matplotlib.colors.to_hex(text.get_color()) for text in texts} == {ink}
    axes[0].figure.draw_without_rendering()
    assert bar.get_position().x0 > max(ax.get_position().x1 for ax in axes)
    assert plot.colour_bar(axes, "A", location="bottom").get_xlabel() == "A"
    with pytest.raises(ValueError, match=r"^axes: expected Axes of maps, got none$"):
        plot.colour_bar(plot.panels(1), "")


def test_every_head_has_a_map() -> None:
    A = np.random.default_rng(0).dirichlet(np.ones(5), (2, 3))
    axes = plot.heads(A, list("xyz"), list("abcde"))
    assert [ax.get_title() for ax in axes] == ["head 1", "head 2"]
    for weights, ax in zip(A, axes, strict=True):
        np.testing.assert_array_equal(ax.get_images()[0].get_array(), weights)
    with pytest.raises(ValueError, match="axes: expected 2, one for each head"):
        plot.heads(A, axes=plot.panels(3))


def test_functions_draw_into_the_given_axes(tmp_path: Path) -> None:
    axes = plot.panels(4, columns=2)
    assert len({id(ax.figure) for ax in axes}) == 1
    P = sinusoidal_positions(5, 4)
    assert plot.attention_map(np.eye(3), ax=axes[0]) is axes[0]
    assert plot.positions(P, ax=axes[1]) is axes[1]
    assert plot.learning_curve({"minutes": [1.0, 2.0], "WER": [0.5, 0.4]}, "WER", ax=axes[2]) is axes[2]
    assert plot.position_products(P, ax=axes[3]) is axes[3]
    plot.save(axes[0], tmp_path / "four.svg")
    assert "<svg" in (tmp_path / "four.svg").read_text()


def test_few_colours_make_a_small_file_of_the_same_picture(tmp_path: Path) -> None:
    ax = plot.positions(sinusoidal_positions(20, 16))
    images = []
    for name, colours in (("all.png", None), ("few.png", 64)):
        plot.save(ax, tmp_path / name, dpi=50, colours=colours)
        images.append(matplotlib.image.imread(tmp_path / name)[..., :3])
    assert (tmp_path / "few.png").stat().st_size < 0.7 * (tmp_path / "all.png").stat().st_size
    assert np.abs(images[0] - images[1]).mean() < 0.02


def test_runs_can_be_compared_in_one_picture() -> None:
    ax = plot.learning_curve({"minutes": [1.0, 2.0], "WER": [0.5, 0.25]}, "WER", label="ours")
    plot.learning_curve({"minutes": [1.0], "WER": [0.7]}, "WER", label="theirs", ax=ax)
    ours, theirs = ax.get_lines()
    assert [ours.get_label(), theirs.get_label()] == ["ours", "theirs"]
    assert ours.get_color() != theirs.get_color()
    np.testing.assert_allclose(ours.get_ydata(), [50, 25])
    assert ax.get_ylabel() == "WER on validation items, %" and ax.get_legend() is not None


def test_a_spread_is_a_median_and_the_middle_80_percent() -> None:
    samples = np.arange(101.0)[:, None] * [1.0, 2.0]
    ax = plot.spread(np.array([5, 6]), samples, label="s")
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [50, 100])
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(10) and heights.max() == pytest.approx(180)


def test_products_of_positions_are_drawn_against_their_distance() -> None:
    P = sinusoidal_positions(9, 6)
    ax = plot.position_products(P, (0, 4))
    for n, line in zip((0, 4), ax.get_lines(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(9) - n)
        np.testing.assert_allclose(line.get_ydata(), [P[n] @ P[m] for m in range(9)])


@pytest.mark.parametrize("theme", get_args(plot.Theme))
def test_text_is_readable_in_both_themes(theme: plot.Theme) -> None:
    (ax,) = plot.panels(1, theme=theme)
    palette = plot.palette_of(ax)
    assert contrast(palette.ink, palette.page) > 7           # WCAG's AAA
    assert all(contrast(colour, palette.page) > 2.2 for colour in palette.colours)
    assert min(contrast(one, other) for one, other in pairwise(palette.low_to_high)) > 1.1
    light = [luminance(colour) for colour in palette.low_to_high]
    assert light == sorted(light, reverse=theme == "light")   # without colour, too, a larger weight looks different
    plot.attention_map(np.eye(2), ["a", "b"], ["c", "d"], numbers=True, ax=ax)
    plot.title(ax, "title")
    texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
    assert {matplotlib.colors.to_hex(text.get_color()) for text in texts} == {palette.ink}


def test_pictures_take_page_and_ink_from_their_axes() -> None:
    from matplotlib.figure import Figure

    ax = Figure(facecolor="black").subplots()
    ax.set_facecolor("none")
    ax.xaxis.label.set_color("yellow")
    palette = plot.palette_of(ax)
    assert (palette.page, palette.ink) == ("#000000", "#ffff00")
    assert palette.colours == plot.palette_of(plot.panels(1, theme="dark")[0]).colours


def test_drawing_changes_no_global_setting() -> None:
    before = dict(matplotlib.rcParams)
    for theme in get_args(plot.Theme):
        plot.positions(sinusoidal_positions(4, 4), ax=plot.panels(1, theme=theme)[0])
    assert dict(matplotlib.rcParams) == before


def test_an_error_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"A: expected \(N_Q, N_X\), got \(2, 3, 4\)"):
        plot.attention_map(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="inputs: expected 3 labels"):
        plot.attention_map(np.zeros((2, 3)), inputs=["a", "b"])
    with pytest.raises(ValueError, match="queries: expected 2 labels"):
        plot.attention_map(np.zeros((2, 3)), ["a"])
    with pytest.raises(TypeError, match="mask: expected a boolean array"):
        plot.signed_map(np.zeros((2, 3)), mask=np.ones((2, 3)))
    with pytest.raises(ValueError, match="P"):
        plot.positions(np.zeros(3))
    with pytest.raises(ValueError, match="expected PER among its columns, got minutes, WER"):
        plot.learning_curve({"minutes": [1.0], "WER": [0.5]}, "PER")
    with pytest.raises(ValueError, match="count"):
        plot.panels(0)
    with pytest.raises(ValueError, match="theme: expected light or dark, got 'grey'"):
        plot.panels(1, theme="grey")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="samples"):
        plot.spread(np.zeros(3), np.zeros((5, 4)))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan, np.inf])
def test_numbers_that_are_no_weights_are_refused(wrong: float) -> None:
    A = np.full((2, 3), 0.5)
    A[1, 2] = wrong
    with pytest.raises(ValueError, match=r"^A: expected weights from 0 to 1, got others; signed_map draws any"):
        plot.attention_map(A)
    if not np.isfinite(wrong):
        with pytest.raises(ValueError, match=r"^Z: expected finite numbers, got others$"):
            plot.signed_map(A)
    plot.attention_map(np.array([[1 + 1e-6]], np.float32))    # from rounding


@pytest.mark.parametrize("draw", [plot.attention_map, plot.signed_map])
def test_what_is_no_floating_array_is_refused(draw: Any) -> None:
    for wrong in ([[0.5, 0.5]], None, np.array([[0, 1]])):
        with pytest.raises(TypeError, match=r"^[AZ]: expected (a NumPy array|float32 or float64), got "):
            draw(wrong)


def test_saving_refuses_other_things_than_axes_and_paths(tmp_path: Path) -> None:
    (ax,) = plot.panels(1)
    with pytest.raises(TypeError, match=r"^ax: expected Axes, got str$"):
        plot.save("map.png", ax)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^path: expected the path of a file, got 7$"):
        plot.save(ax, 7)  # type: ignore[arg-type]
    for name in ("map.txt", "map"):
        with pytest.raises(ValueError, match=r"^path: expected a name that ends in \.png, \.svg, \.pdf or as"):
            plot.save(ax, tmp_path / name)
    with pytest.raises(ValueError, match=r"^colours: expected None unless path ends in \.png, got 8 and"):
        plot.save(ax, tmp_path / "map.svg", colours=8)
    plot.save(ax, tmp_path / "MAP.PNG", dpi=20, colours=8)
    assert [path.name for path in tmp_path.iterdir()] == ["MAP.PNG"]


def test_drawing_does_not_import_pyplot() -> None:
    script = "import sys, numpy, npattn.plot; npattn.plot.attention_map(numpy.eye(2)); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "matplotlib.figure" in loaded and "matplotlib.pyplot" not in loaded


def test_importing_the_module_does_not_import_matplotlib() -> None:
    script = "import sys, npattn.plot; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "npattn.plot" in loaded and "matplotlib" not in loaded


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """Return WCAG's contrast, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
