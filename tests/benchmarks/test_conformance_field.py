"""The table of the field: npattn's own rows, and what it says of packages that are missing or don't import."""

from __future__ import annotations

import pytest

import conformance_field
from npattn.conformance import cases


def test_the_rows_of_npattn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(conformance_field, "find_spec", lambda package: None)
    conformance_field.main(["--dtypes", "float32,bfloat16"])
    table, *missing = capsys.readouterr().out.strip().split("\n\n")
    found = {cells[1]: cells[2:6] for cells in ([c.strip() for c in row.split("|")] for row in table.splitlines()[2:])}
    assert found == {
        "npattn, core": ["float32", "54", "0", "0"],
        "npattn, tiled": ["float32", "54", "0", "0"],
        "npattn, fast path of training": ["float32", "32", "0", "22"],
    }
    assert all(sum(map(int, numbers[1:])) == len(cases("attention", "float32")) for numbers in found.values())
    assert missing == [f"{package} is not installed: its rows are left out" for package in conformance_field.PACKAGES]


def test_what_does_not_import_has_a_row_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = conformance_field.Entry("broken", "numpy", print, error="ImportError: no such name")
    monkeypatch.setattr(conformance_field, "PACKAGES", {"numpy": lambda: iter([broken])})
    assert list(conformance_field.rows(["float32"], "broken")) == [
        "| broken | – | – | – | – | – | ImportError: no such name |"
    ]
