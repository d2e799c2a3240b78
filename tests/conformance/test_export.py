"""The exported cases: everything that index.json says is true, and answers written beside them are judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npattn.conformance
from npattn.conformance import Outcome, cases
from npattn.conformance.case import KINDS
from npattn.conformance.export import FORMATS, VERSION, compare, export
from npattn.conformance.judging import planted_answer

README = Path(npattn.conformance.__file__).with_name("README.md").read_text(encoding="utf-8")


def load(folder: Path, entry: dict[str, Any], format: str) -> dict[str, Any]:
    """Read the arrays of a case with nothing but the index."""
    place = folder / entry["folder"]
    if format == "npz":
        return dict(np.load(place / "case.npz"))
    if format == "safetensors":
        return pytest.importorskip("safetensors.numpy").load_file(place / "case.safetensors")
    return {
        name: np.frombuffer((place / f"{name}.bin").read_bytes(), array["dtype"]).reshape(array["shape"])
        for name, array in entry["arrays"].items()
    }


def save(folder: Path, entry: dict[str, Any], format: str, answer: dict[str, Any]) -> None:
    place = folder / entry["folder"]
    if format == "npz":
        np.savez(place / "answer.npz", **answer)
    elif format == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file(answer, place / "answer.safetensors")
    else:
        for name, X in answer.items():
            (place / f"answer.{name}.bin").write_bytes(X.tobytes())


@pytest.mark.parametrize("format", FORMATS)
def test_the_index_says_all(tmp_path: Path, format: str) -> None:
    if format == "safetensors":
        pytest.importorskip("safetensors")
    folder = tmp_path / "cases"
    assert export(folder, only=("mask", "positions"), format=format) == 14
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert (index["version"], index["dtype"], index["format"]) == (VERSION, "float32", format) == (1, "float32", format)
    assert list(index) == ["version", "dtype", "format", "cases"]
    for entry in index["cases"]:
        case = next(case for case in cases(entry["of"], "float32") if case.name == entry["name"])
        arrays = load(folder, entry, format)
        assert list(entry) == ["name", "of", "folder", "options", "inputs", "arrays", "answer", "catches"]
        assert {name: [X.dtype.name, list(X.shape)] for name, X in arrays.items()} == {
            name: [array["dtype"], array["shape"]] for name, array in entry["arrays"].items()
        }
        assert entry["inputs"] == list(case.inputs) and entry["catches"] == list(case.catches)
        given = {name: arrays[name] for name in entry["arrays"] if name in case.options} | entry["options"]
        assert given.keys() == case.options.keys()
        assert all(np.array_equal(given[name], value) for name, value in case.options.items())
        assert all(np.array_equal(arrays[name], X) for name, X in case.inputs.items())
        assert np.array_equal(arrays["cotangent"], case.cotangent)
        for name, X in case.answer.items():
            assert np.array_equal(arrays[f"right.{name}"], X)
            assert np.array_equal(arrays[f"bound.{name}"], case.bounds()[name])
            assert entry["answer"][name] == {"dtype": "float32", "shape": list(X.shape)}
        save(folder, entry, format, {name: np.ascontiguousarray(X.astype("f4")) for name, X in case.answer.items()})
    reports = compare(folder)
    assert [report.of for report in reports] == ["attention", "rotary", "softmax"]
    assert all(report.ok and not report.counts["skipped"] for report in reports)
    assert all(0 < outcome.worst < 1 for outcome in reports[2].outcomes)


@pytest.mark.long
def test_all_cases_are_small(tmp_path: Path) -> None:
    assert export(tmp_path) == sum(len(cases(of)) for of in KINDS)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 5e6
    assert [report.counts["skipped"] for report in compare(tmp_path)] == [len(cases(of)) for of in KINDS]
    outcome = compare(tmp_path)[0].outcomes[0]
    assert (outcome.status, outcome.message) == ("skipped", "no answer was written")


def test_answers_that_are_wrong_or_lacking(tmp_path: Path) -> None:
    assert export(tmp_path, of=("softmax",), only=("plain", "batch", "mask"), dtype="bfloat16") == 3
    assert not (tmp_path / "attention").exists()
    entries = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))["cases"]
    assert [entry["folder"] for entry in entries] == ["softmax/00", "softmax/01", "softmax/02"]
    found = {case.name: case for case in cases("softmax", "bfloat16")}
    save(tmp_path, entries[0], "raw", {"output": np.ones(7, "f4")})
    save(tmp_path, entries[1], "raw", {"output": found["batch"].output.astype("f4")})
    save(tmp_path, entries[2], "raw", {"E": found["mask"].gradients["E"].astype("f4")})
    (report,) = compare(tmp_path)
    assert [(outcome.status, outcome.message) for outcome in report.outcomes] == [
        ("failed", "output: expected 20 numbers in the shape (4, 5), got 7"),
        ("passed", "no gradients"),
        ("passed", "no output"),
    ]
    assert report.dtype == "bfloat16"
    assert report.outcomes[0][:4] == ("plain", "failed", {}, {})


def test_an_index_that_cannot_be_judged(tmp_path: Path) -> None:
    export(tmp_path, of=("softmax",), only=("plain",))
    path = tmp_path / "index.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"version": 1', '"version": 2'), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        compare(tmp_path)
    assert str(error.value) == f"{path}: expected version 1, got 2"
    path.write_text(text.replace('"plain"', '"plane"'), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        compare(tmp_path)
    assert str(error.value) == f"{path}: this release has no case softmax: plane"
    with pytest.raises(ValueError, match=r"^format: expected "):
        export(tmp_path / "new", format="csv")


def test_float64_is_stored_as_it_is(tmp_path: Path) -> None:
    export(tmp_path, of=("softmax",), only=("plain",), dtype="float64")
    assert compare(tmp_path)[0].outcomes == (Outcome("plain", "skipped", {}, {}, "no answer was written"),)
    (entry,) = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))["cases"]
    assert entry["arrays"]["E"]["dtype"] == entry["answer"]["E"]["dtype"] == "float64"
    case = cases("softmax")[0]
    answer = planted_answer(case, None)
    assert answer is not None
    save(tmp_path, entry, "raw", answer)
    assert compare(tmp_path)[0].ok


def test_adam_has_no_cotangent_and_no_gradients(tmp_path: Path) -> None:
    export(tmp_path, of=("adam",), only=("five",))
    (entry,) = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))["cases"]
    assert entry["inputs"] == [] and list(entry["answer"]) == ["output"]
    assert list(entry["arrays"]) == ["p", "gradients", "right.output", "bound.output"]
    assert entry["arrays"]["gradients"] == {"dtype": "float32", "shape": [5, 8]}
    assert entry["options"] == {"lr": 0.0625, "betas": [0.875, 0.96875], "eps": 2.0**-20}
    save(tmp_path, entry, "raw", {"output": cases("adam", "float32")[2].output.astype("f4")})
    (outcome,) = compare(tmp_path)[0].outcomes
    assert (outcome.status, outcome.message) == ("passed", "")


def test_the_readme_documents_every_key(tmp_path: Path) -> None:
    export(tmp_path, of=("attention",), only=("everything",))
    index = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))
    assert f"## index.json, version {VERSION}" in README
    options = {name for of in KINDS for case in cases(of) for name in case.options}
    for name in (*index, *index["cases"][0], *FORMATS, *KINDS, "cotangent", *options):
        assert f"`{name}`" in README, name


def test_a_folder_is_written_once(tmp_path: Path) -> None:
    export(tmp_path, of=("rms_norm",), only=("plain",))
    text = (tmp_path / "index.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n" and "γ not used" in text
    with pytest.raises(FileExistsError) as error:
        export(tmp_path)
    assert str(error.value) == f"{tmp_path} is not empty"


def test_an_answer_is_read_without_pickles(tmp_path: Path) -> None:
    export(tmp_path, of=("softmax",), only=("plain",), format="npz")
    np.savez(tmp_path / "softmax" / "00" / "answer.npz", output=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        compare(tmp_path)


def test_no_answer_in_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    export(tmp_path, of=("softmax",), only=("plain",), format="safetensors")
    assert compare(tmp_path)[0].outcomes[0].message == "no answer was written"
