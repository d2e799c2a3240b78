"""npattn computes what the operator tests of ONNX 1.23 expect, wherever it can express their case.

The cases come with the package: `pip install 'npattn[onnx]'`. ONNX's reference computes in the dtype of its inputs, so
a case in float16 or bfloat16 carries their rounding errors.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest

import npattn
from npattn._internal.checks import Array
from support import onnx_cases
from support.onnx_cases import RUN, Case, expected_weights

#: The largest difference, relative to the largest number of the output. For float16 and bfloat16 it is their ε.
AGREEMENT = {"float64": 1e-12, "float32": 1e-5, "float16": 2.0**-10, "bfloat16": 2.0**-7}

#: The number of cases that run, by operator and dtype.
COUNTS = {
    "Attention": {"float32": 82, "float16": 6, "bfloat16": 5},
    "FlexAttention": {"float64": 1, "float32": 8, "float16": 1},
    "LinearAttention": {"float32": 13, "float16": 1},
    "RMSNormalization": {"float32": 19},
    "RotaryEmbedding": {"float32": 8},
}

#: The cases that npattn cannot express, and why.
LEFT_OUT = {
    "test_flexattention_prob_mod": "the weights are halved after the softmax, which no option does",
}

#: The second way to compute the cases of an operator: options of its function in support/onnx_cases.py.
BY_TILES = {"attend": partial(npattn.tiled_attention, tile=3)}
OTHERWISE: dict[str, dict[str, Any]] = {
    "Attention": BY_TILES, "FlexAttention": BY_TILES, "LinearAttention": {"chunk": 3}
}  # fmt: skip


def cases(operator: str) -> dict[str, Case]:
    pytest.importorskip("onnx", reason="onnx is not installed: its operator tests are not run")
    return {case.name: case for case in onnx_cases.cases(operator)}


@pytest.mark.parametrize("operator", RUN)
def test_cases_agree(operator: str) -> None:
    expressed = {name: case for name, case in cases(operator).items() if name not in LEFT_OUT}
    assert_agree(expressed, {name: RUN[operator](case) for name, case in expressed.items()})
    assert Counter(case.dtype.name for case in expressed.values()) == COUNTS[operator]


@pytest.mark.parametrize("operator", OTHERWISE)
def test_cases_agree_by_tiles_and_in_chunks(operator: str) -> None:
    """Without the weights, which tiles do not keep."""
    expressed = {name: case for name, case in cases(operator).items() if name not in LEFT_OUT}
    for case in expressed.values():
        case.outputs.pop("qk_matmul_output", None)
    assert_agree(expressed, {name: RUN[operator](case, **OTHERWISE[operator]) for name, case in expressed.items()})


def test_the_cases_left_out_are_there() -> None:
    assert set(LEFT_OUT) <= {name for operator in RUN for name in cases(operator)}


def assert_agree(expressed: dict[str, Case], found: dict[str, dict[str, Array]]) -> None:
    worst = {name: difference(case, found[name]) for name, case in expressed.items()}
    assert {name: d for name, d in worst.items() if not d <= AGREEMENT[expressed[name].dtype.name]} == {}


def difference(case: Case, got: dict[str, Array]) -> float:
    """Return the largest difference from an expected output, relative to the largest number of that output."""
    worst = 0.0
    for name, want in case.outputs.items():
        want = expected_weights(case) if name == "qk_matmul_output" else want
        assert got[name].shape == want.shape, (case.name, name)
        worst = np.maximum(worst, np.abs(got[name] - want).max() / np.abs(want).max())     # NaN stays NaN
    return float(worst)
