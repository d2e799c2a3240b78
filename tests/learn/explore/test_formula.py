"""Every formula that the explorer writes, evaluated from the numbers on the page, gives its entry."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from npattn.layers.gelu import cumulative
from npattn.layers.silu import sigmoid
from npattn.learn.explore import Page, build, entry, subjects
from npattn.learn.explore.formula import Named, Writing, digits, sources, written
from npattn.learn.explore.symbols import MOST, Number, Symbols, made, numbers_of, product

#: Subjects of the short suite: each kind of statement is in one of them.
QUICK = ("v1", "v5", "v9", "softmax", "layer_norm", "relu")
OTHERS = [name for name, subject in subjects().items() if subject.group in ("version", "layer") and name not in QUICK]
PARTS = [
    (f"{side}_layer", part)
    for side, own in (("encoder", ""), ("decoder", "norm_3 cross_attention"))
    for part in ("", "norm_1", "norm_2", "self_attention", "feed_forward", *own.split())
]  # fmt: skip

#: Changes that the formulas have to follow.
CHANGED: list[tuple[str, dict[str, Any]]] = [
    ("v4", {"switches": {"no_sqrt_D": True, "scale_scores": 10}}),
    ("v5", {"numbers": {"X": {"0,1": 2.5}, "mask": {"0,1": False}, "dY": {"1,0": -3}}}),
    ("v7", {"switches": {"heads": 1}}),
    ("v13", {"switches": {"no_mask": True, "scale_scores": 10}}),
    ("softmax", {"numbers": {"E": {"0": 900}}}),              # exp(900) overflows
]

FUNCTIONS = {
    "exp": math.exp, "log": math.log, "tanh": math.tanh, "max": max, "root": math.sqrt, "inf": math.inf,
    "sigma": lambda x: float(sigmoid(np.array(x))), "Phi": lambda x: float(cumulative(np.array(x), "none")),
    "Phi_tanh": lambda x: float(cumulative(np.array(x), "tanh")), "above": lambda x: float(x > 0),
}  # fmt: skip
SIGNS = {
    "·": "*", "−": "-", "²": "**2", "^(": "**(", "√(": "root(", "σ(": "sigma(", "Φ̃(": "Phi_tanh(", "Φ(": "Phi(",
    "[": "above(", " > 0]": ")",
}  # fmt: skip


def evaluated(pieces: list[dict[str, Any]], page: Page) -> float:
    """Return the value of a formula: each piece that stands for an entry is that number of the page."""
    text = "".join(f"({number_at(page, *piece['of'])!r})" if "of" in piece else piece["text"] for piece in pieces)
    for sign, code in SIGNS.items():
        text = text.replace(sign, code)
    return float(eval(re.sub(r"√([\d.]+)", r"root(\1)", text), FUNCTIONS))


def number_at(page: Page, name: str, index: list[int], is_gradient: bool) -> float:
    value = page.shown[name] if name in page.shown else page.trace[name]
    array = value.gradient if is_gradient else value.array
    assert array is not None
    return float(array[tuple(index)])


def assert_all(page: Page) -> int:
    """Every entry that code makes has a formula, which gives it. Returns how many there are."""
    assert page.formulas is not None
    n, without = 0, set()
    for name, value in page.shown.items():
        for array, is_gradient in ((value.array, False), (value.gradient, True)):
            if array is None or array.dtype.kind != "f" or not (is_gradient or value.lines):
                continue
            size = max(np.abs(array).max(initial=0), 1.0)
            for index in np.ndindex(*array.shape):
                number = page.formulas.number(name, index, is_gradient)
                if number is None:
                    without.add((name, is_gradient))
                    continue
                found = evaluated(Writing(False, str, None).pieces(number), page)
                is_same = found == array[index] or abs(found - array[index]) <= 1e-12 * size   # −∞ too
                assert is_same, (name, index, is_gradient)
                if isinstance(number, Number):
                    assert abs(number.value - array[index]) <= 1e-12 * size
                n += 1
    # The gradient of the output is given. All else that code makes is written.
    assert without <= {(page.output, True)}
    return n


@pytest.mark.parametrize("name", QUICK)
def test_every_formula_gives_its_entry(name: str) -> None:
    assert assert_all(build(name)) >= 6


@pytest.mark.long
@pytest.mark.parametrize("name", OTHERS)
def test_every_formula_of_the_others_gives_its_entry(name: str) -> None:
    assert assert_all(build(name)) >= 6


@pytest.mark.long
@pytest.mark.parametrize(("name", "part"), PARTS)
def test_every_formula_of_a_layer_gives_its_entry(name: str, part: str) -> None:
    assert assert_all(build(name, {"part": part})) >= 48


@pytest.mark.long
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_formulas_of_a_layer_follow_its_switches(norm: str) -> None:
    changes = {"switches": {"heads": 4, "norm": norm, "no_mask": True}, "part": "norm_1"}
    assert assert_all(build("encoder_layer", changes)) >= 48


@pytest.mark.long
@pytest.mark.parametrize(("name", "changes"), CHANGED)
def test_formulas_follow_changes(name: str, changes: dict[str, Any]) -> None:
    assert assert_all(build(name, changes)) >= 12


@pytest.mark.long
@pytest.mark.parametrize("part", ["decoder.2.cross_attention", "encoder.0.feed_forward", "encoder.1.norm_2"])
def test_formulas_of_the_trained_model(part: str) -> None:
    """Those of the first and the last entry; no formula of weights' gradients, which are too many.

    Written out, a norm's would have thousands of terms. They are computed from the numbers.
    """
    page = build("g2p", {"part": part})
    assert page.formulas is not None
    for name, value in page.shown.items():
        for array, is_gradient in ((value.array, False), (value.gradient, True)):
            if array is None or array.dtype.kind != "f" or not (is_gradient or value.lines):
                continue
            for index in ((0,) * array.ndim, tuple(n - 1 for n in array.shape)):
                number = page.formulas.number(name, index, is_gradient)
                assert (number is None) == (array.size > MOST) or (name, is_gradient) == (page.output, True)
                if isinstance(number, Number):
                    assert abs(number.value - array[index]) <= 1e-12 * max(np.abs(array).max(), 1)
                    for each in sources(number):
                        number_at(page, each.name, [*each.at], each.is_gradient)    # it is there


def text_of(subject: str, name: str, index: list[int], is_gradient: bool = False, **changes: Any) -> str:
    return "".join(piece["text"] for piece in entry(build(subject, changes), name, index, is_gradient)["formula"])


@pytest.mark.parametrize(
    ("subject", "name", "index", "is_gradient", "text"),
    [
        ("v5", "K", [1, 1], False, "K[2,2] = X[2,1]·W_K[1,2] + X[2,2]·W_K[2,2] = 0·0 + 1·1 = 1"),
        (
            "v5", "E", [0, 1], False,
            "E[1,2] = (Q[1,1]·K[2,1] + Q[1,2]·K[2,2] + Q[1,3]·K[2,3] + Q[1,4]·K[2,4])/√4 = "
            "(0·0 + 2.197·1 + 0·0 + 0·0)/√4 = 1.099",
        ),
        ("v5", "A", [1, 0], False, "A[2,1] = exp(E[2,1])/(exp(E[2,1]) + exp(E[2,2])) = exp(0)/(exp(0) + exp(0)) = 0.5"),
        (
            "v5", "E", [1, 1], True,
            "dE[2,2] = A[2,2]·(dA[2,2] − (A[2,1]·dA[2,1] + A[2,2]·dA[2,2])) = 0.5·(4 − (0.5·8 + 0.5·4)) = −1",
        ),
        ("v5", "E (2)", [1, 1], True, "(dE/√D_Q)[2,2] = dE[2,2]/√4 = (−1)/√4 = −0.5"),
        ("relu", "X", [2], True, "dX[3] = dY[3]·[Y[3] > 0] = 5·[2 > 0] = 5"),
        ("relu", "Y", [0], False, "Y[1] = max(0, X[1]) = max(0, −1) = 0"),
        ("softmax", "top", [0], False, "top[1] = max(E (2)[1], E (2)[2], E (2)[3]) = max(0, 0.6931, 1.609) = 1.609"),
        ("layer_norm", "r", [0, 0], False, "r[1,1] = 1/√(v[1,1] + 1.333) = 1/√(2.667 + 1.333) = 0.5"),
    ],
)  # fmt: skip
def test_the_text_of_a_formula(subject: str, name: str, index: list[int], is_gradient: bool, text: str) -> None:
    assert text_of(subject, name, index, is_gradient) == text


def test_an_argument_has_no_formula_and_what_the_mask_hides_is_zero() -> None:
    assert text_of("v5", "X", [0, 0]) == "" and text_of("v5", "Y", [0, 0], True) == ""
    assert text_of("v5", "A", [0, 1], numbers={"mask": {"0,1": False}}) == "A[1,2] = 0 ⇐ mask[1,2] = 0"
    hidden = entry(build("v5", {"numbers": {"mask": {"0,1": False}}}), "A", [0, 1])
    assert hidden["from"] == [["mask", [0, 1], False]]
    assert text_of("v8", "A", [0, 0, 1]) == "A[1,1,2] = 0"    # the order hides it
    pads = entry(build("encoder_layer", {"part": "self_attention"}), "A", [1, 2, 2])
    assert pads["from"] == [["mask", [0, 0, 2], False]]       # one row for all heads and queries


def leaf(name: str, *index: int, value: float = 2.0) -> Number:
    return Number("leaf", Named(name, index, False), value)


def label(named: Named) -> str:
    return f"{named.name}{''.join(map(str, named.at))}"


def shown(number: Any, has_numbers: bool = False) -> str:
    return "".join(piece["text"] for piece in written(number, has_numbers, label))


def test_a_long_sum_is_cut_but_all_its_entries_are_sources() -> None:
    terms = [leaf("x", i) for i in range(6)]
    total = Number("sum", terms)
    assert shown(total) == "x0 + x1 + … + x5" and shown(total, True) == "2 + 2 + … + 2"
    assert shown(Number("sum", terms[:4])) == "x0 + x1 + x2 + x3"
    assert sources(total) == [Named("x", (i,), False) for i in range(6)]
    assert sources(made("·", total, terms[0])) == sources(total) and sources(3.0) == []


def test_parentheses_stand_where_they_are_needed() -> None:
    a, b, c = leaf("a"), leaf("b", value=-3.0), leaf("c")
    assert shown((a + b) * c) == "(a + b)·c" and shown((a + b) * c, True) == "(2 + (−3))·2"
    assert shown(a - (b - c)) == "a − (b − c)" and shown(a - b - c) == "a − b − c"
    assert shown(a / (b * c)) == "a/(b·c)" and shown(a * b / c) == "a·b/c" and shown(a * (b / c)) == "a·(b/c)"
    assert shown(b * a, True) == "(−3)·2" and shown(b + a, True) == "−3 + 2" and shown(a + -b) == "a + (−b)"
    assert shown(a * a) == "a²" and shown((a * b) ** 3) == "(a·b)^(3)" and shown(-(a + b)) == "−(a + b)"
    assert shown(made("exp", a - b)) == "exp(a − b)" and shown(a * (1 / Number("√", (4,)))) == "a/√4"
    assert shown(a * -1.5) == "a·(−1.5)" and shown(-2 - a) == "−2 − a"
    assert shown(a + (b + c), True) == "2 + (−3 + 2)" and shown(a + (b + c)) == "a + b + c"
    assert shown(a - (b + c), True) == "2 − (−3 + 2)" and shown((a + b) + (a - c)) == "a + b + a − c"


def test_a_deep_formula_is_cut() -> None:
    number: Any = leaf("x", 0)
    for i in range(1, 40):
        number = made("tanh", number * leaf("x", i))
    assert shown(number).count("…") == 1 and len(written(number, False, label)) <= 80
    assert shown(number, True).endswith("·2)") and len(sources(number)) == 40


def test_plain_numbers_are_left_out() -> None:
    a = leaf("a")
    assert (a + 0) is a and (0 + a) is a and (a - 0) is a and (a * 1) is a and (1 * a) is a and (a / 1) is a
    assert a * 0 == 0 and not isinstance(0 * a, Number) and not isinstance(0 / a, Number)
    assert made("+", 1, 2) == 3.0 and product(2, 3) == 6.0 and shown(0 - a) == "−a"
    assert -math.inf - a == -math.inf


def test_symbols_compute_what_numbers_do() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 3))
    a, b = symbols_of("X", X), symbols_of("Y", Y)
    pairs: list[tuple[Any, Any]] = [
        (a @ b, X @ Y), (a @ b[:, 0], X @ Y[:, 0]), (b[0] @ b.T, Y[0] @ Y.T), (a.sum(-1), X.sum(-1)),
        (a.sum((0, 2)), X.sum((0, 2))), (a.sum(1, keepdims=True), X.sum(1, keepdims=True)), (a.sum(), X.sum()),
        (np.vecdot(a, b.T), np.vecdot(X, Y.T)), (np.exp(a), np.exp(X)), (np.tanh(a) * a, np.tanh(X) * X),
        (np.maximum(a, 0), np.maximum(X, 0)), (np.maximum(a, a * 2), np.maximum(X, 2 * X)),
        (np.minimum(a, 0.5), np.minimum(X, 0.5)), (np.clip(a, -1, 1), np.clip(X, -1, 1)),
        (1 / np.sqrt(a * a + 1), 1 / np.sqrt(X * X + 1)), (-a, -X), (a**3, X**3), (np.power(a, 2), X**2),
        (np.log(a * a), np.log(X * X)), ((a > 0) * a, (X > 0) * X), (a.max(-1), X.max(-1)), (a - a, X - X),
    ]  # fmt: skip
    for found, wanted in pairs:
        assert np.allclose(numbers_of(found), wanted, rtol=1e-14, atol=1e-14)
    assert ((a > 0.1) == (X > 0.1)).all() and (a > 0.1).dtype == bool and not np.isnan(a).any()
    c = a.copy()
    c += 1
    c *= a
    assert np.allclose(numbers_of(c), (X + 1) * X) and np.array_equal(numbers_of(a), X)


def symbols_of(name: str, X: Any) -> Any:
    entries = np.empty(X.shape, object)
    for index in np.ndindex(*X.shape):
        entries[index] = leaf(name, *index, value=float(X[index]))
    return entries.view(Symbols)


def test_digits() -> None:
    numbers = {0.25: "0.25", 2.0: "2", -1 / 3: "−0.3333", 12345.6: "12346", 1e12: "1e+12", 1e-7: "1e−07"}
    assert {x: digits(x, 4) for x in numbers} == numbers
    assert digits(1 / 3, None) == repr(1 / 3) and digits(-0.5, None) == "−0.5"


def test_a_wrong_number_on_the_page_is_found() -> None:
    page = build("v4")
    A = page.shown["A"].array
    assert A is not None
    A[0, 0] += 1e-9
    with pytest.raises(AssertionError):
        assert_all(page)
