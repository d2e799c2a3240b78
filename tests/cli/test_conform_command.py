"""`npattn conform`: from a module in the current folder to a report, an export and a comparison."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn.cli.conform.command import words
from npattn.conformance import cases
from npattn.conformance.case import KINDS
from support.command_line import Cli

MODULE = """
from npattn.attention import dot_product
from npattn.layers import layer_norm, layer_norm_backward, softmax
attention = dot_product.scaled_dot_product_attention
attention_backward = dot_product.scaled_dot_product_attention_backward

def wrong(Q, K, V, *, causal=False, scale=None):
    return attention(Q, K, V, causal=causal)

def nothing(Q, K, V, **options):
    raise NotImplementedError

def in_float64(Q, K, V):
    return attention(*(array.astype("float64") for array in (Q, K, V)))

other_name = attention_backward
"""


@pytest.fixture
def npattn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    (tmp_path / "conform_kernel.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "conform_kernel", raising=False)
    return Cli(capsys)


def test_words() -> None:
    assert words("causal, grouped,,") == ("causal", "grouped") and words("") == ()


def test_the_help_is_enough_to_begin(npattn: Cli) -> None:
    status, out, _ = npattn("conform", "--help")
    assert status == 0
    for text in ("attention(Q, K, V, ...)", "mykernel:attention --framework torch", "--export", "exit status is 1"):
        assert text in out
    assert "conform" in npattn("--help").out


def test_a_right_implementation(npattn: Cli) -> None:
    status, out, err = npattn("conform", "conform_kernel:attention")
    assert (status, err) == (0, "") and out.splitlines()[-1] == "54 passed, 0 failed, 0 skipped"
    assert "no gradients" not in out and out.startswith("attention in float32; ")


def test_a_function_in_float64_is_told_so(npattn: Cli) -> None:
    hint = "A function that computes in NumPy's float64 is judged with --dtype float64."
    status, out, _ = npattn("conform", "conform_kernel:in_float64", "--only", "plain")
    assert status == 1 and out.splitlines()[-1] == hint
    status, out, _ = npattn("conform", "conform_kernel:in_float64", "--only", "plain", "--dtype", "float64")
    assert status == 0 and hint not in out


def test_a_wrong_one(npattn: Cli) -> None:
    status, out, err = npattn("conform", "conform_kernel:wrong", "--only", "scale,causal", "--skip", "mask,dead")
    lines = {re.split("  +", line.strip())[0]: line for line in out.splitlines()[1:-1]}
    assert (status, err) == (1, "") and "output: the option scale is not used" in lines["scale"]
    assert "left out: dead" in lines["causal, dead rows"] and "no gradients" in lines["causal, more keys"]
    assert "1 failed" in out.splitlines()[-1]
    assert npattn("conform", "conform_kernel:nothing").status == 1


def test_options_reach_the_judge(npattn: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def judge(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs, args=[function and function.__name__ for function in args])
        return original(*args, **kwargs)

    from npattn.cli.conform import command

    original = command.judge
    monkeypatch.setattr(command, "judge", judge)
    options = ["--of", "layer_norm", "--dtype", "float64", "--accumulate", "float64", "--framework", "numpy"]
    assert npattn("conform", "conform_kernel:layer_norm", *options).status == 0
    assert seen == {
        "args": ["layer_norm", "layer_norm_backward"], "framework": "numpy", "of": "layer_norm", "only": (), "skip": (),
        "dtype": "float64", "accumulate": "float64",
    }  # fmt: skip
    assert npattn("conform", "conform_kernel:attention", "--backward", "conform_kernel:other_name").status == 0
    assert seen["args"] == ["scaled_dot_product_attention", "scaled_dot_product_attention_backward"]
    assert (seen["of"], seen["dtype"], seen["accumulate"]) == ("attention", "float32", None)
    assert "no gradients" in npattn("conform", "conform_kernel:softmax", "--of", "softmax", "--only", "plain").out
    assert seen["args"][1] is None and seen["only"] == ("plain",)


def test_export_and_compare(npattn: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "cases"
    status, out, _ = npattn("conform", "--export", folder, "--of", "softmax", "--only", "plain,mask")
    assert status == 0
    assert out == f"{folder}: 2 cases and index.json. Write the answers beside them, then: --compare {folder}\n"
    assert npattn("conform", "--compare", folder).status == 1          # no answer yet
    for name, X in cases("softmax", "float32")[0].answer.items():
        (folder / "softmax" / "00" / f"answer.{name}.bin").write_bytes(X.astype(np.float32).tobytes())
    status, out, _ = npattn("conform", "--compare", folder)
    assert status == 0 and out.splitlines()[-1] == "1 passed, 0 failed, 1 skipped"
    (folder / "softmax" / "00" / "answer.E.bin").write_bytes(bytes(80))
    assert npattn("conform", "--compare", folder).status == 1
    assert "is not empty" in npattn.fails("conform", "--export", folder)
    status, out, _ = npattn("conform", "--export", tmp_path / "all", "--only", "plain", "--format", "npz")
    assert status == 0 and "9 cases" in out and (tmp_path / "all" / "softmax" / "00" / "case.npz").exists()
    assert npattn("conform", "--export", tmp_path / "half", "--only", "plain", "--dtype", "float16").status == 0
    assert '"dtype": "float16"' in (tmp_path / "half" / "index.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(("argv", "message"), [
    ([], "expected one of FUNCTION, --export and --compare, got none"),
    (["m:f", "--export", "x"], "expected one of FUNCTION, --export and --compare, got FUNCTION and --export"),
    (["conform_kernel:attention", "--format", "raw"], "--format doesn't go with FUNCTION"),
    (["--export", "x", "--skip", "y"], "--skip doesn't go with --export"),
    (["--export", "x", "--backward", "y"], "--backward doesn't go with --export"),
    (["--export", "x", "--framework", "jax"], "--framework doesn't go with --export"),
    (["--export", "x", "--accumulate", "float32"], "--accumulate doesn't go with --export"),
    (["--compare", "x", "--format", "raw"], "--format doesn't go with --compare"),
    (["--compare", "x", "--only", "plain"], "--only doesn't go with --compare"),
    (["--compare", "x", "--of", "softmax"], "--of doesn't go with --compare"),
    (["--compare", "x", "--skip", "y"], "--skip doesn't go with --compare"),
    (["conform_kernel:attention", "--only", "casual, zz"],
     "--only: no case of attention has a name with casual or zz in it"),
    (["conform_kernel:softmax", "--of", "softmax", "--only", "causal"],
     "--only: no case of softmax has a name with causal in it"),
    (["--export", "x", "--only", "casual"],
     f"--only: no case of {', '.join(KINDS)} has a name with casual in it"),
    (["conform_kernel:missing"], "conform_kernel:missing: conform_kernel has no 'missing'"),
])  # fmt: skip
def test_wrong_command_lines(npattn: Cli, argv: list[str], message: str) -> None:
    assert npattn.fails("conform", *argv, status=2).removeprefix("npattn: ").split(" (see ")[0] == message
