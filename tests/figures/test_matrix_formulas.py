"""Formulas with matrices drawn to size, the ladder of such formulas, and the architecture of a Transformer."""

from __future__ import annotations

import importlib
import math
import re
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
from npattn.attention import MODERN_VERSIONS, VERSIONS

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


# ---- the second ladder -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def modern() -> ModuleType:
    return importlib.import_module("modern_ladder")


def all_matrices(formulas: Any) -> list[Matrix]:
    return [matrix for lines in formulas for line in lines for matrix in matrices(line)]


def test_every_product_and_every_stack_of_the_second_ladder_fits(modern: ModuleType) -> None:
    assert len(modern.FORMULAS) == len(MODERN_VERSIONS)
    lines = [line for lines in modern.FORMULAS for line in lines]
    pairs = [pair for line in lines for pair in products(line)]
    assert len(pairs) == 25
    for left, right in pairs:
        assert left.columns == right.rows, (left, right)
    for line in lines:
        assert matrix_formulas([line], modern.SIZES).get_xlim()[1] <= modern.CELLS, line
        names, (past, *_) = matrices(line), [m for m in matrices(line) if m.name.endswith("past")] or [None]
        if past:                                              # [past; new]: as wide as the whole, and with as many rows
            whole = next(m for m in names if f"{m.name}_past" == past.name)
            assert (whole.rows, past.rows, whole.columns) == ("N_X", "P", past.columns)
    sizes = modern.SIZES
    assert sizes["N_X"] == sizes["P"] + sizes["N_Q"] and sizes["D_L"] > max(sizes["D_C"], sizes["D_V"])
    for name in (each for each in sizes if "·" in each):
        heads, _, width = name.partition("·")
        assert sizes[name] == {"H": 2, "H_K": 1}[heads] * sizes[width]


@pytest.mark.parametrize("number", range(8, 14))
def test_the_second_ladder_has_the_shapes_of_each_version(modern: ModuleType, number: int) -> None:
    """Drawn are arguments whose line changes. Heads stand side by side: K_past is H P D_Q in the module."""
    axes = MODERN_VERSIONS[number - 8].module.SHAPES.axes
    shown = {m.name: (m.rows, m.columns) for m in all_matrices(modern.FORMULAS[number - 8 : number - 7])}
    compared = [name for name in shown if name in axes and name not in ("Q", "K", "V", "C")]
    assert len(compared) >= 3 or number == 11
    for name in compared:
        *heads, rows, columns = (axis for axis in axes[name] if axis != "…")
        assert shown[name] == (rows, "·".join((*heads, columns))), name


def letter(part: Matrix | Operator) -> str:
    """Return what a part is called; Q, Q_h and Qᵀ are one letter, K_g is another."""
    return re.sub("_[h12]$", "", part[0].strip().removesuffix("ᵀ").replace("Q_Rh", "Q_R"))


def test_new_in_the_second_ladder_is_what_the_version_it_grows_from_does_not_have(
    ladder: ModuleType, modern: ModuleType
) -> None:
    """A letter or an operation, or a whole matrix of another size."""
    sizes = modern.SIZES | {"1": 1}
    letters = {letter(part) for line in ladder.FORMULAS[6] for part in read_formula(line)}
    known: dict[int, dict[str, Any]] = {7: dict.fromkeys(letters)}
    for number, lines in enumerate(modern.FORMULAS, 8):
        before = known[modern.GROWS_FROM.get(number, number - 1)]
        known[number] = dict(before)
        for part in (part for line in lines for part in read_formula(line)):
            name, size = letter(part), None
            if isinstance(part, Matrix) and part.name == name:
                size = sizes[part.rows], sizes[part.columns]
            if name not in ("", "=", ")", "("):
                is_other = size is not None and before.get(name) not in (None, size)
                assert part.new == (name not in before or is_other), (number, part)
                known[number][name] = size or known[number].get(name)


def test_hidden_keys_are_grey(modern: ModuleType) -> None:
    """Query i of 3, after 3 past ones, sees the keys up to i + 3; with the window, three of them."""
    for number, seen in ((8, ([0, 1, 2, 3], [0, 1, 2, 3, 4], range(6))), (11, ([1, 2, 3], [2, 3, 4], [3, 4, 5]))):
        hidden = modern.hidden(number)["A_h"]
        assert [np.flatnonzero(~row).tolist() for row in hidden] == [list(row) for row in seen]
        ax = matrix_formulas(["A_h:N_Q,N_X = E_h:N_Q,N_X"], modern.SIZES, hidden=modern.hidden(number))
        assert len(ax.patches) - 4 == hidden.sum()
    assert np.array_equal(modern.hidden(9)["A_h"], modern.hidden(8)["A_h"])


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
