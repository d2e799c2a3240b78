"""benchmarks/text.py trains, measures and reports at a toy size; PyTorch's model is npattn's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import npattn
import text
from _common import harness
from support.inline_runner import InlineRunner


@pytest.mark.long
def test_it_runs_and_reports(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("to be or not to be, that is the question\n" * 30, encoding="utf-8")
    options = harness.parser(text).parse_args(["--quick", "--files", str(file)])
    data = text.measure(options, InlineRunner(text))
    report = text.report(data)
    assert data["peers"]["npattn"]["steps"] >= 1 and 0 < data["peers"]["npattn"]["bits"] < 9
    assert "text.txt; bytes to train on: 1,045; test files: 1 of 123 bytes; layers: 1, width: 8" in report
    assert report.count("\n|") == 6 and "torch" not in report
    data["peers"]["torch"] = data["peers"]["npattn"] | {"first": data["peers"]["npattn"]["first"] + 1e-6}
    assert text.report(data).endswith("The losses of the first step differ by 1.0e-06.")


def test_the_model_in_pytorch_is_the_same() -> None:
    torch = pytest.importorskip("torch")
    config = npattn.LanguageModelConfig(9, d_model=12, n_layers=2, n_heads=3, d_ff=10, pad_id=8)
    model = npattn.LanguageModel(config, rng=1)
    ids = np.random.default_rng(0).integers(0, 9, (2, 7))
    weights = {name: torch.from_numpy(array) for name, array in model.params.items()}
    logits = text.torch_logits(weights, torch.from_numpy(ids), config).numpy()
    np.testing.assert_allclose(logits, model.forward(ids)[0], rtol=1e-4, atol=1e-5)
