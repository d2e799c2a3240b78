"""`save_folder`: the file that it writes, what it replaces, and the memory that loading takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npattn import LanguageModel, LanguageModelConfig, Transformer
from npattn.hf_weights import dump_language_model, load_folder, save_folder
from support.encoder_decoder_goldens import encoder_decoder
from support.language_model_toys import FAMILIES, toy_language_model


def fitting(family: str) -> LanguageModel:
    """A small model of the family that Hugging Face's class can have."""
    options = {"d_model": 8, "d_head": 2} if family == "gpt2" else {}
    return toy_language_model(family, **options | ({"attention_scale": 0.5} if family.startswith("gemma") else {}))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_is_loaded(tmp_path: Path, family: str) -> None:
    model = fitting(family)
    save_folder(tmp_path / "new" / "folder", model)
    twin = load_folder(tmp_path / "new" / "folder")
    assert twin.config == model.config and twin.params == model.params


@pytest.mark.parametrize("case", ["t5-gated", "marian", "bart"])
def test_encoder_decoders(tmp_path: Path, case: str) -> None:
    model = encoder_decoder(case)
    save_folder(tmp_path, model)
    twin = load_folder(tmp_path)
    assert isinstance(twin, Transformer) and twin.config == model.config and twin.params == model.params


@pytest.mark.parametrize(("dtype", "word"), [(np.float32, "F32"), (np.float64, "F64")])
def test_the_bytes(tmp_path: Path, dtype: type, word: str) -> None:
    model = LanguageModel(LanguageModelConfig(5, d_model=2, n_layers=1, n_heads=1, d_ff=3), dtype=dtype)
    save_folder(str(tmp_path), model)
    config, state = dump_language_model(model)
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert json.loads(text) == config and text == json.dumps(config, indent=2) + "\n"
    content = (tmp_path / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert start % 8 == 0 and content[8:start].rstrip(b" ").endswith(b"}") and start - 8 < 8 + len(
        content[8:start].rstrip(b" ")
    )
    header = json.loads(content[8:start])
    assert header.pop("__metadata__") == {"format": "pt"} and header.keys() == state.keys()
    end = 0
    for name, array in state.items():
        size = array.nbytes
        assert header[name] == {"dtype": word, "shape": list(array.shape), "data_offsets": [end, end + size]}
        assert content[start + end : start + end + size] == array.tobytes()
        end += size
    assert start + end == len(content)


def test_the_package_reads_it(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    model = fitting("llama")
    save_folder(tmp_path, model)
    found, state = numpy.load_file(tmp_path / "model.safetensors"), dump_language_model(model)[1]
    assert found.keys() == state.keys() and all(np.array_equal(found[name], state[name]) for name in state)


def test_one_file_comes_before_an_index_of_older_ones(tmp_path: Path) -> None:
    """As in `transformers`: a model that is saved beside several older files is what is loaded."""
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    model = fitting("mistral")
    save_folder(tmp_path, model)
    assert load_folder(tmp_path).params == model.params


def test_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    wanted = re.escape(f"{tmp_path}: expected model.safetensors or model.safetensors.index.json")
    with pytest.raises(FileNotFoundError, match=f"^{wanted}$"):
        load_folder(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(FileNotFoundError, match=f"^{wanted}; pytorch_model.bin is a pickle, which can run any code$"):
        load_folder(tmp_path)


def test_what_no_family_has_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^model: LlamaForCausalLM of Hugging Face has no pairing='neighbours'$"):
        save_folder(tmp_path / "new", toy_language_model("llama", pairing="neighbours"))
    assert not (tmp_path / "new").exists()


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = fitting("mistral")
    save_folder(".", model)
    assert load_folder(Path()).params == model.params
    for call in (load_folder, lambda path: save_folder(path, model)):
        with pytest.raises(ValueError, match=r"^path: expected the path of a folder, got ''$"):
            call("")
        with pytest.raises(TypeError, match=r"^path: expected the path of a folder, got 3$"):
            call(3)


RESIDENT = """
import sys
from npattn.hf_weights import load_folder
def bytes_of(word):
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith(word))
load_folder(sys.argv[2])
before = bytes_of("VmRSS:")
size = load_folder(sys.argv[1]).params.flat.nbytes
print((bytes_of("VmHWM:") - before) / size)
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_pages_of_the_file_do_not_stay_in_memory(tmp_path: Path) -> None:
    save_folder(tmp_path / "small", fitting("llama"))
    save_folder(tmp_path / "large", LanguageModel(LanguageModelConfig(8000, d_model=512, n_layers=2, n_heads=8)))
    command = [sys.executable, "-c", RESIDENT, str(tmp_path / "large"), str(tmp_path / "small")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.1
