"""The models that come with the package: found by name, small, licensed, and equal to their run in half precision."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from npattn._internal.files import load_arrays
from npattn.runs.load import FOLDER, SHIPPED, WEIGHTS, load_model, load_run
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
        files = {path.name: path.stat().st_size for path in Path(str(FOLDER), name).iterdir()}
        assert {"run.json", "log.tsv", WEIGHTS} <= files.keys()
        assert sum(files.values()) < 3e6
    licence = (FOLDER / "g2p" / "LICENSE.cmudict").read_text(encoding="utf-8")
    assert "Carnegie Mellon University. All rights reserved" in licence and "Redistribution and use" in licence


def test_a_bare_name_is_the_shipped_model_and_a_path_a_folder(
    run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("train", write_pairs(tmp_path), "--run", tmp_path / "g2p", *TINY).status == 0
    monkeypatch.chdir(tmp_path)
    assert load_model("g2p").description["task"] == "g2p"
    for folder in ("./g2p", Path("g2p"), tmp_path / "g2p"):
        assert load_model(folder).description["task"] == str(tmp_path / "mirror.tsv")
    assert run("predict", "g2p", "knight").out == "N AY T\n"
    assert run("predict", "./g2p", "abc").out == load_run("g2p")("abc") + "\n"
    with pytest.raises(FileNotFoundError, match=r"^runs/g2p: expected the folder of a run"):
        load_model("runs/g2p")
    with pytest.raises(TypeError, match=r"^run: expected the path of a folder, got None$"):
        load_model(None)  # type: ignore[arg-type]


@pytest.mark.long
def test_npattn_in_a_zip_file_has_the_model(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "npattn.zip", "w") as archive:
        for path in (ROOT / "npattn").rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(ROOT))
    script = """if True:
        import npattn
        from npattn.cli import main
        assert ".zip" in npattn.__file__
        print(npattn.load_model("g2p")("thorough"))
        print(main(["predict", "g2p", "knight"]), main(["figures", "g2p", "--text", "x"]), main(["explain", "relu"]))
    """
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "npattn.zip")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment)
    out = done.stdout.splitlines()
    assert out[:2] == ["TH ER OW", "N AY T"], done.stderr
    if find_spec("matplotlib"):
        assert out[-1] == "0 0 0" and (tmp_path / "pictures" / "alignment.png").exists()


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


def test_the_format_of_a_picture_is_checked_first(
    run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.delattr("npattn.cli.predict.command.load_model")
    line = run.fails("predict", "g2p", "knight", "--plot", tmp_path / "x.xyz")
    assert "path: expected a name that ends in .png" in line and "x.xyz" in line
