"""The models that come with the package: found by name, small, licensed, and equal to their run in half precision."""

from __future__ import annotations

import configparser
from pathlib import Path

import numpy as np
import pytest

from npattn._internal.files import load_arrays
from npattn.runs.load import FOLDER, SHIPPED, WEIGHTS, find_shipped, load_model, load_run
from npattn.runs.prediction import predict
from npattn.runs.shipped.pack import pack
from support.command_line import TINY, Cli, process, write_pairs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def test_predict_needs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert process("predict", "g2p", "knight", "thorough") == (0, "N AY T\nTH ER OW\n", "")


def test_words_that_are_not_in_the_training_data() -> None:
    """The words are from the test set; `npattn.runs.shipped` has the command that trained the model."""
    words = {"attention": "AH T EH N SH AH N", "xylophone": "Z AY L AH F OW N", "wrangler": "R AE NG G L ER"}
    model, codec, description = load_model("g2p")
    assert predict(model, codec, list(words)) == list(words.values())
    assert description["task"] == "g2p"
    assert model.params.flat.dtype == np.float32


def test_the_wheel_contains_the_models_and_the_licence_of_the_dictionary() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert setup["options.package_data"]["npattn.runs.shipped"] == "g2p/*"
    for name in SHIPPED:
        files = {path.name: path.stat().st_size for path in (FOLDER / name).iterdir()}
        assert {"run.json", "log.tsv", WEIGHTS} <= files.keys()
        assert sum(files.values()) < 3e6
    licence = (FOLDER / "g2p" / "LICENSE.cmudict").read_text(encoding="utf-8")
    assert "Carnegie Mellon University. All rights reserved" in licence and "Redistribution and use" in licence


def test_a_folder_takes_precedence_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_shipped("g2p") == FOLDER / "g2p" and find_shipped(Path("g2p")) == FOLDER / "g2p"
    assert find_shipped("dates") is None and find_shipped("runs/g2p") is None
    (tmp_path / "g2p").mkdir()
    assert find_shipped("g2p") is None


def test_a_packed_run_is_the_run_in_half_precision(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("train", write_pairs(tmp_path), "--run", tmp_path / "run", *TINY).status == 0
    monkeypatch.setattr("npattn.runs.load.FOLDER", tmp_path)
    monkeypatch.setattr("npattn.runs.load.SHIPPED", ("packed",))
    pack(tmp_path / "run", tmp_path / "packed")
    model, codec, _ = load_model("packed")
    original, same_codec, _ = load_run(tmp_path / "run")
    assert codec.to_json() == same_codec.to_json() and model.config == original.config
    halves, _ = load_arrays(tmp_path / "packed" / WEIGHTS)
    assert {half.dtype for half in halves.values()} == {np.dtype(np.float16)}
    for name, weights in original.params.items():
        np.testing.assert_allclose(model.params[name], weights, rtol=2.0**-11, atol=2.0**-25)


def test_numbers_beyond_half_precision_are_refused(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("train", write_pairs(tmp_path), "--run", tmp_path / "run", *TINY).status == 0
    model, codec, description = load_run(tmp_path / "run")
    model.params["encoder.0.norm_1.gamma"] = np.full(8, 7e4, np.float32)
    monkeypatch.setattr("npattn.runs.shipped.pack.load_run", lambda folder: (model, codec, description))
    with pytest.raises(ValueError, match=r"encoder.0.norm_1.gamma: expected numbers up to 65504"):
        pack(tmp_path / "run", tmp_path / "packed")


def test_attention_is_plotted_into_a_file(run: Cli, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for options in ((), ("--per-head",), ("--show-attention",)):
        picture = tmp_path / f"picture{len(options)}.png"
        status, out, err = run("predict", "g2p", "knight", "thorough", "--plot", picture, *options)
        assert (status, err) == (0, "") and out.startswith("N AY T\n")
        assert picture.read_bytes().startswith(b"\x89PNG")
    line = run.fails("predict", "g2p", "--plot", tmp_path / "x.png", status=2)
    assert "--plot: expected 1 to 12 texts, got 0" in line
    assert "xyz" in run.fails("predict", "g2p", "knight", "--plot", tmp_path / "x.xyz")
