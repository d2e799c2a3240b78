"""The page has what the trace has, as JSON: small, complete, and what is said of each number is true."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import npattn
from npattn.learn.explore import build, entry, everything, subjects
from npattn.learn.explore.mathml import mathml
from npattn.learn.explore.page import before, listed
from npattn.learn.explore.subjects import pair_of
from npattn.learn.explore.titles import CHINESE, ENGLISH
from npattn.learn.trace.run import formulas
from npattn.learn.trace.transformer import INSIDE
from npattn.runs import load_model
from npattn.transformer import reference

VERSIONS = [f"v{i}" for i in range(1, 15)]
SHOWN = [name for name, subject in subjects().items() if subject.group in ("version", "layer")]


def values(page: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {value["name"]: value for value in page["values"]}


def numbers_in(tree: Any) -> Iterator[Any]:
    if isinstance(tree, list):
        for each in tree:
            yield from numbers_in(each)
    else:
        yield tree


def test_a_page_of_a_version() -> None:
    page = build("v5").as_dict()
    assert json.loads(json.dumps(page, allow_nan=False)) == page
    assert page["title"].startswith("Version 5, cross-attention: ") and not page["title"].endswith(".")
    facts = {"subject": "v5", "before": "v4", "parts": [], "part": "", "loss": 11.0, "output": "Y", "word": None}
    assert page | facts == page and {"name": "v14", "group": "version"} in page["subjects"]
    assert page["switches"][0] == {"name": "scale_scores", "kind": "number", "value": 1, "choices": []}
    found = values(page)
    assert list(found) == ["Q", "X", "W_K", "W_V", "mask", "K", "V", "E", "E (2)", "A", "Y"]
    roles = {name: value["role"] for name, value in found.items()}
    computed = dict.fromkeys(("K", "V", "E", "E (2)", "A"), "computed")
    assert roles == dict.fromkeys(("Q", "X", "W_K", "W_V"), "argument") | computed | {"mask": "mask", "Y": "output"}
    assert [name for name, value in found.items() if value["can_change"]] == ["Q", "X", "W_K", "W_V", "mask"]
    trace = build("v5").trace
    for name, value in found.items():
        array, gradient = trace[name].array, trace[name].gradient
        assert value["numbers"] == (None if array is None else array.tolist())
        assert value["gradient"] == (None if gradient is None else gradient.tolist())
        assert value["shape"] == list((gradient if array is None else array).shape) and not value["is_large"]   # type: ignore[union-attr]
    E = found["E"]
    assert E["axes"] == ["N_Q", "N_X"] and E["gradient_name"] == "dE" and found["E (2)"]["gradient_name"] == "dE/√D_Q"
    assert E["formula"] == "E = Q Kᵀ / √D_Q" and "<msqrt>" in E["formula_mathml"]
    line = {"function": "forward", "number": 99, "code": "E = Q @ K.mT / sqrt_width(Q)", "comment": "(…, N_Q, N_X)"}
    assert E["lines"] == [line | {"file": "npattn/attention/v5_cross_attention.py"}]
    assert found["X"]["gradient_lines"][1]["code"] == "dX += project(dK, W_K.T)"


def test_the_code_of_a_page_is_that_of_its_lines() -> None:
    page = build("v5").as_dict()
    (file, code), = page["code"].items()
    for line in [line for value in page["values"] for line in value["lines"] + value["gradient_lines"]]:
        assert line["file"] == file and code[line["number"] - 1].strip().startswith(line["code"])
    (first, last), (first_back, last_back) = page["shown"][file]
    assert code[first - 1].startswith("def forward(") and code[last - 1].startswith("    return Y")
    assert code[first_back - 1].startswith("def backward(") and code[last_back - 1] == "    return dQ, dX, dW_K, dW_V"


def test_the_steps_of_a_version() -> None:
    steps = build("v5").as_dict()["steps"]
    assert [(step["name"], step["value"]) for step in steps if not step["is_gradient"]] == [(x, x) for x in "KVEAY"]
    back = [step for step in steps if step["is_gradient"]]
    assert [(step["name"], step["value"]) for step in back] == [
        ("dA", "A"), ("dV", "V"), ("dE", "E"), ("dE", "E (2)"), ("dK", "K"), ("dQ", "Q"), ("dX", ""), ("dX", "X"),
        ("dW_K", "W_K"), ("dW_V", "W_V"),
    ]  # fmt: skip
    assert [step["line"]["code"] for step in back if step["sums"]] == ["dX += project(dK, W_K.T)"]
    assert back[0]["numbers"] == build("v5").trace.dA.tolist()


@pytest.mark.long
@pytest.mark.parametrize("name", SHOWN)
def test_the_last_step_of_every_value_is_it(name: str) -> None:
    page = build(name).as_dict()
    last = {(step["value"], step["is_gradient"]): step["numbers"] for step in page["steps"] if step["value"]}
    for (value, is_gradient), numbers in last.items():
        assert values(page)[value]["gradient" if is_gradient else "numbers"] == numbers
    computed = {value["name"] for value in page["values"] if value["lines"] and value["numbers"] is not None}
    assert computed <= {value for value, is_gradient in last if not is_gradient}


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("v1", []), ("v3", ["e"]), ("v5", ["W_K", "W_V", "K", "V", "E", "Y"]),
        pytest.param("v7", ["X_Q", "W_O", "Q", "K", "V", "Y", "Z"], marks=pytest.mark.long),
        pytest.param("v8", ["Q", "K", "K (2)", "V", "V (2)", "E", "A", "Z"], marks=pytest.mark.long),
    ],
)  # fmt: skip
def test_what_is_new_in_a_version(name: str, new: list[str]) -> None:
    assert [value["name"] for value in build(name).as_dict()["values"] if value["is_new"]] == new


def test_which_gradients_are_new_in_a_version() -> None:
    back = [v["name"] for v in build("v6").as_dict()["values"] if v["gradient_is_new"]]
    assert back == ["X", "W_Q"]


def test_the_version_before() -> None:
    earlier = {name: before(name) for name in VERSIONS}
    wanted = {f"v{i}": f"v{i - 1}" for i in range(2, 13)} | {"v1": None, "v13": "v9", "v14": "v8"}
    assert earlier == wanted and before("softmax") is None and before("g2p") is None


def test_an_entry() -> None:
    page = build("v5")
    found = entry(page, "E", [0, 1], True)
    assert found | {"name": "dE", "value": "E", "index": [0, 1], "is_gradient": True, "number": -0.75} == found
    assert found["from"] == [["A", [0, 1], False], ["A", [0, 1], True], ["A", [0, 0], False], ["A", [0, 0], True]]
    assert found["formula"][0] == {"text": "dE[1,2]", "of": ["E", [0, 1], True]}
    assert found["formula"][2] == {"text": "A[1,2]", "of": ["A", [0, 1], False]}
    assert found["line"]["code"] == "dE = softmax_backward(dA, A)"
    slope = page.trace.derivative("E", (0, 1))
    assert found["complex_step"] == slope and found["difference"] == found["number"] - slope
    assert entry(page, "E", [0, 1])["complex_step"] is None and entry(page, "X", [0, 0])["line"] is None
    assert entry(page, "mask", [0, 0])["number"] is True and entry(page, "E (2)", [0, 0], True)["difference"] is None
    json.dumps(found, allow_nan=False)


def test_a_gradient_that_only_the_complex_step_has() -> None:
    H = values(build("v1").as_dict())["H"]
    assert H["gradient_by"] == "complex step" and np.allclose(H["gradient"], build("v1").trace.derivative("H"))
    e = values(build("v1").as_dict())["e"]
    assert e["gradient_by"] == "backward"


def test_everything_of_a_version() -> None:
    page = build("v5")
    found = everything(page)
    plain = json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    assert len(plain.encode()) < 600_000 and found["left_out"] == []
    value = found["entries"]["gradient"]["E"]["0,1"]
    whole = entry(page, "E", [0, 1], True)
    assert value == {key: whole[key] for key in value} and {"formula", "from", "complex_step"} <= value.keys()
    for name, each in values(found).items():
        sizes = {kind: len(found["entries"][kind].get(name, {})) for kind in ("value", "gradient")}
        assert sizes["value"] == (0 if name in ("mask", "E (2)") else int(np.prod(each["shape"])))
        assert sizes["gradient"] == (0 if name == "mask" else int(np.prod(each["gradient_shape"])))


@pytest.mark.long
@pytest.mark.parametrize("name", [*SHOWN, "encoder_layer", "decoder_layer"])
def test_everything_is_small(name: str) -> None:
    parts = ["", *build(name).trace.parts]
    for part in parts:
        found = everything(build(name, {"part": part}))
        plain = json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        assert len(plain.encode()) < 600_000 and (found["left_out"] == [] or part)


def test_the_title_is_a_sentence_where_there_is_one() -> None:
    assert build("encoder_layer").title == ENGLISH["encoder_layer"]
    sentence = build("v7").title
    assert sentence.startswith("Version 7, multi-head attention: ")
    assert build("encoder_layer", {"part": "self_attention"}).title == f"self_attention: {sentence}"
    assert build("encoder_layer", {"part": "feed_forward"}).title == f"feed_forward: {ENGLISH['feed_forward']}"
    assert build("softmax").title.startswith("Masked softmax ")


def test_every_title_is_in_chinese_too() -> None:
    names = {name if name[1:].isdigit() else pair_of(name)[0].__name__ for name in SHOWN}
    assert names | {*ENGLISH, "sub_layer"} == CHINESE.keys()
    for name in ("v5", "v14", "softmax"):
        assert build(name).title_zh == CHINESE[name]
    assert build("attention").title_zh == CHINESE["scaled_dot_product_attention"]
    layer = [build("decoder_layer", {"part": part}).title_zh for part in ("norm_2", "self_attention")]
    assert layer == [f"norm_2: {CHINESE['sub_layer']}", f"self_attention: {CHINESE['v7']}"]
    assert build("v1").as_dict()["title_zh"] == CHINESE["v1"]


@pytest.mark.parametrize(("subject", "name", "formula", "gradient_formula"), [
    ("v9", "Q", "", ""), ("v9", "Q (2)", "Q = f R split(X W_Q)", ""), ("v9", "Q (3)", "", ""),
    ("v8", "K", "", ""), ("v8", "K (2)", "K = [K_past; split(X W_K)]", "dK = s dEᵀ Q"),
    ("v9", "K", "", ""), ("v9", "K (2)", "", "dK = s dEᵀ Q"),
    ("v12", "K (3)", "K = [K_past; f R split(norm(X W_K))]", ""),
    ("v13", "Q_R", "", ""), ("v13", "Q_R (2)", "Q_R = f R split(C_Q W_QR)", "dQ_R = s dE K_R"),
    ("v13", "Q", "Q = split(C_Q W_Q)", "dQ = s dE K"), ("v13", "Q (2)", "", ""),
    ("v5", "E", "E = Q Kᵀ / √D_Q", "dE = A ⊙ (dA − rowsum(A ⊙ dA))"), ("v5", "E (2)", "", ""),
    ("attention", "V", "", ""), ("attention", "V (2)", "", "dV = (A ⊙ M)ᵀ dY"),
])  # fmt: skip
def test_a_formula_stands_at_the_value_that_it_gives(
    subject: str, name: str, formula: str, gradient_formula: str
) -> None:
    """In v9, Q is projected and Q (2) is turned: only Q (2) is f R split(X W_Q)."""
    found = values(build(subject).as_dict())[name]
    assert (found["formula"], found["gradient_formula"]) == (formula, gradient_formula)
    assert (found["formula_mathml"], found["gradient_mathml"]) == (mathml(formula), mathml(gradient_formula))


def test_what_a_part_is_given_is_made_of_nothing() -> None:
    found = entry(build("decoder_layer", {"part": "self_attention"}), "X_Q", [0, 0])
    assert (found["number"], found["formula"], found["from"], found["line"]) == (0.9, [], [], None)
    inside = entry(build("decoder_layer", {"part": "self_attention"}), "A", [0, 2, 0])
    assert inside["formula"][0]["text"] == "A[1,3,1]" and len(inside["from"]) > 1


def test_a_page_of_a_part() -> None:
    page = build("decoder_layer", {"part": "norm_2"})
    found = page.as_dict()
    assert found["title"] == "sub-layer 2 (cross-attention): npattn.transformer.reference.sub_layer"
    assert found["loss"] == page.loss == build("decoder_layer").loss
    assert found["output"] == "Y" and found["part"] == "norm_2" and "cross_attention" in found["parts"]
    steps = [(step["name"], step["value"]) for step in found["steps"]]
    assert [name for name, _ in steps] == ["I", "F", "D", "Y", "dR", "dI", "dM", "dX", ""]
    (meeting,) = [step["line"]["code"] for step in found["steps"] if step["sums"]]
    assert meeting.startswith("return dR + dX, dM, ")
    assert dict(steps) | {"Y": "Y", "dR": "R", "dI": "I", "dM": "M"} == dict(steps)
    whole = page.trace["X (3)"].array
    assert whole is not None and values(found)["Y"]["numbers"] == whole.tolist()
    piece = entry(page, "F", [0, 0])["formula"]
    assert piece[2] == {"text": "cross_attention.Z[1,1]", "of": ["cross_attention.Z", [0, 0], False]}
    assert {step["line"]["file"] for step in found["steps"]} == {"npattn/transformer/reference.py"}


@pytest.mark.long
def test_the_trained_model() -> None:
    page = build("g2p", {"word": "read"})
    found = page.as_dict()
    assert found["source"] == [*"read"] and found["target"] == ["R", "IY", "D", "<eos>"] and found["word"] == "read"
    assert found["part"] == "decoder.2.cross_attention" and len(json.dumps(found, allow_nan=False)) < 600_000
    steps = load_model("g2p").probabilities("read")
    for shown, step in zip(found["probabilities"], steps, strict=True):
        assert shown["symbol"] == step.symbol and len(shown["next"]) == 10
        assert shown["next"][0]["symbol"] == max(step.probabilities, key=step.probabilities.__getitem__)
        for each in shown["next"]:
            assert abs(each["p"] - step.probabilities[each["symbol"]]) < 1e-4   # the model itself has float32
    right = [next(n["p"] for n in s["next"] if n["symbol"] == s["symbol"]) for s in found["probabilities"]]
    assert np.isclose(found["loss"], -np.log(right).sum())
    A = values(found)["A"]
    assert np.shape(A["numbers"]) == (1, 4, 4, 4) and np.allclose(np.sum(A["numbers"], -1), 1, atol=1e-5)
    assert values(found)["W_Q"]["numbers"] is None and values(found)["W_Q"]["is_large"]
    assert not any(value["can_change"] for value in found["values"])
    assert all(x == float(f"{x:.6g}") for x in numbers_in(A["numbers"]))


@pytest.mark.long
def test_everything_of_the_trained_model_is_what_fits() -> None:
    found = everything(build("g2p"))
    plain = json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    assert len(plain.encode()) < 850_000 and {"A", "E"} - {*found["left_out"]} and "W_Q" in found["left_out"]
    assert found["entries"]["gradient"]["A"]["0,0,0,0"]["complex_step"] is None


@pytest.mark.long
def test_leans_are_the_gradients_of_the_log_probabilities() -> None:
    """Each is what a trace finds whose loss is one symbol's log-probability, and that is the complex step's."""
    leans = build("g2p", {"word": "read"}).as_dict()["leans"]
    assert np.shape(leans) == (4, 4)
    run = build("g2p", {"word": "read"}).run
    for t in range(4):
        dlogits = np.zeros_like(run.dY)
        dlogits[0, t] = -run.dY[0, t]
        found = npattn.trace(reference, run.args, dlogits, inside=INSIDE)
        assert np.allclose(leans[t], np.linalg.norm(found["S"].gradient[0], axis=-1), rtol=1e-10)   # type: ignore[index]


def test_lists_of_numbers() -> None:
    assert listed(np.array([[1.0, np.inf], [-np.inf, np.nan]])) == [[1.0, None], ["-inf", None]]
    assert listed(np.array([1, 2])) == [1, 2] and listed(np.array([True])) == [True] and listed(None) is None
    assert listed(np.zeros(5000)) == [0.0] * 5000 and listed(np.zeros(5001)) is None
    assert listed(np.array([1 / 3, np.nan]), 3) == [0.333, None] and listed(np.array(2.5)) == 2.5


def test_formulas_as_mathml() -> None:
    assert mathml("") == ""
    assert mathml("dE = A ⊙ dA") == "<math><mi>dE</mi><mo>=</mo><mi>A</mi><mo>⊙</mo><mi>dA</mi></math>"
    assert mathml("√D_Q < W_Qᵀ") == (
        "<math><msqrt><msub><mi>D</mi><mi>Q</mi></msub></msqrt><mo>&lt;</mo>"
        "<msubsup><mi>W</mi><mi>Q</mi><mi>T</mi></msubsup></math>"
    )
    assert "<mo>+=</mo>" in mathml("dX += dK") and "<mo>−=</mo>" in mathml("x −= 1")
    assert mathml("(1 − H²)") == (
        "<math><mo>(</mo><mn>1</mn><mo>−</mo><msup><mi>H</mi><mn>2</mn></msup><mo>)</mo></math>"
    )


@pytest.mark.parametrize("version", npattn.attention.VERSIONS + npattn.attention.MODERN_VERSIONS, ids=lambda v: v.name)
def test_every_formula_of_the_ladder_is_mathml_with_all_its_letters(version: Any) -> None:
    for formula in formulas(version.module.__doc__).values():
        tree = ElementTree.fromstring(mathml(formula))
        text = re.sub(r"[\s√\u2062]", "", "".join(tree.itertext()))
        plain = re.sub(r"[\s√_{}]", "", formula).replace("ᵀ", "T").replace("²", "2")
        assert sorted(text) == sorted(plain), formula
