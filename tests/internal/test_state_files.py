"""Files of named arrays for other programs: the same arrays come back, and damaged files are refused."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import CheckpointError
from npattn.torch_weights import load_state, save_state
from support.forgery import damage, npy
from support.named_arrays import same

STATE = {
    "layers.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layers.0.bias": np.array([0.5, -1.0]),
    "scale": np.array(3.0),
    "steps": np.array([[7]]),
}
SUFFIXES = [".npz", ".safetensors"]


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"state{request.param}"


def test_the_saved_arrays_come_back(path: Path) -> None:
    save_state(path, STATE)
    loaded = load_state(path)
    assert same(dict(sorted(loaded.items())), dict(sorted(STATE.items())))
    loaded["scale"][...] = 1                                  # the arrays are writeable


@pytest.mark.parametrize("layout", ["Fortran", "strided", "reversed", "big-endian", "read-only", "list"])
def test_any_layout_of_memory(path: Path, layout: str) -> None:
    """safetensors 0.8.0 treats an array in Fortran order like one in C order: 0 3 1 4 2 5 for 0 1 2 3 4 5."""
    array = np.arange(24.0).reshape(4, 6)
    given: Any = {
        "Fortran": np.asfortranarray(array), "strided": np.repeat(array, 2, 1)[:, ::2], "list": array.tolist(),
        "reversed": array[::-1, ::-1].copy()[::-1, ::-1], "read-only": array.copy(), "big-endian": array.astype(">f8"),
    }[layout]  # fmt: skip
    if layout == "read-only":
        given.flags.writeable = False
    save_state(path, {"W": given})
    assert same(load_state(path), {"W": array})


def test_a_file_of_savez(tmp_path: Path) -> None:
    arrays = STATE | {"W": np.asfortranarray(STATE["layers.0.weight"]), "big": np.ones(3, ">f4")}
    np.savez(tmp_path / "state.npz", **arrays)  # type: ignore[arg-type]
    loaded = load_state(tmp_path / "state.npz")
    assert same(loaded, {n: a.astype(a.dtype.newbyteorder("="), order="C") for n, a in arrays.items()})
    assert all(array.flags.c_contiguous for array in loaded.values())


def test_files_from_and_for_safetensors(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(STATE, tmp_path / "theirs.safetensors")
    assert load_state(tmp_path / "theirs.safetensors").keys() == STATE.keys()
    save_state(tmp_path / "ours.safetensors", STATE)
    loaded = numpy.load_file(tmp_path / "ours.safetensors")
    assert same(dict(sorted(loaded.items())), dict(sorted(STATE.items())))


@pytest.mark.parametrize("name", ["state.pt", "state.pth", "state", "state.npz.bak"])
def test_files_with_another_suffix(tmp_path: Path, name: str) -> None:
    for call in (lambda: load_state(tmp_path / name), lambda: save_state(tmp_path / name, STATE)):
        with pytest.raises(ValueError, match=r"path: expected a file with the suffix \.npz or \.safetensors") as error:
            call()
        assert ("pickle" in str(error.value)) == (".pt" in name)


def test_without_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (lambda path: load_state(path), lambda path: save_state(path, STATE)):
        with pytest.raises(ModuleNotFoundError, match=r'pip install "npattn\[safetensors\]"'):
            call(tmp_path / "state.safetensors")


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_state(path)


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as writer:
        for name, content in members:
            writer.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "BadZipFile"),
        (zipped(("W.npy", npy(np.zeros(10**6))), compression=zipfile.ZIP_DEFLATED), "'W.npy' is compressed"),
        (zipped(("W.npy", npy(np.array([{}], object), allow_pickle=True))), "'W': expected numbers .*got object"),
        (zipped(("V.npy", npy(np.ones(3))), ("W.npy", npy(np.ones(3)))).replace(b"V.npy", b"W.npy"), "twice"),
        (zipped(("W.npy", npy(np.ones(3))[:-1])), "does not fit its 151 bytes"),
        (zipped(("W.txt", b"1 2 3")), "no .npy file"),
    ],
)
def test_bad_npz_files(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"bad\.npz: .*{cause}"):
        load_state(tmp_path / "bad.npz")


def test_bad_safetensors_files(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    bfloat16 = numpy.save({"W": np.ones(3, np.float16)}).replace(b'"F16"', b'"BF16"').replace(b"\x40", b"\x41", 1)
    for content in (b"", bytes(8), b"\xff" * 8, numpy.save({"W": np.ones(3)})[:-1], bfloat16):
        (tmp_path / "bad.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.safetensors: unreadable: "):
            load_state(tmp_path / "bad.safetensors")


def test_random_damage(path: Path) -> None:
    """Every damaged file raises a CheckpointError, or an .npz file still has the same arrays."""
    save_state(path, STATE)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        path.write_bytes(damage(content, rng))
        try:
            loaded = load_state(path)
        except CheckpointError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert path.suffix == ".safetensors" or same(loaded, STATE)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"W": np.ones(2, complex)}, TypeError, "'W': expected numbers of up to 64 bits or booleans, got complex128"),
        ({"W": ["x"]}, TypeError, "'W': expected numbers"),
        ({"": np.ones(2)}, ValueError, "printable names"),
        ({"a" * 70_000: np.ones(2)}, ValueError, "at most 65,531 bytes"),
    ],
)
def test_states_that_cannot_be_written(path: Path, state: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        save_state(path, state)
    assert not path.exists()
