"""`load_folder`: one file or several, every dtype, and files that are damaged or forged."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import CheckpointError
from npattn._internal.checks import Array
from npattn.hf_weights import dump_language_model, load_folder, load_language_model
from npattn.hf_weights.folder import map_file, read_tensors, tensor_of
from support.language_model_toys import toy_language_model

WORDS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def write(path: Path, state: Mapping[str, Array], dtype: str, **changes: Any) -> None:
    """Write a safetensors file; `changes` replace entries of its header."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    numbers = b""
    for name, array in state.items():
        part = array.astype("<f4").view("<u4") >> 16 if dtype == "bfloat16" else array
        part = part.astype("<u2" if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<"))
        place = [len(numbers), len(numbers) + part.nbytes]
        header[name] = {"dtype": WORDS[dtype], "shape": list(array.shape), "data_offsets": place}
        numbers += part.tobytes()
    text = json.dumps(header | changes).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)


def example() -> tuple[dict[str, Any], dict[str, Array]]:
    """A configuration, and weights that fit into bfloat16."""
    config, state = dump_language_model(toy_language_model("gpt2", d_model=8, d_head=2))
    return config, {name: np.rint(array * 32) / 64 for name, array in state.items()}


def folder_of(tmp_path: Path, dtype: str = "float32", **changes: Any) -> Path:
    config, state = example()
    (tmp_path / "config.json").write_text(json.dumps(config))
    write(tmp_path / "model.safetensors", state, dtype, **changes)
    return tmp_path


def sharded(tmp_path: Path) -> Path:
    config, state = example()
    names = list(state)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, inside in parts.items():
        write(tmp_path / file, {name: state[name] for name in inside}, "float32")
    places = {name: file for file, inside in parts.items() for name in inside}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


class TestFolders:
    @pytest.mark.parametrize("dtype", WORDS)
    def test_every_dtype(self, tmp_path: Path, dtype: str) -> None:
        model = load_folder(folder_of(tmp_path, dtype))
        assert model.params.flat.dtype == ("float64" if dtype == "float64" else "float32")
        assert np.array_equal(model.params.flat, load_language_model(*example()).params.flat)

    def test_several_files(self, tmp_path: Path) -> None:
        model = load_folder(str(sharded(tmp_path)))
        assert np.array_equal(model.params.flat, load_language_model(*example()).params.flat)

    @pytest.mark.parametrize("dtype", WORDS)
    @pytest.mark.parametrize("family", ["llama", "gpt2"])
    @pytest.mark.parametrize("chunk", [1, 60])
    def test_many_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, family: str, chunk: int
    ) -> None:
        """More than are copied at a time, in rows and, transposed, in columns; the last chunk is short."""
        monkeypatch.setattr("npattn.hf_weights.layouts.CHUNK", chunk)
        size = {"d_model": 8, "d_head": 2} if family == "gpt2" else {}
        config, state = dump_language_model(toy_language_model(family, vocab=23, d_ff=9, **size))
        state = {name: np.rint(array * 32) / 64 for name, array in state.items()}
        (tmp_path / "config.json").write_text(json.dumps(config))
        write(tmp_path / "model.safetensors", state, dtype)
        assert np.array_equal(load_folder(tmp_path).params.flat, load_language_model(config, state).params.flat)

    def test_memory_holds_the_model_alone(self, tmp_path: Path) -> None:
        config, state = dump_language_model(toy_language_model("gemma2", vocab=30_000, d_model=64, attention_scale=0.5))
        (tmp_path / "config.json").write_text(json.dumps(config))
        write(tmp_path / "model.safetensors", state, "bfloat16")
        load_folder(tmp_path)
        tracemalloc.start()
        try:
            model = load_folder(tmp_path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1.1 * model.params.flat.nbytes

    def test_buffers_of_another_dtype(self, tmp_path: Path) -> None:
        buffer = {"dtype": "BOOL", "shape": [1, 1], "data_offsets": [0, 1]}
        path = folder_of(tmp_path, **{"transformer.h.0.attn.bias": buffer})
        assert np.array_equal(load_folder(path).params.flat, load_language_model(*example()).params.flat)

    def test_views_of_the_file(self, tmp_path: Path) -> None:
        file = folder_of(tmp_path) / "model.safetensors"
        tensors = read_tensors(file, map_file(file))
        assert tensors.keys() == example()[1].keys()
        assert not any(array.flags.writeable for array in tensors.values())
        numbers = np.arange(8, dtype=np.uint8)
        assert tensor_of(numbers, "F32", [0, 3], [4, 4]).shape == (0, 3)
        assert tensor_of(numbers, "F64", [], [0, 8]).shape == ()

    def test_the_file_of_the_package(self, tmp_path: Path) -> None:
        numpy = pytest.importorskip("safetensors.numpy")
        path, (_, state) = folder_of(tmp_path), example()
        numpy.save_file(state, path / "model.safetensors")
        assert load_folder(path).params == load_language_model(*example()).params


class TestDamage:
    def refused(self, path: Path, file: str, message: str) -> None:
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(path / file))}: {message}$"):
            load_folder(path)

    @pytest.mark.parametrize(("entry", "message"), [
        ({"dtype": "F8_E4M3"}, "expected one of F64, F32, F16, BF16, got F8_E4M3"),
        ({"data_offsets": [-4, 32]}, "a tensor lies outside of the file, at -4 … 32"),
        ({"data_offsets": [32, 0]}, "a tensor lies outside of the file, at 32 … 0"),
        ({"data_offsets": [0, 10**9]}, "a tensor lies outside of the file, at 0 … 1000000000"),
        ({"data_offsets": [0, 31]}, ".*"), ({"data_offsets": [0]}, ".*"), ({"data_offsets": None}, ".*"),
        ({"shape": [9]}, ".*"), ({"shape": [-1]}, "a tensor lies outside of the file, at 0 … 32"),
        ({"shape": 3}, ".*"), ({"more": 3}, ".*"),
    ])  # fmt: skip
    def test_an_entry(self, tmp_path: Path, entry: dict[str, Any], message: str) -> None:
        right = {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}
        path = folder_of(tmp_path, **{"transformer.ln_f.bias": right | entry})
        self.refused(path, "model.safetensors", rf"no valid safetensors file \({message}\)")

    def test_the_end_of_the_file_is_inside(self, tmp_path: Path) -> None:
        path = folder_of(tmp_path)
        file = path / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
        self.refused(path, "model.safetensors", r"no valid safetensors file \(a tensor lies outside .*\)")

    @pytest.mark.parametrize("content", [b"", b"\x02", b"\x02" + bytes(7), b"\x02" + bytes(7) + b"[]",
                                         b"\xff" * 8 + b"{}", b"\x04" + bytes(7) + b"\xff" * 4])  # fmt: skip
    def test_a_header(self, tmp_path: Path, content: bytes) -> None:
        path = folder_of(tmp_path)
        (path / "model.safetensors").write_bytes(content)
        self.refused(path, "model.safetensors", r"no valid safetensors file \(.+\)")

    def test_a_header_longer_than_the_file(self, tmp_path: Path) -> None:
        path = folder_of(tmp_path)
        (path / "model.safetensors").write_bytes(b"\x03" + bytes(7) + b"{}")
        message = r"no valid safetensors file \(expected a header up to byte 11, got 10 bytes\)"
        self.refused(path, "model.safetensors", message)
        (path / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
        with pytest.raises(ValueError, match=r"^state: missing "):
            load_folder(path)

    @pytest.mark.parametrize("content", ["{", "\x00", "[" * 100_000])
    def test_json(self, tmp_path: Path, content: str) -> None:
        path = sharded(tmp_path)
        for file in ("model.safetensors.index.json", "config.json"):
            (path / file).write_text(content)
            self.refused(path, file, r"no valid JSON \(.+\)")
            (path / file).write_text("[]")
            self.refused(path, file, "expected a mapping, got list")

    @pytest.mark.parametrize("places", [
        None, [], {"a": 3}, {"a": "../model.safetensors"}, {"a": "b\\model.safetensors"}, {"a": "model.bin"},
        {"a": "c:model.safetensors"}, {"a": "\0.safetensors"},
    ])  # fmt: skip
    def test_an_index(self, tmp_path: Path, places: Any) -> None:
        path = sharded(tmp_path)
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
        message = "expected a weight_map of names to files in this folder"
        self.refused(path, "model.safetensors.index.json", message)

    def test_missing_files(self, tmp_path: Path) -> None:
        path = sharded(tmp_path)
        (path / "model-2.safetensors").unlink()
        with pytest.raises(FileNotFoundError):
            load_folder(path)
        with pytest.raises(FileNotFoundError):
            load_folder(path / "nowhere")
        with pytest.raises(TypeError, match=r"^path: expected the path of a folder, got 3$"):
            load_folder(3)  # type: ignore[arg-type]
