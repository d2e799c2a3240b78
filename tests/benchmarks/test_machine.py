"""The line about the machine names the vector instructions that a process uses, and says when they are emulated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from _common import machine

ABOUT: dict[str, Any] = {
    "cpu": "a processor", "cores": 2, "environment": {}, "torch": None,
    "npattn": {"python": "3.11", "numpy": "2.4", "blas": "OpenBLAS 0.3"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("baseline", "found", "expected"),
    [
        (["X86_V2"], ["X86_V3", "X86_V4", "AVX512_ICL"], "AVX-512"),            # NumPy 2.4
        (["X86_V2"], ["X86_V3", "AVX512_ICL"], "AVX2"),                         # X86_V4 is disabled
        (["SSE", "SSE2", "SSE3"], ["AVX", "AVX2", "AVX512F", "AVX512_SKX"], "AVX-512"),   # NumPy 2.0
        (["SSE", "SSE2", "SSE3"], ["AVX", "FMA3", "AVX2"], "AVX2"),
        (["X86_V3"], [], "AVX2"),                                               # built for one kind of processor
        (["X86_V2"], [], "X86_V2"),
        (["NEON", "ASIMD"], [], "ASIMD"),
        ([], [], "none"),
    ],
)
def test_the_vector_instructions_of_numpy(baseline: list[str], found: list[str], expected: str) -> None:
    assert machine.numpy_vectors({"baseline": baseline, "found": found, "not found": ["AVX512_SPR"]}) == expected


def test_disabled_features_are_not_reported() -> None:
    """In processes of their own, because NumPy reads the variables when it is imported."""
    script = "import numpy; from _common import machine; print(machine.numpy_versions()['vectors'])"
    script += "; print(*numpy.show_config(mode='dicts')['SIMD Extensions'].get('found', []))"
    free = {name: value for name, value in os.environ.items() if name not in machine.EMULATION_VARIABLES}

    def vectors_and_features(environment: dict[str, str]) -> list[str]:
        command, folder = [sys.executable, "-c", script], Path(machine.__file__).parents[1]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
        return done.stdout.split("\n")

    vectors, features, _ = vectors_and_features(free)
    wide = [name for name in features.split() if name == "X86_V4" or name.startswith("AVX512")]
    restricted, *_ = vectors_and_features(free | {"NPY_DISABLE_CPU_FEATURES": " ".join(wide)})
    assert restricted == ("AVX2" if vectors == "AVX-512" else vectors)


def test_the_line_names_the_instructions_of_numpy_blas_and_torch() -> None:
    ours = ABOUT["npattn"] | {"vectors": "AVX-512", "blas_kernel": ["Haswell", "Nehalem"], "threadpoolctl": "3.8"}
    theirs = {"torch": "2.13", "vectors": "AVX2", "blas": "MKL", "threads": 2}
    assert machine.summary(ABOUT | {"npattn": ours, "torch": theirs}) == (
        "a processor, 2 cores; Python 3.11; NumPy 2.4 (AVX-512) on OpenBLAS 0.3 (Haswell: AVX2, Nehalem); "
        "threadpoolctl 3.8; PyTorch 2.13 (AVX2) with MKL on 2 threads"
    )


def test_the_line_of_a_result_without_instructions() -> None:
    assert machine.summary(ABOUT) == (
        "a processor, 2 cores; Python 3.11; NumPy 2.4 on OpenBLAS 0.3; no threadpoolctl; no PyTorch: npattn alone"
    )


def test_the_line_says_emulated_when_a_variable_restricts_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in machine.THREAD_VARIABLES + machine.EMULATION_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "versions", lambda python, library: ABOUT["npattn"] if library == "numpy" else None)
    assert "emulated" not in machine.summary(machine.describe(None))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "X86_V4")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine.summary(machine.describe(None)).endswith(
        "npattn alone; OMP_NUM_THREADS=1; emulated by OPENBLAS_CORETYPE=Haswell; "
        "emulated by NPY_DISABLE_CPU_FEATURES=X86_V4"
    )
