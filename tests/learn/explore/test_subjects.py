"""What can be shown, the switches and the changes; each gradient stays that of the complex step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn.attention import v5_cross_attention as v5
from npattn.learn.explore import build, subjects
from npattn.learn.explore.page import entry
from npattn.learn.explore.subjects import example, index_from, switches, with_numbers

TOLERANCE = 1e-12
VERSIONS = [name for name, subject in subjects().items() if subject.group == "version"]

#: Each kind of switch, on one subject that has it.
QUICK: list[tuple[str, dict[str, Any]]] = [
    ("v2", {"scale_scores": 10}), ("v5", {"no_sqrt_D": True}), ("v7", {"heads": 1}), ("v8", {"no_mask": True}),
]  # fmt: skip
ALL = [
    (name, {switch: value})
    for name in VERSIONS
    for switch, value in (("scale_scores", 3), ("no_sqrt_D", True), ("no_sqrt_D", False), ("no_mask", True))
    if (name not in ("v1", "v2") or switch != "no_sqrt_D") and (name != "v14" or switch != "no_mask")
]


def test_the_subjects() -> None:
    groups = {"version", "layer", "transformer", "model"}
    found = {group: [s.name for s in subjects().values() if s.group == group] for group in groups}
    assert found["version"] == [f"v{i}" for i in range(1, 15)] and found["model"] == ["g2p"]
    assert found["transformer"] == ["encoder_layer", "decoder_layer"] and "tiled_attention" not in subjects()
    assert {"softmax", "layer_norm", "attention", "mixture_of_experts"} <= {*found["layer"]}
    assert sum(map(len, found.values())) == len(subjects())


def assert_right(name: str, chosen: dict[str, Any]) -> Any:
    page = build(name, {"switches": chosen})
    assert max(page.trace.errors().values()) <= TOLERANCE
    assert {switch.name: switch.value for switch in page.switches}.items() >= chosen.items()
    return page


@pytest.mark.parametrize(("name", "chosen"), QUICK)
def test_gradients_follow_a_switch(name: str, chosen: dict[str, Any]) -> None:
    assert_right(name, chosen)


@pytest.mark.long
@pytest.mark.parametrize(("name", "chosen"), ALL)
def test_gradients_follow_every_switch_of_a_version(name: str, chosen: dict[str, Any]) -> None:
    assert_right(name, chosen)


@pytest.mark.long
@pytest.mark.parametrize("name", ["encoder_layer", "decoder_layer"])
@pytest.mark.parametrize("chosen", [{"heads": 4}, {"norm": "pre"}, {"no_mask": True}, {"heads": 1, "norm": "pre"}])
def test_gradients_follow_every_switch_of_a_layer(name: str, chosen: dict[str, Any]) -> None:
    page = assert_right(name, chosen)
    for part in page.trace.parts.values():
        assert max(part.errors().values(), default=0) <= TOLERANCE


def scores(name: str, **changes: Any) -> Any:
    found = build(name, changes).shown
    return found["E" if "E" in found else "e" if "e" in found else "S"].array


def longer(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.long) for name in names]


@pytest.mark.parametrize("name", ["v1", "v2", "v5", "softmax", *longer("v3", "v8", "v9", "v13")])
def test_the_scale_of_the_scores(name: str) -> None:
    assert np.allclose(scores(name, switches={"scale_scores": 10}), 10 * scores(name), rtol=1e-14, atol=0)


def test_scores_can_be_scaled_to_nothing() -> None:
    assert (scores("v5", switches={"scale_scores": 0}) == 0).all()


def test_without_the_root_of_the_width() -> None:
    assert np.allclose(scores("v5", switches={"no_sqrt_D": True}), 2 * scores("v5"))          # D_Q = 4
    both = {"no_sqrt_D": True, "scale_scores": 10}
    assert np.allclose(scores("v5", switches=both), 20 * scores("v5"))
    assert {s.name: s.value for s in switches("v5")}["no_sqrt_D"] is False


@pytest.mark.long
def test_with_the_root_of_the_width_where_the_example_has_none() -> None:
    assert np.allclose(scores("v10", switches={"no_sqrt_D": False}) * np.sqrt(2), scores("v10"))   # example: s = 1
    assert {s.name: s.value for s in switches("v10")}["no_sqrt_D"] is True


@pytest.mark.parametrize("name", ["v8", *longer("v11", "v13")])
def test_without_a_mask_a_query_sees_what_follows(name: str) -> None:
    A, seen = (build(name, {"switches": {"no_mask": no}}).shown["A"].array for no in (False, True))
    assert A is not None and seen is not None
    assert (A[..., 0, 1:] == 0).all() and (seen > 0).all()


def test_heads_are_those_that_fit() -> None:
    assert [tuple(switch) for switch in switches("v7") if switch.name == "heads"] == [("heads", "choice", 2, (1, 2))]
    assert all(switch.name != "heads" for name in ("v8", "v10") for switch in switches(name))
    assert build("v7", {"switches": {"heads": 1}}).shown["A"].array.shape == (1, 1, 2)   # type: ignore[union-attr]


def test_numbers_that_are_changed() -> None:
    numbers = {"X": {"0,1": 2.5}, "dY": {"1,0": -3}, "mask": {"0,1": False}}
    page, before = build("v5", {"numbers": numbers}), build("v5")
    X, mask = page.shown["X"].array, page.shown["mask"].array
    assert X is not None and mask is not None and X[0, 1] == 2.5 and not mask[0, 1] and mask[1].all()
    Q, W_K, W_V = (page.shown[name].array for name in ("Q", "W_K", "W_V"))
    Y, cache = v5.forward(Q, X, W_K, W_V, mask)                # type: ignore[arg-type]
    dQ, dX, *_ = v5.backward(np.array([[1.0], [-3.0]]), cache)
    assert np.array_equal(page.trace.Y, Y) and np.array_equal(page.trace.dX, dX) and np.array_equal(page.trace.dQ, dQ)
    assert before.shown["X"].array[0, 1] == 0.0 and example("v5").named["X"][0, 1] == 0.0   # type: ignore[index]
    assert page.as_dict()["loss"] == float((Y * [[1.0], [-3.0]]).sum())


def test_numbers_of_a_layer_that_are_changed() -> None:
    numbers = {"self_attention.W_Q": {"1,0": 3}, "dY": {"0,0": 5}, "pads": {"0,0,0": False}, "X": {"2,1": 0.5}}
    page = build("encoder_layer", {"numbers": numbers})
    attention = page.trace.parts["self_attention"]
    assert attention.W_Q[1, 0] == 3 and page.trace.X[2, 1] == 0.5 and (attention.A[..., 0] == 0).all()
    assert page.trace["X (3)"].gradient[0, 0] == 5             # type: ignore[index]
    assert build("encoder_layer").trace["X (3)"].gradient[0, 0] != 5   # type: ignore[index]
    assert max(page.trace.errors().values()) <= TOLERANCE


ARRAYS = "numbers: expected arrays of Q, X, W_K, W_V, mask, dY with their indices, got"
RANGE = "expected a number from -1e6 to 1e6, got"
WRONG: list[tuple[Any, Any, str]] = [
    ("v15", {}, "subject: expected one of v1, v2, "),
    (None, {}, "subject: expected one of v1, v2, "),
    ("v5", {"colour": 1}, "changes: expected a mapping with numbers, switches, part, got "),
    ("v5", [], "changes: expected a mapping with numbers, switches, part, got "),
    ("v5", {"word": "knight"}, "word: expected none for this subject, got 'knight'"),
    ("g2p", {"numbers": {"X": {}}}, "numbers: expected none for this subject, got "),
    ("embedding", {"numbers": {"ids": {"0": 99}}}, "ids: expected ids from 0 to 2, got 99"),
    ("v5", {"numbers": 3}, "numbers: expected a mapping, got 3"),
    ("v5", {"switches": "x"}, "switches: expected a mapping, got 'x'"),
    ("v5", {"part": "encoder.0"}, "part: expected one of none, got 'encoder.0'"),
    ("v5", {"part": 3}, "part: expected one of none, got 3"),
    ("encoder_layer", {"part": "x"}, "part: expected one of norm_1, self_attention, norm_2, feed_forward, got 'x'"),
    ("v5", {"numbers": {"Z": {"0,0": 1}}}, f"{ARRAYS} 'Z'"),
    ("v5", {"numbers": {"X": 1}}, f"{ARRAYS} 'X'"),
    ("v5", {"numbers": {"X": {"0,2": 1}}}, "numbers.X: expected an index into (2, 2), got '0,2'"),
    ("v5", {"numbers": {"X": {"-1,0": 1}}}, "numbers.X: expected an index into (2, 2), got '-1,0'"),
    ("v5", {"numbers": {"X": {"0": 1}}}, "numbers.X: expected an index into (2, 2), got '0'"),
    ("v5", {"numbers": {"X": {3: 1}}}, "numbers.X: expected an index into (2, 2), got '3'"),
    ("v5", {"numbers": {"X": {"0,0": float("nan")}}}, "numbers.X: expected a number, got nan"),
    ("v5", {"numbers": {"X": {"0,0": float("inf")}}}, "numbers.X: expected a number, got inf"),
    ("v5", {"numbers": {"X": {"0,0": "2"}}}, "numbers.X: expected a number, got '2'"),
    ("v5", {"numbers": {"X": {"0,0": True}}}, "numbers.X: expected a number, got True"),
    ("v5", {"numbers": {"X": {"0,0": -1000001.5}}}, f"numbers.X: {RANGE} -1000001.5"),
    ("v5", {"numbers": {"mask": {"0,0": 1}}}, "numbers.mask: expected true or false, got 1"),
    ("embedding", {"numbers": {"ids": {"0": 0.5}}}, "numbers.ids: expected a whole number, got 0.5"),
    ("v1", {"switches": {"no_sqrt_D": True}}, "switches: expected scale_scores or no_mask, got 'no_sqrt_D'"),
    ("relu", {"switches": {"heads": 1}}, "switches: expected none for this subject, got 'heads'"),
    ("v7", {"switches": {"heads": 3}}, "switches.heads: expected one of 1, 2, got 3"),
    ("v7", {"switches": {"heads": True}}, "switches.heads: expected one of 1, 2, got True"),
    ("v7", {"switches": {"no_mask": 1}}, "switches.no_mask: expected one of False, True, got 1"),
    ("v5", {"switches": {"scale_scores": "x"}}, "switches.scale_scores: expected a number, got 'x'"),
    ("v5", {"switches": {"scale_scores": 1e7}}, f"switches.scale_scores: {RANGE} 10000000.0"),
    ("v5", {"numbers": {"X": {"0,0": 10**400}}}, f"numbers.X: {RANGE} an integer of 1329 bits"),
    ("encoder_layer", {"switches": {"norm": "x"}}, "switches.norm: expected one of post, pre, got 'x'"),
    ("encoder_layer", {"numbers": {"W": {}}}, "numbers: expected arrays of X, pads, self_attention.W_Q, "),
    ("g2p", {"word": 3}, "word: expected a text, got 3"),
    ("g2p", {"word": "zoë7"}, "word: expected letters that the model knows, got 'ë' '7'"),
    ("g2p", {"word": "read", "target": "R EY7"}, "target: expected symbols that the model knows, got 'EY7'"),
    ("g2p", {"word": "read", "target": 3}, "target: expected a text, got 3"),
]  # fmt: skip


@pytest.mark.parametrize(("subject", "changes", "message"), WRONG)
def test_nonsense_is_refused(subject: Any, changes: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        build(subject, changes)
    assert str(caught.value) == message or (message.endswith(" ") and str(caught.value).startswith(message))


def test_entries_that_are_not_there_are_refused() -> None:
    page = build("v4")
    for name, index, is_gradient, message in [
        ("Z", [0, 0], False, "name: expected one of Q, X, mask, E, E (2), A, Y, got 'Z'"),
        (["E"], [0, 0], False, "name: expected one of Q, X, mask, E, E (2), A, Y, got ['E']"),
        ("E", [0, 5], False, "index: expected an index into (2, 2), got '0,5'"),
        ("E", [0], True, "index: expected an index into (2, 2), got '0'"),
        ("E", None, True, "index: expected an index into (2, 2), got 'None'"),
        ("E", [True, 0], True, "index: expected an index into (2, 2), got 'True,0'"),
        ("E (2)", [0, 0], False, "name: E (2) has no numbers of its own"),
        ("mask", [0, 0], True, "name: mask has no gradient"),
    ]:
        with pytest.raises(ValueError) as caught:
            entry(page, name, index, is_gradient)
        assert str(caught.value) == message


def test_the_index_of_a_single_number() -> None:
    assert index_from("X", [], ()) == () and index_from("X", [""], ()) == ()
    assert with_numbers({"x": np.array(1.0)}, "x", {"": 2}) == 2.0
