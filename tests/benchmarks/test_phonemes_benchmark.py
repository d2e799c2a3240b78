"""benchmarks/phonemes.py trains, measures and reports at a toy size; PyTorch's model is npattn's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import npattn
import phonemes
from _common import harness
from support.inline_runner import InlineRunner


@pytest.mark.long
def test_it_runs_and_reports(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"{a}{b}\t{b} {a}\n" for a in "abcdef" for b in "uvwxyz"), encoding="utf-8")
    options = harness.parser(phonemes).parse_args(["--quick", "--file", str(file)])
    data = phonemes.measure(options, InlineRunner(phonemes))
    ours = data["peers"]["npattn"]
    assert ours["steps"] >= 8 and len(ours["curve"]) == 8 and 0 <= ours["test"] <= 1
    assert [step for _, step, _ in ours["curve"]][-1] == ours["steps"]
    report = phonemes.report(data)
    assert "layers: 1 + 1, width: 8" in report and report.count("\n|") == 13 and "torch" not in report
    data["peers"]["torch"] = ours | {"first": ours["first"] * (1 + 1e-6)}
    assert phonemes.report(data).endswith("The losses of the first step differ by 1.0e-06 of their size.")


def test_the_model_in_pytorch_is_the_same() -> None:
    torch = pytest.importorskip("torch")
    config = npattn.TransformerConfig(9, 7, 8, 2, 12, 2, 2, dropout=0.1, norm="pre", tie="output")
    model, rng = npattn.Transformer(config, rng=1), np.random.default_rng(0)
    module = phonemes.torch_model(model).eval()
    phonemes.load(module, model)
    src, tgt = rng.integers(1, 9, (2, 5)), rng.integers(1, 7, (2, 4))
    src[1, 3:] = 0
    logits = module(torch.from_numpy(src), torch.from_numpy(tgt)).detach().numpy()
    np.testing.assert_allclose(logits, model.forward(src, tgt)[0], rtol=1e-4, atol=1e-5)
