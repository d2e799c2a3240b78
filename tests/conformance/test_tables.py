"""The tables of cases and faults, built once more: they draw the same numbers, and faults keep their numbers."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from npattn.conformance import cases, drafts, faults, model_faults
from npattn.conformance.case import KINDS
from npattn.conformance.judging import planted_answer
from npattn.conformance.planting import plant


def again(module: ModuleType) -> Any:
    """Return the module, read and run a second time."""
    spec = spec_from_file_location(module.__name__, module.__file__)
    assert spec is not None and spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_drafts_draw_the_same_again() -> None:
    made = again(drafts).DRAFTS
    assert {of: list(table) for of, table in made.items()} == {of: list(table) for of, table in drafts.DRAFTS.items()}
    for of, table in made.items():
        for case in cases(of):
            draft = table[case.name]
            drawn = draft.make(np.random.default_rng([crc32(of.encode()), crc32(case.name.encode())]))
            given = {**case.options, **case.inputs}
            assert (drawn | draft.options).keys() == given.keys(), case
            assert all(np.array_equal(value, given[name]) for name, value in (drawn | draft.options).items()), case
            assert draft.layout == case.layout


def test_gamma_and_beta_have_the_width_of_a_row() -> None:
    made = drafts.norm(2, 3, 6)(np.random.default_rng(0))
    assert {name: X.shape for name, X in made.items()} == {"X": (2, 3, 6), "gamma": (6,), "beta": (6,)}


def test_drawn_queries_of_low_rank_and_with_heavy_tails() -> None:
    made = {name: np.zeros((2, 5000, 4)) for name in "QKV"}
    rank = drafts._low_rank(made, np.random.default_rng(0))
    assert {name: (X.shape, np.linalg.matrix_rank(X[0])) for name, X in rank.items()} == {
        name: ((2, 5000, 4), 2) for name in "QK"
    }
    tails = drafts._heavy_tails(made, np.random.default_rng(0))
    assert {name: (X.min(), X.max()) for name, X in tails.items()} == dict.fromkeys("QKV", (-30, 30))


def test_a_planted_answer_of_another_shape_is_none() -> None:
    case = cases("softmax")[0]
    assert planted_answer(case, faults.fault("", d_scores=lambda self, dA: dA[0])) is None
    assert plant("softmax").__name__ == "Planted"


def test_tiles_have_64_keys() -> None:
    steps: Any = faults.FAULTS["attention"]
    E = np.broadcast_to(np.arange(130.0), (2, 3, 130))
    shift = np.repeat([63.0, 127.0, 129.0], [64, 64, 2])
    assert np.array_equal(steps["tiles not rescaled"].steps["exponentials"](None, E, None), np.exp(E - shift))
    Y = steps["last tile lost"].steps["output"](None, np.ones((2, 3, 130)), np.ones((2, 130, 1)))
    assert np.array_equal(Y, np.full((2, 3, 1), 128))


def number(answer: dict[str, Any]) -> float:
    """Return one number that changes with every entry, NaN and infinity among them."""
    total = 0.0
    for X in answer.values():
        flat = np.nan_to_num(np.asarray(X, np.float64).ravel(), nan=3.0, posinf=5.0, neginf=7.0)
        total += float(np.abs(flat + 1) @ np.cos(np.arange(flat.size)) + np.abs(flat).sum())
    return total


def numbers(of: str, table: dict[str, Any]) -> dict[str, float]:
    """Return for every fault the sum over all cases that it can be computed on."""
    small = [case for case in cases(of) if case.cotangent.size <= 128]
    found = {}
    for name, fault in table.items():
        answers = (planted_answer(case, fault) for case in small)
        found[name] = sum(number(answer) for answer in answers if answer is not None)
    return found


@pytest.mark.parametrize("of", KINDS)
def test_faults_stay_what_they_are(of: str) -> None:
    """A fault that changes is a decision. faults.json has a number of its answers."""
    kept = json.loads(Path(__file__).with_name("faults.json").read_text(encoding="utf-8"))[of]
    made = (again(faults).FAULTS | again(model_faults).FAULTS)[of]
    assert {name: fault.says for name, fault in made.items()} == {
        name: fault.says for name, fault in faults.FAULTS[of].items()
    }
    assert numbers(of, made) == pytest.approx(kept, rel=1e-7)
