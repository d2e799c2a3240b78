"""Versions 8 to 14 and the layers of today's models agree with PyTorch 2.13.0 and transformers 5.24.0 in float64.

The numbers are in golden/modern.npz and golden/modern_v13_v14.npz, beside the scripts that made them. The versions have
more outputs than one, each with a cotangent of its own: what the cache hands to the next call, as K and V or a state.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import npattn
from npattn import layers
from npattn.layers import RotaryFrequencies
from support.golden_numbers import AGREEMENT, errors, names_of_modern_cases, read

CASES = read("modern") | read("modern_v11_v12") | read("modern_v13_v14") | read("modern_experts")
FREQUENCIES = [case for case in CASES if case.startswith("rotary_frequencies")]
VERSIONS = [case for case in CASES if case.startswith("v")]
LAYERS = [case for case in CASES if case not in FREQUENCIES + VERSIONS]


def assert_agree(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    assert {name: error for name, error in errors(got, want).items() if not error <= AGREEMENT} == {}


def options_of(case: str) -> dict[str, Any]:
    """Return the options; an option `theta` with its factor is a RotaryFrequencies."""
    options = dict(CASES[case]["option"])
    if "theta" in options:
        options["frequencies"] = RotaryFrequencies(options.pop("theta"), options.pop("factor", 1.0))
    return options


def test_every_modern_version_has_golden_numbers() -> None:
    """In one of the files golden/modern*.npz. test_golden.py has the same of layers."""
    modern = {version.module.__name__.rpartition(".")[2] for version in npattn.attention.MODERN_VERSIONS}
    assert {name for name in names_of_modern_cases() if re.match(r"v\d", name)} == modern
    assert len(VERSIONS) > 12 and len(LAYERS) > 15 and len(FREQUENCIES) == 8


@pytest.mark.parametrize("case", VERSIONS)
def test_a_version(case: str) -> None:
    golden = CASES[case]
    version = getattr(npattn.attention, case.partition(".")[0])
    Z, cache = version.forward(**golden["argument"], **options_of(case))
    dZ, *grown = golden["cotangent"].values()
    handed = {name: getattr(cache, name) for name in golden["cotangent"] if name != "value"}
    assert_agree({"value": Z} | handed, golden["output"])
    given = [gradient for gradient in version.backward(dZ, cache, *grown) if gradient is not None]
    assert_agree(dict(zip(golden["argument"], given, strict=True)), golden["gradient"])


@pytest.mark.parametrize("case", LAYERS)
def test_a_layer(case: str) -> None:
    golden, name = CASES[case], case.partition(".")[0]
    Y, cache = getattr(layers, name)(**golden["argument"], **options_of(case))
    dY, *grown = golden["cotangent"].values()
    handed = {name: getattr(cache, name) for name in golden["cotangent"] if name != "value"}
    assert_agree({"value": Y} | handed, golden["output"])
    gradients = getattr(layers, f"{name}_backward")(dY, cache, *grown)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    given = [gradient for gradient in gradients if gradient is not None]
    assert_agree(dict(zip(golden["argument"], given, strict=True)), golden["gradient"])


@pytest.mark.parametrize("case", FREQUENCIES)
def test_rotary_frequencies(case: str) -> None:
    """Each frequency by itself: the last ones are a thousandth of the first."""
    golden = CASES[case]
    options = {name: tuple(o) if isinstance(o, np.ndarray) else o for name, o in golden["option"].items()}
    theta, factor = layers.rotary_frequencies(**options)
    np.testing.assert_allclose(theta, golden["output"]["theta"], rtol=1e-14)
    assert factor == pytest.approx(float(golden["output"]["factor"]), rel=1e-15)
