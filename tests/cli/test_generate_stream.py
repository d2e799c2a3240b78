"""`TextStream`: ids that come one by one become whole letters, up to a text that ends them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.cli.generate.stream import TextStream


def decode(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


def pieces(text: bytes, *stops: str, prompt: bytes = b"") -> list[str]:
    """Push bytes until the stream is over; the last piece is the rest."""
    stream = TextStream(decode, prompt, stops)
    found = []
    for byte in text:
        found.append(stream.push(byte))
        if stream.is_over:
            break
    return [*found, stream.rest()]


def test_a_letter_comes_when_it_is_whole() -> None:
    assert pieces("aé中b".encode()) == ["a", "", "é", "", "", "中", "b", ""]
    assert pieces("é".encode()[1:], prompt="é".encode()[:1])[1:] == [""]


def test_what_is_no_letter_comes_at_the_end_or_before_the_next() -> None:
    assert pieces(b"\xe4\xb8") == ["", "", "�"]
    assert pieces(b"\xff\xffa\xff") == ["", "", "��a", "", "�"]


def test_the_first_id_of_a_text_may_be_decoded_otherwise() -> None:
    """As by SentencePiece, which leaves out the space before the first word."""
    words = [" in", " the", " beginning"]
    calls: list[list[int]] = []

    def without_first_space(ids: Sequence[int]) -> str:
        calls.append(list(ids))
        return "".join(words[i] for i in ids).removeprefix(" ")

    stream = TextStream(without_first_space, [0, 2], ())
    assert [stream.push(i) for i in (1, 2, 0)] == [" the", " beginning", " in"]
    assert max(map(len, calls)) == 3 and calls[-1] == [2, 0], "no more is decoded than the piece before"
    assert TextStream(without_first_space, [], ()).push(0) == "in"


@pytest.mark.parametrize(("text", "stops", "wanted"), [
    ("ab.cd", ["."], ["a", "b", "", ""]),
    ("abab!c", ["ab!"], ["", "", "ab", "", "", ""]),
    ("xyz", ["yzq"], ["x", "", "", "yz"]),
    ("xyz", ["zz", "yza", "q"], ["x", "", "", "yz"]),
    ("xyz", ["z", "yz"], ["x", "", "", ""]),
    ("ab", [], ["a", "b", ""]),
])  # fmt: skip
def test_stop_texts(text: str, stops: list[str], wanted: list[str]) -> None:
    assert pieces(text.encode(), *stops) == wanted


def test_a_piece_with_several_letters_may_hold_a_stop_text() -> None:
    words = {1: "one. ", 2: "two. three", 3: "four"}
    stream = TextStream(lambda ids: "".join(words[i] for i in ids), [3], ["e. t", ". t"])
    assert (stream.push(1), stream.is_over) == ("on", False)
    assert (stream.push(2), stream.is_over, stream.rest()) == ("", True, "")
    stream = TextStream(lambda ids: "one. two. three" * len(ids), (), [". "])
    assert stream.is_over is False
    assert (stream.push(1), stream.is_over) == ("one", True), "the first of two"


@given(st.text("aé中🎉b."), st.text("aé中🎉b.", min_size=1, max_size=3))
def test_the_pieces_joined_are_the_text_up_to_the_stop(text: str, stop: str) -> None:
    assert "".join(pieces(text.encode(), stop)) == text.partition(stop)[0]
    assert "".join(pieces(text.encode())) == text


@pytest.mark.parametrize("kind", ["ByteLevel", "ByteFallback"])
def test_the_decoders_of_the_package_tokenizers(kind: str) -> None:
    """Bytes of letters that no token has: as GPT-2 and Llama 3 write them, and as SentencePiece does."""
    tokenizers = pytest.importorskip("tokenizers")
    decoders, before = tokenizers.decoders, tokenizers.pre_tokenizers
    if kind == "ByteLevel":
        vocabulary = [*sorted(before.ByteLevel.alphabet()), "Ġc"]
        model = tokenizers.models.BPE({word: i for i, word in enumerate(vocabulary)}, [("Ġ", "c")])
        tokenizer = tokenizers.Tokenizer(model)
        tokenizer.pre_tokenizer = before.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        vocabulary = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "c", "▁c"]
        words = {word: i for i, word in enumerate(vocabulary)}
        model = tokenizers.models.BPE(words, [("▁", "c")], unk_token="<unk>", byte_fallback=True)
        tokenizer = tokenizers.Tokenizer(model)
        tokenizer.pre_tokenizer = before.Metaspace(replacement="▁", prepend_scheme="first")
        parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(parts)
    ids = tokenizer.encode("c 中国 cé🎉\n c").ids
    stream = TextStream(tokenizer.decode, ids[:1], ())
    found = [stream.push(id_) for id_ in ids[1:]]
    assert "".join(found) == " 中国 cé🎉\n c" and stream.rest() == ""
    assert {"中", "国", "🎉", " c"} <= set(found), "each letter as soon as it is whole"
