"""`npattn trace` prints every matrix beside its gradient."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest

import npattn
from npattn import layers
from npattn.attention import MODERN_VERSIONS, VERSIONS
from npattn.cli.terminal import Console
from npattn.cli.trace.command import show
from npattn.cli.trace.example import example, targets
from support.command_line import Cli, process

RIGHT = """
import numpy as np

def forward(Q, X):
    E = Q @ X.T
    A = np.exp(E)
    A /= A.sum(-1, keepdims=True)
    Y = A @ X
    return Y, (Q, X, A)

def backward(dY, cache):
    Q, X, A = cache
    dA = dY @ X.T
    dX = A.T @ dY
    dE = A * (dA - (A * dA).sum(-1, keepdims=True))
    dX = dX + dE.T @ Q
    dQ = dE @ X
    return dQ, dX
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("COLUMNS", "80")
    return Cli(capsys)


def test_every_version_and_layer_can_be_traced() -> None:
    names = {f"v{version.number}" for version in VERSIONS + MODERN_VERSIONS}
    names |= {name for name in layers.__all__ if f"{name}_backward" in layers.__all__}
    assert names <= targets().keys()


@pytest.mark.parametrize("name", targets())
def test_a_target_shows_its_arguments_and_its_output(run: Cli, name: str) -> None:
    status, out, err = run("trace", name)
    assert (status, err) == (0, "")
    found = npattn.trace(*example(targets()[name], {}))
    for value in found.values():
        if value.array is not None:
            assert re.search(rf"^{re.escape(value.name)}  \(", out, re.MULTILINE), value.name
        if value.gradient is not None:
            own = [line.comment.partition("from here on ")[2] for line in value.gradient_lines if value.array is None]
            label = next(filter(None, own), f"d{value.name}")
            assert re.search(rf"(^| ) *{re.escape(label)}  \(", out, re.MULTILINE), value.name


def test_version_5_says_what_dE_of_the_second_query_is_made_of(run: Cli) -> None:
    """A = (½, ½) and dA = (8, 4), so rowsum(A ⊙ dA) = 6 and dE = (½ (8 − 6), ½ (4 − 6))."""
    out = run("trace", "v5").out
    assert "E  (N_Q=2, N_X=2)                       dE  (N_Q=2, N_X=2)  rows sum to 0" in out
    assert "E = Q Kᵀ / √D_Q                         dE = A ⊙ (dA − rowsum(A ⊙ dA))" in out
    assert "  0  0                                    0.75  -0.75\n" + " " * 42 + "1     -1\n" in out
    assert "  0.5   0.5                               8  4\n" in out
    assert out.startswith("dE is ∂L/∂E for the loss L = Σ dY ⊙ Y") and "Numbers in comments" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_numbers_are_those_of_the_docstring(run: Cli) -> None:
    out = run("trace", "v4").out
    for row in ("0.75   0.824  0  0", "1.25  -0.824  0  0", "1.5  -0.375  0  0", "2    -0.5    0  0"):
        assert row in out


@pytest.mark.parametrize("name", ["V5", "v5_cross_attention", "cross-attention"])
def test_names_are_those_of_explain(run: Cli, name: str) -> None:
    assert run("trace", name).out == run("trace", "v5").out


def test_other_arguments_and_digits(run: Cli) -> None:
    out = run("trace", "v5", "--args", "Q:3,4", "mask:3,2:bool", "--seed", "7").out
    assert "Q  (N_Q=3, D_Q=4)" in out and "mask  (N_Q=3, N_X=2)" in out
    assert out == run("trace", "v5", "--args", "Q:3,4", "mask:3,2:bool", "--seed", "7").out
    assert out != run("trace", "v5", "--args", "Q:3,4", "mask:3,2:bool", "--seed", "8").out
    assert "2.1972246" in run("trace", "v5", "--digits", "7").out
    assert "Q  (N_Q=2, D_Q=4)" in run("trace", "v5", "--args", "mask=None").out


@pytest.mark.parametrize("columns", ["80", "200"])
def test_width_of_the_terminal(run: Cli, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    out = run("trace", "v1").out
    line = next(line for line in out.splitlines() if line.startswith("w  ("))
    assert ("dw  (" in line) == (columns == "200")


@pytest.mark.parametrize("name", ["encoder_layer", "decoder_layer"])
def test_a_layer_of_the_transformer(run: Cli, name: str) -> None:
    status, out, err = run("trace", name)
    assert (status, err) == (0, "")
    parts = re.findall(r"^(\w+)  (?:sub-layer \d \(\S+\): )?\S+\n─+$", out, re.MULTILINE)
    attention = ["norm_2", "cross_attention", "norm_3"] if name == "decoder_layer" else ["norm_2"]
    assert parts == ["norm_1", "self_attention", *attention, "feed_forward"]
    assert "norm_1  sub-layer 1 (self-attention): npattn.transformer.reference.sub_layer\n" in out
    assert "\nfeed_forward  npattn" in out and "(feed-forward): npattn" in out
    assert out.count("return dX") == 0 and "dX, the way through f  (3, 4)" in out
    assert "pads  (1, 1, 3)  1 = may be read" in out
    one = run("trace", name, "--layer", "self_attention").out
    legend = " ".join(one.partition("\n\n")[0].split())
    assert legend.endswith("Numbers in comments, as in # 1, 3, are those of the changes that npattn explain v7 lists.")
    assert re.findall(r"^(\w+)  \S+\n─+$", one, re.MULTILINE) == ["self_attention"]
    assert one != run("trace", name, "--layer", "self_attention", "--norm", "pre").out
    assert one != run("trace", name, "--layer", "self_attention", "--seed", "1").out


def test_a_trained_model(run: Cli) -> None:
    status, out, err = run("trace", "g2p", "knight")
    assert (status, err) == (0, "")
    assert out.startswith("k n i g h t → N AY T <eos>   loss L = −log P of the target = 0.2772\n")
    stages = re.findall(r"^(\S+(?: \(\d\))?)  (?:after|embedded|output)", out, re.MULTILINE)
    assert stages[:4] == ["S", "encoder.0.X (2)", "encoder.0.X (3)", "encoder.1.X (2)"] and stages[-1] == "Y"
    assert len(stages) == 4 + 3 * 2 + 3 * 3 and len(out.splitlines()) < 50 and max(map(len, out.splitlines())) <= 80
    suggested = re.search(r"--layer (\S+)$", out, re.MULTILINE)
    assert suggested and "A  (1, H=4, N_Q=4, N_X=6)" in run("trace", "g2p", "knight", "--layer", suggested[1]).out


def test_the_numbers_of_a_cut_matrix_are_not_all_zero(run: Cli) -> None:
    out = run("trace", "g2p", "knight", "--layer", "decoder.2.cross_attention").out
    for name in ("dW_Q", "dW_K", "dW_V"):
        lines = out[out.index(f" {name}  (") :].splitlines()[:14]
        shown = [text for line in lines for text in re.findall(r"-?\d+\.\d+", line[40:])]
        assert lines[0].endswith(("e-05", "e-06", "0.001", "0.0001")) and len(shown) > 15, name
        assert sum(float(text) == 0 for text in shown) < len(shown) / 2, name


def test_a_trained_model_with_another_target(run: Cli) -> None:
    assert run("trace", "g2p", "read", "--target", "R IY D").out.startswith("r e a d → R IY D <eos>   loss")
    assert run("trace", "g2p", "a", "--layer", "decoder").status == 0


def test_json(run: Cli) -> None:
    out = run("trace", "v5", "--json").out
    assert out.isascii()
    told = {value["name"]: value for value in json.loads(out)["values"]}
    assert told["A"]["array"] == [[0.25, 0.75], [0.5, 0.5]]
    assert np.allclose(told["E"]["gradient"], [[0.75, -0.75], [1, -1]])
    parts = json.loads(run("trace", "encoder_layer", "--json").out)["parts"]
    assert [value["name"] for value in parts["feed_forward"]["values"]][:2] == ["W_1", "W_2"]
    told = json.loads(run("trace", "g2p", "cat", "--json", "--layer", "decoder.0.cross_attention").out)
    assert told["source"] == ["c", "a", "t"] and told["target"] == ["K", "AE", "T", "<eos>"] and told["loss"] < 0.5
    assert np.shape(next(value["array"] for value in told["values"] if value["name"] == "A")) == (1, 4, 4, 3)


def test_functions_of_ones_own(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_right.py").write_text(RIGHT, encoding="utf-8")
    right = run("trace", "mine_right.py:forward", "mine_right.py:backward", "--args", "Q:2,3", "X:4,3")
    assert right.status == 0 and "All 5 gradients are those of the complex step, to" in right.out
    Path("mine_wrong.py").write_text(RIGHT.replace("(A * dA).sum", "(A * dA).mean"), encoding="utf-8")
    wrong = run("trace", "mine_wrong.py:forward", "mine_wrong.py:backward", "--args", "Q:2,3", "X:4,3")
    assert wrong.status == 1 and "WRONG, by the complex step: dQ, dX, dE\n" in wrong.out
    assert wrong.out.endswith("made in line 15: dE = A * (dA - (A * dA).mean(-1, keepdims=True))\n")
    for name in ("mine_wrong.py:forward", "mine_wrong.py"):
        assert run("trace", name, "--args", "Q:2,3", "X:4,3").out == wrong.out
    Path("mine_real.py").write_text(RIGHT.replace("np.exp(E)", "np.exp(np.floor(E))"), encoding="utf-8")
    real = run("trace", "mine_real.py:forward", "mine_real.py:backward", "--args", "Q:2,3", "X:4,3")
    assert real.status == 0 and "Not compared with the complex step: pair: expected a forward that takes" in real.out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "TARGET"),
        (["v55"], "v55: nothing to trace; did you mean v5?"),
        (["encoder"], "encoder: nothing to trace; did you mean encoder_layer"),
        (["adam"], "adam: nothing to trace; known are v1, v2"),
        (["g2p"], "and trained models with a WORD"),
        (["v5", "--target", "x"], "--target: it is for a trained model with a WORD, not for a version or a layer"),
        (["g2p", "a", "--args", "X:3"], "--args: it is for a version or a layer or functions of your own, not for"),
        (["encoder_layer", "--layer", "x"], "--layer: expected one of norm_1, self_attention, norm_2, feed_forward"),
        (["v5", "--norm", "pre"], "--norm: it is for encoder_layer and decoder_layer"),
        (["v5", "--args", "Z:3"], "--args: got an unexpected keyword argument 'Z'"),
        (["v5", "--args", "Q:3,4", "Q:3,4"], "--args: Q is given twice"),
        (["v5", "--digits", "-1"], "--digits: expected a whole number of 0 or more"),
        (["mine:forward"], "--args is missing"),
    ],
)
def test_usage_errors(run: Cli, argv: list[str], words: str) -> None:
    assert words in run.fails("trace", *argv, status=2)


def test_the_order_of_the_legend_is_that_of_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    traces = {name: npattn.trace(*example(targets()[name], {})) for name in ("v7", "v8")}
    args = argparse.Namespace(layer=None, json=False, digits=3)
    for order in (("v7", "v8"), ("v8", "v7")):
        show({name: traces[name] for name in order}, args, Console())
        legend = " ".join(capsys.readouterr().out.partition("\n\n")[0].split())
        assert re.findall(r"npattn explain (v\d+)", legend) == list(order)


def test_version_14_has_the_formulas_of_the_recurrence(run: Cli) -> None:
    """Those of the chunks are another way to compute the same, and Y has another layout before it is returned."""
    out = run("trace", "v14").out
    for formula in ("D_0", "β Z", "(F + Fᵀ)"):
        assert formula not in out
    assert "dS += s dy_t q̂_tᵀ,  dS = α_t dS̃" in out
    assert "\nY  (1, 2, 1, 1)\n" in out and "\nY (2)  (H=1, N=2, D_V=1)" in out


def test_version_13_has_the_formulas_without_absorption(run: Cli) -> None:
    out = run("trace", "v13").out
    assert "U = Q W_UK" not in out and "M = A C\n" not in out
    assert "E = s (Q Kᵀ + Q_R K_Rᵀ)" in out and "\nY = A V\n" in out


def test_axes_have_the_symbols_of_their_arguments_or_none(run: Cli) -> None:
    out = run("trace", "v10").out
    assert "dE (3)  (1, 4, 2)" in out                         # four rows are those of two queries in two heads
    assert "dK_past  (H_K=1, P=0, D_Q=2)" in out


def test_a_gradient_that_is_returned_at_once_has_its_formula(run: Cli) -> None:
    out = run("trace", "linear").out
    assert "dX = dY Wᵀ" in out and "return project(dY, W.T), dW, db" in out


def test_a_statement_in_a_loop_is_printed_once(run: Cli) -> None:
    assert run("trace", "causal_convolution").out.count("Y += w * rows[..., j : j + N, :]") == 1


def test_a_formula_with_an_alternative_is_no_label(run: Cli) -> None:
    for score in ("softmax", "sigmoid"):
        assert "s = softmax(ℓ)" not in run("trace", "route", "--args", f"score={score}").out


def test_other_errors_are_one_line(run: Cli) -> None:
    assert "v5: expected the folder of a run" in run.fails("trace", "v5", "knight")
    assert run.fails("trace", "v5", "--args", "X:3,4").startswith("npattn: W_K: expected (D_X=4, D_Q=4), got (2, 4)")
    assert "source: expected at least one" in run.fails("trace", "g2p", "")


def test_a_code_page_without_these_letters() -> None:
    """A pipe is in UTF-8 whatever the locale."""
    assert "A ⊙ (dA − rowsum(A ⊙ dA))" in process("trace", "v5", PYTHONIOENCODING="ascii", LC_ALL="C").out


def test_without_docstrings_the_example_is_still_there() -> None:
    out = process("trace", "v5", PYTHONOPTIMIZE="2").out
    assert out.count("rows sum to 0") == 2 and "dE = A ⊙ (dA − rowsum(A ⊙ dA))" in out
