"""Vocabularies and codecs: decoding inverts encoding, and text never becomes a special symbol."""

from __future__ import annotations

import dataclasses
import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.runs.load import FOLDER
from npattn.runs.settings import codec_of, read_description
from npattn.tasks.codec import Codec, Unit, build_codec, detokenize, tokenize
from npattn.tasks.vocabulary import BOS, EOS, PAD, SPECIALS, UNK, Vocabulary

WORDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=5)
SENTENCES = st.lists(WORDS, min_size=1, max_size=6)


@given(st.lists(SENTENCES, min_size=1, max_size=8), st.data())
def test_decode_inverts_encode(sentences: list[list[str]], data: st.DataObject) -> None:
    vocabulary = Vocabulary.build(sentences)
    sentence = data.draw(st.sampled_from(sentences))
    assert vocabulary.decode(vocabulary.encode(sentence)) == [
        "<unk>" if symbol in SPECIALS else symbol for symbol in sentence
    ]


@given(st.lists(SENTENCES, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_the_data_does_not_matter(sentences: list[list[str]], random: object) -> None:
    shuffled = sorted(sentences, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert Vocabulary.build(shuffled) == Vocabulary.build(sentences)


def test_the_special_ids_are_the_first_four() -> None:
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    vocabulary = Vocabulary.build([["b", "<eos>", "a"]])
    assert vocabulary.to_list() == ["a", "b"] and len(vocabulary) == 6
    assert vocabulary.encode(["a", "b", "<eos>", "c"]) == [4, 5, UNK, UNK]
    assert vocabulary.decode(range(6)) == [*SPECIALS, "a", "b"]
    assert "a" in vocabulary and "<eos>" not in vocabulary


@pytest.mark.parametrize("symbols", [["a", "a"], [""], ["<pad>"]])
def test_an_error_names_the_bad_symbol(symbols: list[str]) -> None:
    with pytest.raises(ValueError, match=f"got {symbols[0]!r}"):
        Vocabulary(symbols)


def test_symbols_must_be_strings() -> None:
    with pytest.raises(TypeError, match="expected strings, got 7"):
        Vocabulary(["a", 7])  # type: ignore[list-item]


@pytest.mark.parametrize("bad", [-1, 6])
def test_an_error_names_the_id_out_of_range(bad: int) -> None:
    with pytest.raises(IndexError, match=f"ids from 0 to 5, got {bad}"):
        Vocabulary("ab").decode([4, bad])


def test_the_repr_of_a_large_vocabulary_is_short() -> None:
    assert repr(Vocabulary(map(str, range(1000)))).endswith("'7', … 1000 symbols])")


@given(SENTENCES, st.sampled_from(get_args(Unit)))
def test_detokenize_inverts_tokenize(words: list[str], unit: Unit) -> None:
    text = " ".join(words)
    assert detokenize(tokenize(text, unit), unit) == text


@given(st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=5), st.booleans())
def test_a_codec_is_the_same_after_json(examples: list[tuple[list[str], list[str]]], lowercase: bool) -> None:
    texts = [(" ".join(source), " ".join(target)) for source, target in examples]
    codec = build_codec(texts, "characters", "words", lowercase=lowercase)
    again = Codec.from_json(json.loads(json.dumps(codec.to_json())))
    assert again == codec
    for source, target in texts:
        pair = again.encode_pair(source, target)
        assert UNK not in pair.source
        assert pair.target[0] == BOS and pair.target[-1] == EOS
        if not set(target.split()) & set(SPECIALS):
            assert codec.decode_target(pair.target[1:-1]) == target
        assert len(pair.target) - 2 <= codec.max_target_length


def test_a_codec_strips_and_lowers_its_source() -> None:
    codec = build_codec([("cat", "K AE T")], "characters", "words", lowercase=True)
    assert codec.tokenize(" Cat\n") == ["c", "a", "t"]
    assert codec.encode_source("Catz") == [5, 4, 6, UNK]
    with pytest.raises(ValueError, match="text: expected at least one of characters, got '  '"):
        codec.encode_source("  ")


def test_an_error_names_the_bad_field_of_a_codec() -> None:
    codec = Codec(Vocabulary("a"), Vocabulary("b"), "characters", "characters")
    fields = codec.to_json()
    with pytest.raises(ValueError, match="target_unit: expected characters or words, got 'syllables'"):
        Codec.from_json(fields | {"target_unit": "syllables"})
    del fields["lowercase"]
    with pytest.raises(ValueError, match="expected a field 'lowercase'"):
        Codec.from_json(fields)


class TestSpelling:
    @pytest.mark.parametrize(
        ("symbols", "composes"),
        [(["a", "é"], True), (["a", "e", "\u0301"], False), (["\u212b"], False), (["\u1100", "\u1161"], False),
         (["e\u0301a"], False), (["가", "年"], True), ([], True)],
    )  # fmt: skip
    def test_a_codec_without_the_rule_composes_unless_it_has_learnt_parts(
        self, symbols: list[str], composes: bool
    ) -> None:
        """A trained model of an older npattn goes on to read the symbols that it has learnt."""
        for sides in ((symbols, ["x"]), (["x"], symbols)):
            codec = Codec(*map(Vocabulary, sides), "characters", "words")
            assert codec.compose is composes
            assert "compose" not in codec.to_json()
            for compose in (True, False):
                given = dataclasses.replace(codec, compose=compose)
                assert Codec.from_json(given.to_json()) == given
        with pytest.raises(TypeError, match=r"^compose: expected True or False, got 1$"):
            dataclasses.replace(codec, compose=1)  # type: ignore[arg-type]

    def test_parts_that_were_learnt_are_read(self) -> None:
        codec = Codec(Vocabulary(["e", "\u0301"]), Vocabulary(["e", "\u0301"]), "characters", "characters")
        assert codec.encode_source("e\u0301") == [4, 5] and codec.encode_target("e\u0301") == [BOS, 4, 5, EOS]
        composing = dataclasses.replace(codec, compose=True)
        assert composing.encode_source("e\u0301") == [UNK] and composing.encode_target("e\u0301") == [BOS, UNK, EOS]

    @pytest.mark.parametrize("typed", "'’‘ʼ＇")
    @pytest.mark.parametrize("learnt", ["'", "’"])
    def test_any_apostrophe_is_read_as_the_known_one(self, typed: str, learnt: str) -> None:
        codec = Codec(Vocabulary(["d", learnt]), Vocabulary("x"), "characters", "characters", lowercase=True)
        assert codec.encode_source(f"D{typed}") == [4, 5]
        words = Codec(Vocabulary([f"don{learnt}t", "a"]), Vocabulary("x"), "words", "characters")
        assert words.encode_source(f"a don{typed}t can{typed}t") == [5, 4, UNK]
        assert words.tokenize(f"can{typed}t") == [f"can{typed}t"]

    def test_known_apostrophes_stay_apart(self) -> None:
        codec = Codec(Vocabulary("'’"), Vocabulary("x"), "characters", "characters")
        assert codec.encode_source("'’ʼ") == [4, 5, 4]

    def test_the_shipped_model(self) -> None:
        codec = codec_of(FOLDER / "g2p", read_description(FOLDER / "g2p"))
        assert codec.encode_source("Don’t") == codec.encode_source("don't") and UNK not in codec.encode_source("Don’t")
        assert codec.encode_source("na\u00efve") == codec.encode_source("nai\u0308ve")
