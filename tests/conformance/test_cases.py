"""The proof of the kit: every planted fault is caught, and right implementations pass."""

from __future__ import annotations

import sys
import unittest
from types import SimpleNamespace
from typing import Any

import make_trained
import numpy as np
import pytest

import npattn
from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.conformance import FAULTS, Case, cases, drafts, judge
from npattn.conformance.bounds import PRECISIONS, rounded
from npattn.conformance.case import KINDS
from npattn.conformance.catches import CATCHES, FINE
from npattn.conformance.drafts import DRAFTS, mask
from npattn.conformance.judging import planted_answer
from npattn.conformance.planting import plant
from npattn.optim import Adam

ALL = [case for of in KINDS for case in cases(of)]
PLANTED = [(of, name) for of, faults in FAULTS.items() for name in faults]


def worst(case: Case, answer: Any) -> float:
    return max(case.errors({name: rounded(np.asarray(X, float), case.dtype) for name, X in answer.items()}).values())


def test_there_are_sixty_faults_and_a_case_names_each() -> None:
    assert len(PLANTED) >= 120 and len({fault.says for faults in FAULTS.values() for fault in faults.values()}) >= 100
    assert {of: {name for names in CATCHES[of].values() for name in names} for of in KINDS} == {
        of: set(faults) for of, faults in FAULTS.items()
    }
    assert {of: list(names) for of, names in CATCHES.items()} == {of: list(drafts) for of, drafts in DRAFTS.items()}
    assert all(case.catches == CATCHES[case.of][case.name] and case.catches for case in ALL)


@pytest.mark.parametrize(("of", "name"), PLANTED)
def test_every_case_that_names_a_fault_catches_it(of: str, name: str) -> None:
    for dtype in ("float64", "bfloat16"):
        for case in cases(of, dtype):
            if name in case.catches:
                answer = planted_answer(case, FAULTS[of][name])
                assert answer is not None and worst(case, answer) > 1.2, (dtype, case)


@pytest.mark.parametrize("name", FINE)
def test_two_faults_are_as_small_as_the_rounding_of_16_bits(name: str) -> None:
    for dtype in PRECISIONS:
        for case in cases("gelu", dtype):
            answer = planted_answer(case, FAULTS["gelu"][name])
            assert answer is not None
            if dtype.endswith("16"):
                assert name not in case.catches and worst(case, answer) < (1 if dtype == "bfloat16" else 2), case
            elif name in case.catches:
                assert worst(case, answer) > 100, (dtype, case)
        assert dtype.endswith("16") or any(name in case.catches for case in cases("gelu", dtype))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_reference_without_a_fault_is_right(dtype: str) -> None:
    """Computed in float64 and rounded: it agrees with npattn's functions, which share no code with it."""
    for of in KINDS:
        for case in cases(of, dtype):
            answer = planted_answer(case, None)
            assert answer is not None and worst(case, answer) <= 1, case


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_right_implementations_in_small_dtypes_pass(dtype: str) -> None:
    """The same code carried out in the dtype; on long rows it shows 1/30 to 1 of the tightness."""
    for of in KINDS:
        for case in cases(of, dtype):
            inputs = {name: X.astype(dtype) for name, X in case.inputs.items()}
            answer = plant(of)(inputs, case.options).answer(case.cotangent.astype(dtype))
            assert {X.dtype for X in answer.values()} == {np.dtype(dtype)}, case
            answer = {name: np.asarray(X, np.float64) for name, X in answer.items()}
            assert max(case.errors(answer).values()) <= 1, case
            if case.name in ("64 keys", "128 keys, causal", "long rows", "many repeats") and of != "rotary":
                inexact = {name: X for name, X in answer.items() if case.bounds()[name].any()}
                shown = case.errors(inexact, tightness=True)
                assert all(1 / 30 <= error <= 1 for error in shown.values()), (case, shown)


@pytest.mark.parametrize("case", cases("attention", "float32"), ids=str)
def test_the_package_in_float32(case: Case) -> None:
    case.check(scaled_dot_product_attention, scaled_dot_product_attention_backward)


def test_layers_of_the_package_in_float32() -> None:
    layers = npattn.layers
    for of in ("softmax", "layer_norm", "rms_norm", "cross_entropy", "gelu", "swiglu", "embedding"):
        for case in cases(of, "float32"):
            case.check(getattr(layers, of), getattr(layers, f"{of}_backward"))


def adam(p: Any, gradients: Any, *, lr: float, betas: Any, eps: float, weight_decay: float = 0.0) -> Any:
    params = {"p": p.copy()}
    optimiser = Adam(params, lr, betas, eps, weight_decay, decay=lambda name, parameter: True)
    for g in gradients:
        optimiser.step({"p": g})
    return params["p"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adam_of_the_package(dtype: str) -> None:
    report = judge(adam, of="adam", dtype=dtype)
    assert report.ok and report.counts["skipped"] == 0, str(report)
    assert {(tuple(outcome.errors), outcome.message) for outcome in report.outcomes} == {(("output",), "")}
    assert judge(adam, adam, of="adam", dtype=dtype, only=("one",)).ok      # no gradient, so no backward is called
    (case, *_) = cases("adam", dtype)
    assert case.gradients == {} and list(case.inputs) == ["p", "gradients"]


def test_the_trained_arrays_are_those_of_the_shipped_model() -> None:
    kept, made = drafts.trained_arrays(), make_trained.activations()
    assert list(kept) == list(made)
    for name, X in made.items():
        assert kept[name].dtype == X.dtype and np.allclose(kept[name], X, rtol=1e-6, atol=1e-6), name
    found = {case.name: case for case in cases("attention") if "trained" in case.name}
    assert [sorted(case.options) for case in found.values()] == [[], ["causal"], ["mask"]]
    for (name, letter), X in ((name.split("."), X) for name, X in kept.items()):
        case = found[{"encoder": "trained", "decoder": "trained, causal", "cross": "trained, cross, mask"}[name]]
        assert np.array_equal(case.options[letter] if letter == "mask" else case.inputs[letter], X)


def test_inputs_are_exact_and_drawn_from_streams_of_their_own() -> None:
    for dtype in PRECISIONS:
        for case in cases("attention", dtype):
            for X in (*case.inputs.values(), case.cotangent):
                assert np.array_equal(rounded(X, dtype), X), case
    arrays = [X for case in ALL for X in case.inputs.values()]
    drawn = [X.ravel()[:3].tobytes() for X in arrays if X.size > 5]
    assert len(set(drawn)) >= len(drawn) - 6                  # but for zeros, ones and other constants
    for case in ALL:
        assert not any(np.array_equal(case.cotangent, X) for X in case.inputs.values())


def test_a_case() -> None:
    case = cases()[0]
    assert (repr(case), case.of, case.dtype, case.layout) == ("attention: plain", "attention", "float64", "")
    assert case.output is case.answer["output"] and case.gradients == {name: case.answer[name] for name in "QKV"}
    assert {case.dtype for case in cases("rotary", "float16")} == {"float16"}
    with pytest.raises(ValueError, match=r"^of: expected "):
        cases("attentoin")
    with pytest.raises(ValueError, match=r"^dtype: expected "):
        cases("attention", "float8")


def test_layouts() -> None:
    found = {case.name: case for case in cases("attention", "float32")}
    strided, plain = found["strided"].array("Q"), found["batch"].array("Q")
    assert strided.strides[-1] == 8 and np.array_equal(strided, found["strided"].inputs["Q"])
    assert strided.flags.writeable
    assert plain.flags.c_contiguous and plain.flags.writeable and plain.dtype == np.float32
    assert not found["read-only"].array("Q").flags.writeable


def test_errors_are_in_units_of_the_bound() -> None:
    case = cases("softmax", "float32")[0]
    right, bound = case.output, case.bounds()["output"]
    assert case.errors({"output": right}) == {"output": 0.0}
    assert case.errors({"output": right + 3 * bound})["output"] == pytest.approx(3, rel=1e-4)
    assert case.errors({"output": right * np.nan}) == {"output": np.inf}
    masked = cases("softmax", "float32")[2]
    wrong = masked.output.copy()
    wrong[0, 0] = 1e-30                                       # a hidden weight is 0 exactly
    assert masked.errors({"output": wrong}) == {"output": np.inf}


def negative_keys(dY: Any, cache: Any) -> Any:
    dQ, dK, dV, dbias = scaled_dot_product_attention_backward(dY, cache)
    return dQ, -dK, dV, dbias


def off_by_an_ulp(E: Any) -> Any:
    case = cases("softmax", "float32")[0]
    inner, outer = (case.bounds(accumulate)["output"] for accumulate in ("float64", None))
    assert np.all(inner < outer)
    return (case.output + (inner + outer) / 2).astype(np.float32)


def test_check_says_what_is_wrong() -> None:
    case = cases("attention", "float32")[0]
    with pytest.raises(AssertionError, match=r"^attention: plain: the scores are not multiplied by 1/√D; error in "
                       r"units of the bound: {'output': "):
        case.check(lambda Q, K, V: scaled_dot_product_attention(Q, K, V, scale=1.0))
    with pytest.raises(AssertionError, match=r"^attention: plain: the gradient of K has the wrong sign; "):
        case.check(scaled_dot_product_attention, negative_keys)
    noisy = cases("softmax", "float32")[0]                    # right to the bounds of float32, not to those of float64
    noisy.check(npattn.layers.softmax)
    with pytest.raises(AssertionError, match=r"^softmax: plain: output is wrong; "):
        noisy.check(off_by_an_ulp, accumulate="float64")
    noisy.check(off_by_an_ulp)
    capped = next(case for case in cases() if case.name == "softcap")
    with pytest.raises(unittest.SkipTest, match=r"^attention: softcap: it has no softcap$"):
        capped.check(lambda Q, K, V: None)


def test_the_drawn_mask() -> None:
    seen = mask(50, 9)(np.random.default_rng(0))
    assert seen.any(-1).all() and not seen[0, 0] and 0.5 < seen.mean() < 0.75


def test_bfloat16_in_numpy_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ModuleNotFoundError) as error:
        cases("softmax", "bfloat16")[0].check(npattn.layers.softmax)
    assert str(error.value) == "bfloat16 in NumPy needs the package ml_dtypes; torch has it by itself"


def test_bfloat16_in_numpy_is_that_of_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", SimpleNamespace(bfloat16=np.float16))
    assert cases("softmax", "bfloat16")[0].cast(np.ones(2)).dtype == np.float16


def test_a_loss_of_one_target_is_divided_by_one() -> None:
    layer = plant("cross_entropy")({"logits": np.zeros((2, 4))}, {"targets": np.array([3, -1]), "ignore_id": -1})
    assert float(layer.forward()) == pytest.approx(np.log(4.0), rel=1e-15)
