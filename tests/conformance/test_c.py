"""A small attention in C is judged through the exported files alone, right and with three planted faults."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from npattn.conformance import Report
from npattn.conformance.export import compare, export

SOURCE = Path(__file__).with_name("attention.c")
COMPILER = shutil.which("cc")
FAULTS = ("the scores are not multiplied by 1/√D", "the backward of softmax lacks rowsum(A ⊙ dA)",
          "a query sees the position after its own")  # fmt: skip


def answers(folder: Path, fault: int, *only: str) -> Report:
    """Compile the program with a fault, run it on every case that it can compute, and judge what it wrote."""
    program = folder / "attention"
    command = [str(COMPILER), "-O1", "-std=c99", f"-DFAULT={fault}", "-o", str(program), str(SOURCE), "-lm"]
    subprocess.run(command, check=True, capture_output=True)
    export(folder / "cases", of=("attention",), only=only)
    for entry in json.loads((folder / "cases" / "index.json").read_text(encoding="utf-8"))["cases"]:
        options, arrays = dict(entry["options"]), entry["arrays"]
        causal, offset = options.pop("causal", False), options.pop("offset", 0)
        if options or entry["inputs"] != ["Q", "K", "V"] or len(arrays["Q"]["shape"]) > 2:
            continue                                          # it has no batch, and none of the other options
        sizes = [*arrays["Q"]["shape"][:1], *arrays["K"]["shape"], arrays["V"]["shape"][1]]
        place = folder / "cases" / entry["folder"]
        subprocess.run([program, place, *map(str, (*sizes, int(causal), offset, int("mask" in arrays)))], check=True)
    (report,) = compare(folder / "cases")
    return report


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_right(tmp_path: Path) -> None:
    report = answers(tmp_path, 0)
    assert report.ok and report.counts == {"passed": 26, "failed": 0, "skipped": 28}, str(report)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize("fault", [1, 2, 3])
def test_with_a_fault(tmp_path: Path, fault: int) -> None:
    report = answers(tmp_path, fault, "plain", "causal")
    failed = {outcome.case: outcome.message for outcome in report.outcomes if outcome.status == "failed"}
    assert not report.ok and FAULTS[fault - 1] in failed["causal"], failed
    assert ("plain" in failed) == (fault != 3)
