"""Formulas with matrices drawn to size, the ladder of such formulas, and the architecture of a Transformer."""

from __future__ import annotations

import importlib
import math
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _architecture import architecture, count_parameters, decoder_stack, encoder_stack
from _matrix_formulas import Matrix, Operator, formula_height, matrix_formulas, read_formula
from npattn import TransformerConfig, plot
from npattn.attention import VERSIONS

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def ladder() -> ModuleType:
    return importlib.import_module("ladder")


def test_a_formula_is_read_into_matrices_and_operators() -> None:
    assert read_formula("*K:N_X,D_Q = X:N_X,D_X */√D_Q ~~") == [
        Matrix("K", "N_X", "D_Q", True), Operator("=", False), Matrix("X", "N_X", "D_X", False),
        Operator("/√D_Q", True), Operator("  ", False),
    ]  # fmt: skip


def test_a_rectangle_is_as_large_as_its_matrix() -> None:
    sizes = {"N_Q": 3, "N_X": 6, "D_Q": 4}
    ax = matrix_formulas(["E:N_Q,N_X = Q:N_Q,D_Q *Kᵀ:D_Q,N_X"], sizes)
    outlines = [patch.get_xy() for patch in ax.patches if not patch.get_fill() or patch.get_facecolor()[3] == 0]
    spans = [tuple(np.round(np.ptp(corners, axis=0), 9)) for corners in outlines]
    assert spans == [(6, 3), (4, 3), (6, 4)]                  # (columns, rows)
    blue, orange = (matplotlib.colors.to_rgba(colour) for colour in plot.palette_of(ax).colours[:2])
    edges = [patch.get_edgecolor() for patch in ax.patches if patch.get_facecolor()[3] == 0]
    assert edges == [blue, blue, orange]
    assert formula_height(["E:N_Q,N_X = Q:N_Q,D_Q *Kᵀ:D_Q,N_X"], sizes) == pytest.approx(-ax.get_ylim()[0])
    with pytest.raises(KeyError, match="D_V"):
        matrix_formulas(["V:N_X,D_V = X:N_X,D_Q"], sizes)


def matrices(line: str) -> list[Matrix]:
    """Return the matrices of a formula."""
    return [part for part in read_formula(line) if isinstance(part, Matrix)]


def products(line: str) -> list[tuple[Matrix, Matrix]]:
    """Return the matrices that are multiplied: those side by side, without an operator between them but a dot."""
    parts = [part for part in read_formula(line) if part[0] != "·"]
    return [(a, b) for a, b in pairwise(parts) if isinstance(a, Matrix) and isinstance(b, Matrix)]


def test_every_product_in_the_ladder_fits(ladder: ModuleType) -> None:
    assert len(ladder.FORMULAS) == len(VERSIONS)
    pairs = [pair for lines in ladder.FORMULAS for line in lines for pair in products(line)]
    assert len(pairs) == 23
    for left, right in pairs:
        assert left.columns == right.rows, (left, right)


@pytest.mark.parametrize("number", range(1, 8))
def test_the_ladder_names_the_arguments_of_each_version_and_their_shapes(ladder: ModuleType, number: int) -> None:
    """The declaration SHAPES of the module must agree with the drawn axes."""
    shown = {m.name: (m.rows, m.columns) for line in ladder.FORMULAS[number - 1] for m in matrices(line)}
    module = VERSIONS[number - 1].module
    arguments = module.forward.__code__.co_varnames[: module.forward.__code__.co_argcount]
    for name in (name for name in arguments if name != "mask" and not name.startswith("b_")):
        transposed = f"{name}ᵀ" in shown and name not in shown
        rows, columns = shown[f"{name}ᵀ" if transposed else name]
        axes = [axis for axis in ((columns, rows) if transposed else (rows, columns)) if axis != "1"]
        assert [axis for axis in module.SHAPES.axes[name] if axis != "…"] == axes


def test_new_are_the_letters_and_operations_that_the_version_before_does_not_have(ladder: ModuleType) -> None:
    before: set[str] = set()
    for lines in ladder.FORMULAS:
        parts = [part for line in lines for part in read_formula(line) if part[0].strip() not in ("", "=", ")")]
        names = [part[0].removesuffix("ᵀ") for part in parts]
        news = [name not in before for name in names]
        assert any(news) and [part.new for part in parts] == news
        before = {*names}
    assert Operator("/√D_Q", True) in read_formula(ladder.FORMULAS[2][0])


def test_the_weights_are_in_every_formula_and_no_formula_is_wider_than_the_picture(ladder: ModuleType) -> None:
    for number, lines in enumerate(ladder.FORMULAS, 1):
        assert {"a", "A", "A_h"} & {matrix.name for line in lines for matrix in matrices(line)}, number
        ax = matrix_formulas(lines, ladder.SIZES)
        assert ax.get_xlim()[1] <= ladder.CELLS, number


configs = st.builds(
    TransformerConfig,
    src_vocab=st.just(11), tgt_vocab=st.just(11), d_model=st.sampled_from([6, 12]), n_heads=st.sampled_from([2, 3]),
    d_ff=st.integers(1, 9), n_encoder_layers=st.integers(0, 3), n_decoder_layers=st.integers(1, 3),
    norm=st.sampled_from(["pre", "post"]), final_norm=st.sampled_from([None, True, False]),
    tie=st.sampled_from(["output", "all", "none"]), bias=st.booleans(),
)  # fmt: skip


@given(configs)
def test_the_boxes_of_the_architecture_add_up_to_all_parameters(config: TransformerConfig) -> None:
    counted = 0
    for stack in (encoder_stack(config), decoder_stack(config)):
        counted += sum(box.size for box in (*stack.before, *stack.after))
        counted += stack.n_layers * sum(norm.size + box.size for norm, box in stack.sub_layers)
    assert counted == count_parameters(config) == sum(map(math.prod, config.shapes().values()))


@pytest.mark.parametrize("choices", [{"norm": "pre"}, {"norm": "post", "tie": "all"}, {"n_encoder_layers": 0}])
def test_the_architecture_shows_its_counts(choices: dict[str, Any]) -> None:
    sizes = {"n_encoder_layers": 3, "n_decoder_layers": 2, "d_model": 12, "n_heads": 3, "d_ff": 20}
    config = TransformerConfig(17, 17, **sizes | choices)
    ax = architecture(config)
    texts = [text.get_text() for text in ax.texts]
    assert f"{count_parameters(config):,} parameters" in ax.get_title()
    for stack in (encoder_stack(config), decoder_stack(config)):
        for norm, box in stack.sub_layers:
            assert {f"{norm.size:,}", f"{box.size:,}", box.name} <= set(texts)
    assert any(text.startswith("2 layers × ") for text in texts)
    assert sum(text == "+" for text in texts) == 3 + 2 * (config.n_encoder_layers > 0)
