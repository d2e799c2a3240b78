"""Every damaged or forged file is refused with a CheckpointError."""

from __future__ import annotations

import dataclasses
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from npattn import CheckpointError, Transformer, TransformerConfig
from npattn._internal.files import load_arrays, save_arrays
from support.forgery import ARRAYS, archive, fuzz, header, npy, sealed
from support.named_arrays import same


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_arrays(tmp_path / "model.npz", ARRAYS, {"step": 7})
    return tmp_path / "model.npz"


class TestDamage:
    """The checksum finds every accidental change."""

    def refused(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="checksum") as caught:
            load_arrays(path)
        assert str(caught.value).startswith(f"{path}: ")

    def test_flipped_bits(self, path: Path) -> None:
        content = path.read_bytes()
        rng = np.random.default_rng(0)
        for place in range(0, len(content), 5):
            damaged = bytearray(content)
            damaged[place] ^= 1 << rng.integers(8)
            self.refused(path, bytes(damaged))

    def test_truncation_and_additions(self, path: Path) -> None:
        content = path.read_bytes()
        for length in range(0, len(content), 17):
            self.refused(path, content[:length])
            self.refused(path, content[length:] if length else content[:-1])
        for extra in (b"\0", b"\n", content):
            self.refused(path, content + extra)
            self.refused(path, extra + content)

    def test_files_of_another_kind(self, path: Path) -> None:
        plain = io.BytesIO()
        np.savez(plain, **ARRAYS)
        for content in (b"", b"hello", pickle.dumps(ARRAYS), plain.getvalue(), bytes(10_000)):
            self.refused(path, content)

    def test_a_missing_file_raises_the_error_of_the_operating_system(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
            load_arrays(tmp_path / "nowhere.npz")


HEADER = ("__npattn__.npy", header())
ONES = npy(np.ones(3))


class TestForgery:
    """Files with wrong content and a right checksum."""

    def test_a_good_one_is_accepted(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(archive(("W.npy", ONES), HEADER))
        assert same(load_arrays(tmp_path / "x")[0], {"W": np.ones(3)})

    @pytest.mark.parametrize(
        ("content", "cause"),
        [
            (archive(("W.npy", ONES)), "'__npattn__.npy' is missing"),
            (archive(HEADER, ("W.npy", ONES), ("V", ONES)), "'V' is there twice, or no .npy"),
            (archive(("__npattn__.npy", header(format=2))), "expected format 1, got 2: of a newer npattn"),
            (archive(("__npattn__.npy", header(metadata=[1]))), "holds no metadata"),
            (archive(("__npattn__.npy", ONES)), "'__npattn__' is float64"),
            (archive(("__npattn__.npy", npy(np.frombuffer(b"{1", np.uint8)))), "JSONDecodeError"),
            (archive(("__npattn__.npy", npy(np.full(5, 255, np.uint8)))), "UnicodeDecodeError"),
            (archive(("__npattn__.npy", npy(np.frombuffer(b"[" * 100_000, np.uint8)))), "RecursionError"),
            (archive(HEADER, ("W.npy", ONES[:-1])), r"float64 \(3,\) does not fit its 151 bytes"),
            (archive(HEADER, ("W.npy", ONES + b"x")), r"float64 \(3,\) does not fit its 153 bytes"),
            (archive(HEADER, ("W.npy", ONES.replace(b"(3,), }    ", b"(-3, -1), }"))), r"\(-3, -1\) does not fit"),
            (archive(HEADER, ("W.npy", ONES.replace(b"(3,), }        ", b"(3, 9999999), }"))), r"9999999\) does not"),
            (archive(HEADER, ("W.npy", b"")), "W|EOF|magic"),
            (archive(HEADER, ("W.npy", ONES.replace(b"descr", b"desc\\"))), "unreadable"),
            (archive(HEADER, ("W.npy", ONES.replace(b"Y\1\0v\0", b"Y\2\0v\0\0\0"))), "got C, <f8, 2.0"),
            (archive(HEADER, ("W.npy", ONES.replace(b"Y\1", b"Y\3"))), "in version 3.0 of the .npy format"),
            (archive(HEADER, ("W.npy", npy(np.ones(3, ">f8")))), "got C, >f8, 1.0"),
            (archive(HEADER, ("W.npy", npy(np.ones((3, 2), order="F")))), "got Fortran, <f8, 1.0"),
            (archive(HEADER, ("W.npy", npy(np.ones(3, complex)))), "up to 64 bits or booleans, got complex128"),
            (archive(HEADER, ("W.npy", npy(np.ones(3, "f4,f4")))), "up to 64 bits or booleans, got .*f0"),
            (archive(HEADER, ("W.npy", npy(np.array([{}], object), allow_pickle=True))), "booleans, got object"),
            (archive(HEADER, ("W.npy", npy(np.zeros(10**6))), compression=zipfile.ZIP_DEFLATED), "is compressed"),
        ],
    )  # fmt: skip
    def test_is_refused_for_its_cause(self, tmp_path: Path, content: bytes, cause: str) -> None:
        (tmp_path / "forged.npz").write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"forged\.npz: .*({cause})"):
            load_arrays(tmp_path / "forged.npz")

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_two_members_of_one_name(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(archive(HEADER, ("W.npy", ONES), ("W.npy", npy(np.zeros(3)))))
        with pytest.raises(CheckpointError, match="twice"):
            load_arrays(tmp_path / "x")

    def test_members_that_overlap(self, tmp_path: Path) -> None:
        """A directory that lists the same bytes many times would turn a small file into large arrays."""
        content = archive(HEADER, *((f"{i}.npy", npy(np.zeros(2000))) for i in range(4)))
        offsets = [content.find(b"%d.npy" % i) - 30 for i in range(4)]
        directory = content.index(b"PK\1\2")
        listing = content[directory:]
        for offset in offsets[1:]:  # all entries point to the first member
            listing = listing.replace(offset.to_bytes(4, "little"), offsets[0].to_bytes(4, "little"))
        shorter = content[: offsets[1]] + listing
        end = shorter.index(b"PK\5\6") + 16
        shorter = shorter[:end] + offsets[1].to_bytes(4, "little") + shorter[end + 4 :]
        (tmp_path / "x").write_bytes(sealed(shorter))
        with pytest.raises(CheckpointError, match="overlap"):
            load_arrays(tmp_path / "x")


@pytest.mark.parametrize("field", ["n_encoder_layers", "n_decoder_layers", "d_model", "d_ff", "src_vocab"])
def test_a_model_that_claims_to_be_huge(tmp_path: Path, field: str) -> None:
    """It is refused before anything of that size is made, even a list of names."""
    config = TransformerConfig(5, 6, d_model=4, n_heads=2, d_ff=3, n_encoder_layers=1, n_decoder_layers=1)
    huge = dataclasses.asdict(config) | {field: 10**12}
    save_arrays(tmp_path / "x", dict(Transformer(config).params), {"config": huge})
    wanted = r"x: (.*expected at most 10,000, got 1,000,000,000,000|.* do not fit the co)"
    with pytest.raises(CheckpointError, match=wanted):
        Transformer.load(tmp_path / "x")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_three_hundred_at_random(tmp_path: Path) -> None:
    """No other exception and no other arrays appear; `tests/soak fuzz` tries many more files."""
    counts = fuzz(tmp_path, 300, np.random.default_rng(1))
    assert counts["damaged, refused"] == counts["forged, refused"] == 100
    assert counts["damaged and sealed, refused"] > 50 and counts.total() == 300
