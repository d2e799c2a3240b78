"""The picture of the backward flow: its boxes and arrows are the lines of the modules' derivations."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

import pytest

from npattn.attention import v5_cross_attention, v7_multi_head
from npattn.transformer import reference

pytest.importorskip("matplotlib")

FLOWS = {
    "VERSION_5": v5_cross_attention, "VERSION_7": v7_multi_head, "PRE_NORM": reference, "POST_NORM": reference
}  # fmt: skip
BOTH = pytest.mark.parametrize("name", FLOWS)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return importlib.import_module("backward_flow")


@BOTH
def test_every_box_has_an_arrow_to_each_value_that_it_was_computed_from(script: ModuleType, name: str) -> None:
    """Arrows through a sum lead to X."""
    flow = getattr(script, name)
    arrows = {(start, end) for start, end, _, _ in flow.arrows}
    for formula, _, _ in flow.boxes:
        result, _, terms = formula.partition(" = ")
        used = set(re.findall(r"\b(?:[A-Z]|b)(?:_[A-Z])?\b", re.sub("√D_Q|ᵀ", "", terms)))
        ends = {end for start, end in arrows if start == result}
        named = {letter for end in ends for letter in ("X" if end == "+" else end).split(", ")}
        assert named == (used if terms else named & {"X"})


@pytest.mark.parametrize("name", ["VERSION_5", "VERSION_7"])
def test_the_formulas_are_those_of_the_derivation(script: ModuleType, name: str) -> None:
    text = FLOWS[name].__doc__ or ""
    flow = getattr(script, name)
    written = [formula for formula, _, _ in flow.boxes if " = " in formula]
    written += [part for _, _, gradient, _ in flow.arrows for part in gradient.split("\n")]
    assert len(written) > 12
    for formula in written:
        assert re.search(rf"(?<![\w)]){re.escape(formula)}(?![\w(])", text), formula


@pytest.mark.parametrize(("name", "dX"), [
    ("PRE_NORM", "dX = dY + norm_backward(f_backward(dF))"), ("POST_NORM", "dX = dR + f_backward(dF)"),
])  # fmt: skip
def test_the_sums_of_the_residual_blocks_are_those_of_the_derivation(script: ModuleType, name: str, dX: str) -> None:
    gradients = {gradient for _, _, gradient, _ in getattr(script, name).arrows}
    assert dX in gradients and dX in (reference.__doc__ or "")
    into_the_sum = {gradient for _, end, gradient, _ in getattr(script, name).arrows if end == "+"}
    assert len(into_the_sum) == 2 and all(term in dX.replace("f_backward(dF))", "dI)") for term in into_the_sum)


@BOTH
def test_boxes_do_not_overlap(script: ModuleType, name: str) -> None:
    boxes = [(x, y, *script.size(formula)) for formula, x, y in getattr(script, name).boxes]
    for i, (x, y, w, h) in enumerate(boxes):
        assert x - w / 2 >= 0
        for x_2, y_2, w_2, h_2 in boxes[:i]:
            assert abs(x - x_2) >= (w + w_2) / 2 or abs(y - y_2) >= (h + h_2) / 2


def test_every_text_stands_inside_its_panel_and_covers_no_other(script: ModuleType) -> None:
    figure = script.draw().figure
    figure.draw_without_rendering()
    for ax in figure.axes:
        frames = [text.get_window_extent() for text in (*ax.texts, ax.title) if text.get_text()]
        for i, frame in enumerate(frames):
            assert frame.x0 >= 0 and frame.x1 <= figure.bbox.x1
            assert not any(frame.overlaps(other) for other in frames[:i])
