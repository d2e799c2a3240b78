"""Checkpoints return the saved arrays bit for bit, and refuse other arrays than expected."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import Adam, CheckpointError
from npattn._internal.files import load_arrays, save_arrays
from support.named_arrays import same

ARRAYS = {"W_K": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([0.5, -1.0]), "t": np.array(3)}
METADATA = {"config": {"d_model": 64, "norm": "pre"}, "rng": {"state": 2**127 + 1}, "best": None, "名": [1.5, True]}
DTYPES = ["?", "i1", "u1", "<i2", ">i4", "<i8", ">u8", "<f2", "<f4", ">f4", "<f8", ">f8"]


def nested(depth: int) -> list[Any]:
    lists: list[Any] = []
    for _ in range(depth):
        lists = [lists]
    return lists


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_arrays(tmp_path / "model.npz", ARRAYS, METADATA)
    return tmp_path / "model.npz"


class TestRoundTrip:
    def test_arrays_and_metadata_come_back(self, path: Path) -> None:
        arrays, metadata = load_arrays(path)
        assert same(arrays, ARRAYS) and metadata == METADATA
        arrays["W_K"][0] = 1  # the arrays are writeable

    @given(seed=st.integers(0, 2**32), data=st.data())
    def test_any_dtype_shape_order_and_name(self, tmp_path_factory: Any, seed: int, data: st.DataObject) -> None:
        rng = np.random.default_rng(seed)
        names = data.draw(st.lists(st.sampled_from(["a", "file", "x/y", "e.0.W", "α ß", "..", "a.npy"]), unique=True))
        arrays, expected = {}, {}
        for name in names:
            shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=4)))
            array = rng.integers(0, 256, (*shape, 8), dtype=np.uint8).view(data.draw(st.sampled_from(DTYPES)))
            array = (array % 2 == 1 if array.dtype == bool else array)[..., 0].transpose()
            arrays[name], expected[name] = array, array.astype(array.dtype.newbyteorder("="), order="C")
        target = tmp_path_factory.mktemp("any") / "any"
        save_arrays(target, arrays, {})
        loaded, _ = load_arrays(target, {name: (a.shape, a.dtype.newbyteorder("=")) for name, a in arrays.items()})
        assert same(loaded, expected)

    def test_the_longest_name(self, tmp_path: Path) -> None:
        name = "ä" * 32_765 + "a"
        save_arrays(tmp_path / "x", {name: np.ones(2)}, {})
        assert list(load_arrays(tmp_path / "x")[0]) == [name]

    def test_the_path_is_taken_as_it_is(self, tmp_path: Path) -> None:
        save_arrays(str(tmp_path / "model.bin"), ARRAYS, METADATA)
        assert os.listdir(tmp_path) == ["model.bin"]

    def test_the_same_content_is_the_same_file(self, path: Path) -> None:
        before = path.read_bytes()
        save_arrays(path, ARRAYS, METADATA)
        assert path.read_bytes() == before

    def test_numpy_reads_it_without_npattn(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            assert set(file) == {*ARRAYS, "__npattn__"}
            assert np.array_equal(file["W_K"], ARRAYS["W_K"])
            assert json.loads(file["__npattn__"].tobytes()) == {"format": 1, "metadata": METADATA}

    def test_adam_continues_from_a_file(self, tmp_path: Path) -> None:
        params = {"W": np.ones((2, 3), np.float32)}
        adam, again = Adam(params), Adam(params)
        adam.step({"W": np.full((2, 3), 0.3, np.float32)})
        save_arrays(tmp_path / "adam.npz", adam.state_dict(), {})
        again.load_state_dict(load_arrays(tmp_path / "adam.npz")[0])
        assert same(adam.state_dict(), again.state_dict())


class TestExpected:
    def test_all_that_differs_is_named(self, path: Path) -> None:
        expected = {"W_K": ((3, 2), "f4"), "b": ((2,), np.float32), "c": ((), "f8")}
        with pytest.raises(CheckpointError) as caught:
            load_arrays(path, expected)
        assert str(caught.value) == (
            f"{path}: other arrays than expected: missing 'c'; unexpected 't'; 'W_K': expected float32 (3, 2), "
            "got float32 (2, 3); 'b': expected float32 (2,), got float64 (2,)"
        )

    def test_before_an_array_takes_memory(self, tmp_path: Path) -> None:
        save_arrays(tmp_path / "large.npz", {"W": np.zeros((1000, 4000))}, {})
        tracemalloc.start()
        with pytest.raises(CheckpointError, match="expected float64"):
            load_arrays(tmp_path / "large.npz", {"W": ((1000, 4001), float)})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4e6


class TestRefusesToSave:
    @pytest.mark.parametrize(
        ("arrays", "metadata", "error", "message"),
        [
            ({"W": np.ones(2, complex)}, {}, TypeError, "'W': expected numbers of up to 64 bits or booleans, got comp"),
            ({"W": np.array([{}])}, {}, TypeError, "'W': expected numbers"),
            ({"W": np.array(["x"])}, {}, TypeError, "'W': expected numbers"),
            ({"W": [1.0]}, {}, TypeError, "'W': expected a NumPy array, got list"),
            ({"": np.ones(2)}, {}, ValueError, "printable names"),
            ({"a\0b": np.ones(2)}, {}, ValueError, "printable names"),
            ({"a\\b": np.ones(2)}, {}, ValueError, "printable names"),
            ({"__npattn__": np.ones(2)}, {}, ValueError, "another name than '__npattn__', which is that of the met"),
            ({"a" * 65_532: np.ones(2)}, {}, ValueError, "names of at most 65,531 bytes, got one of 65,532 bytes"),
            ({"ä" * 32_766: np.ones(2)}, {}, ValueError, "names of at most 65,531 bytes, got one of 65,532 bytes"),
            ({1: np.ones(2)}, {}, ValueError, "printable names"),
            ({}, {"W": np.ones(2)}, ValueError, "metadata: expected what JSON can hold: .*ndarray"),
            ({}, {"best": float("nan")}, ValueError, "metadata: expected what JSON can hold: "),
            ({}, {"deep": nested(10**5)}, ValueError, "metadata: expected what JSON can hold: .*recursion"),
        ],
    )
    def test_names_dtypes_and_values_that_would_not_come_back(
        self, path: Path, arrays: Any, metadata: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            save_arrays(path, arrays, metadata)
        assert same(load_arrays(path)[0], ARRAYS) and os.listdir(path.parent) == [path.name]
