"""The cases as files for other languages, and the judgement on the answers that they write back.

README.md beside this file documents index.json, which is all that a program in another language needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from npattn._internal.checks import Array, check_choice
from npattn.conformance.case import KINDS, Case, cases
from npattn.conformance.judging import Outcome, measure, title
from npattn.conformance.runner import Report, chosen

#: The version of index.json. It grows when a program that reads the old one would misread the new one.
VERSION = 1
FORMATS = ("npz", "safetensors", "raw")


def export(
    folder: Path,
    *,
    of: Sequence[str] = tuple(KINDS),
    only: Sequence[str] = (),
    dtype: str = "float32",
    format: str = "raw",
) -> int:
    """Write cases, right answers and bounds into a folder; return how many cases.

    - folder: is made; must be empty or not there.
    - of: the kinds of layer.
    - only: words; a case is written if its name contains one of them. () for every case.
    - dtype: holds the inputs exactly; bounds are those of its arithmetic.
    - format: "npz", "safetensors" (with the package of this name) or "raw", one file an array.

    Raises FileExistsError for a folder with files in it, ValueError for another format.
    """
    check_choice("format", format, FORMATS)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    entries = []
    for kind in of:
        (folder / kind).mkdir(parents=True)
        for number, case in enumerate(chosen(kind, dtype, only)):
            entries.append(_write_case(folder, f"{kind}/{number:02}", case, format))
    index = {"version": VERSION, "dtype": dtype, "format": format, "cases": entries}
    (folder / "index.json").write_bytes((json.dumps(index, indent=1, ensure_ascii=False) + "\n").encode())
    return len(entries)


def stored(dtype: str) -> str:
    """Return the dtype of the files: float32 holds all numbers of 16 bits, and every language reads it."""
    return "float64" if dtype == "float64" else "float32"


def _write_case(folder: Path, place: str, case: Case, format: str) -> dict[str, Any]:
    kept = stored(case.dtype)
    numbers = {**case.inputs, "cotangent": case.cotangent} if case.gradients else case.inputs
    arrays = {name: X.astype(kept) for name, X in numbers.items()}
    arrays |= {name: value for name, value in case.options.items() if isinstance(value, np.ndarray)}
    bounds = case.bounds()
    for name, value in case.answer.items():
        arrays |= {f"right.{name}": value, f"bound.{name}": bounds[name]}
    (folder / f"{place}").mkdir()
    SAVE[format](folder / place, "case", {name: np.ascontiguousarray(X) for name, X in arrays.items()})
    return {
        "name": case.name,
        "of": case.of,
        "folder": place,
        "options": {name: value for name, value in case.options.items() if name not in arrays},
        "inputs": list(case.gradients),
        "arrays": {name: {"dtype": X.dtype.name, "shape": list(X.shape)} for name, X in arrays.items()},
        "answer": {name: {"dtype": kept, "shape": list(X.shape)} for name, X in case.answer.items()},
        "catches": list(case.catches),
    }


def _save_raw(folder: Path, name: str, arrays: Mapping[str, Array]) -> None:
    for key, X in arrays.items():
        (folder / f"{key}.bin").write_bytes(X.astype(X.dtype.newbyteorder("<")).tobytes())


def _save_npz(folder: Path, name: str, arrays: Mapping[str, Any]) -> None:
    np.savez_compressed(folder / f"{name}.npz", **arrays)


def _save_safetensors(folder: Path, name: str, arrays: Mapping[str, Array]) -> None:
    import_module("safetensors.numpy").save_file(dict(arrays), folder / f"{name}.safetensors")


SAVE: dict[str, Callable[[Path, str, Mapping[str, Array]], None]] = {
    "npz": _save_npz,
    "safetensors": _save_safetensors,
    "raw": _save_raw,
}


def compare(folder: Path) -> list[Report]:
    """Return a report for every kind of layer in a folder that `export` wrote, on the answers that lie in it.

    - folder: has index.json, and answers where README.md says.

    Raises ValueError for an index of another version, or one whose cases this release does not have.
    """
    index = json.loads((folder / "index.json").read_bytes())
    if index.get("version") != VERSION:
        raise ValueError(f"{folder / 'index.json'}: expected version {VERSION}, got {index.get('version')!r}")
    found: dict[str, list[Outcome]] = {}
    for entry in index["cases"]:
        known = {case.name: case for case in cases(entry["of"], index["dtype"])}
        if entry["name"] not in known:
            raise ValueError(f"{folder / 'index.json'}: this release has no case {entry['of']}: {entry['name']}")
        outcome = _judge_files(folder / entry["folder"], known[entry["name"]], index["format"])
        found.setdefault(entry["of"], []).append(outcome)
    return [Report(of, index["dtype"], tuple(outcomes)) for of, outcomes in found.items()]


def _judge_files(folder: Path, case: Case, format: str) -> Outcome:
    """Judge the answer in the folder of a case."""
    read = LOAD[format](folder, list(case.answer), stored(case.dtype))
    if not read:
        return Outcome(case.name, "skipped", {}, {}, "no answer was written")
    answer = {}
    for name, value in read.items():
        shape = case.answer[name].shape
        if value.size != case.answer[name].size:
            message = f"{title(name)}: expected {case.answer[name].size} numbers in the shape {shape}, got {value.size}"
            return Outcome(case.name, "failed", {}, {}, message)
        answer[name] = value.reshape(shape).astype(np.float64)
    return measure(case, answer)


def _load_raw(folder: Path, names: Sequence[str], dtype: str) -> dict[str, Array]:
    paths = {name: folder / f"answer.{name}.bin" for name in names}
    return {name: np.fromfile(path, np.dtype(dtype).newbyteorder("<")) for name, path in paths.items() if path.exists()}


def _load_npz(folder: Path, names: Sequence[str], dtype: str) -> dict[str, Array]:
    path = folder / "answer.npz"
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in names if name in file}


def _load_safetensors(folder: Path, names: Sequence[str], dtype: str) -> dict[str, Array]:
    path = folder / "answer.safetensors"
    read = import_module("safetensors.numpy").load_file(path) if path.exists() else {}
    return {name: read[name] for name in names if name in read}


LOAD: dict[str, Callable[[Path, Sequence[str], str], dict[str, Array]]] = {
    "npz": _load_npz,
    "safetensors": _load_safetensors,
    "raw": _load_raw,
}
