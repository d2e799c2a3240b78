"""Text to ids and back, for source and target of a task.

A run keeps its codec as JSON. A trained model needs only its codec for predictions, not its training data.

**Spelling**  Unicode has two spellings of é: one character (NFC), or e and a combining accent (NFD). They look the
same, so a codec composes every text before it cuts it. A codec from before this rule may have learnt the parts: it
composes only if its vocabularies hold no combining character. A source may use any apostrophe: one that is not in the
vocabulary is read as another that is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from npattn._internal.checks import check_flag, check_size, shown
from npattn.tasks.batches import Pair
from npattn.tasks.vocabulary import BOS, EOS, SPECIALS, UNK, Vocabulary

#: What one symbol is: a character, or a word between white space. Words are joined by one space.
Unit: TypeAlias = Literal["characters", "words"]

#: The fields of a codec in JSON, and their types.
FIELDS: dict[str, type] = {
    "source_symbols": list, "target_symbols": list, "source_unit": str, "target_unit": str, "lowercase": bool,
    "max_target_length": int,
}  # fmt: skip

#: The apostrophe of keyboards, those of typesetting, of phonetics and of East Asian text.
APOSTROPHES = "'’‘ʼ＇"


def tokenize(text: str, unit: Unit) -> list[str]:
    """Cut a text into its symbols.

    >>> tokenize("K AE T", "words"), tokenize("cat", "characters")
    (['K', 'AE', 'T'], ['c', 'a', 't'])
    """
    return text.split() if unit == "words" else list(text)


def nfc(text: str) -> str:
    """Return the text with every letter and its accents as one character, where Unicode has one (NFC)."""
    return unicodedata.normalize("NFC", text)


def check_ordinary(symbols: Iterable[str]) -> None:
    """Raise a ValueError for a symbol that npattn adds itself. ``<unk>`` in data means the same as npattn's."""
    for symbol in symbols:
        if symbol in SPECIALS[:UNK]:
            raise ValueError(f"expected no word {symbol!r} in the data, npattn adds it itself")


def detokenize(symbols: Iterable[str], unit: Unit) -> str:
    """Join symbols into a text."""
    return (" " if unit == "words" else "").join(symbols)


@dataclass(frozen=True)
class Codec:
    """Vocabularies and units of source and target.

    - source_vocabulary, target_vocabulary: a `Vocabulary` for each.
    - source_unit, target_unit: what one symbol is, "characters" or "words".
    - lowercase: True turns the source text into lower case before it is encoded.
    - max_target_length: symbols in the longest target of the data. A search ends a few symbols after it.
    - compose: True composes letters and accents (Unicode's NFC) before a text is cut; None does so unless a vocabulary
      holds combining characters.

    >>> codec = Codec(Vocabulary("act"), Vocabulary(["AE", "K", "T"]), "characters", "words", lowercase=True)
    >>> codec.encode_source("Cat")
    [5, 4, 6]
    >>> codec.encode_target("K AE T")
    [1, 5, 4, 6, 2]
    >>> codec.decode_target([5, 4, 6])
    'K AE T'
    >>> Codec.from_json(codec.to_json()) == codec
    True

    Raises: ValueError for a unit that is neither characters nor words, or a negative `max_target_length`; TypeError for
    an argument of another type.
    """

    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    source_unit: Unit
    target_unit: Unit
    lowercase: bool = False
    max_target_length: int = 100
    compose: bool | None = None

    def __post_init__(self) -> None:
        check_unit(self.source_unit, "source_unit")
        check_unit(self.target_unit, "target_unit")
        for name in ("source_vocabulary", "target_vocabulary"):
            vocabulary = getattr(self, name)
            if not isinstance(vocabulary, Vocabulary):
                raise TypeError(f"{name}: expected a Vocabulary, got {type(vocabulary).__name__}")
        # JSON takes Python's own numbers, not NumPy's.
        object.__setattr__(self, "lowercase", check_flag("lowercase", self.lowercase))
        object.__setattr__(self, "max_target_length", check_size("max_target_length", self.max_target_length))
        compose = self._holds_no_parts() if self.compose is None else check_flag("compose", self.compose)
        object.__setattr__(self, "compose", compose)

    def tokenize(self, text: str) -> list[str]:
        """Cut a source text into symbols. White space around the text is dropped.

        - text: a source text.
        """
        text = text.strip()
        symbols = tokenize(self._composed(text.lower() if self.lowercase else text), self.source_unit)
        return [self._with_known_apostrophe(symbol) for symbol in symbols]

    def tokenize_target(self, text: str) -> list[str]:
        """Cut a target text into symbols.

        - text: a target text.
        """
        return tokenize(self._composed(text), self.target_unit)

    def detokenize(self, symbols: Iterable[str]) -> str:
        """Join target symbols into a text.

        - symbols: symbols of the target.
        """
        return detokenize(symbols, self.target_unit)

    def encode_source(self, text: str) -> list[int]:
        """Turn a source text into ids. Raises ValueError when it is empty.

        - text: a source text.
        """
        symbols = self.tokenize(text)
        if not symbols:
            raise ValueError(f"text: expected at least one of {self.source_unit}, got {text!r}")
        return self.source_vocabulary.encode(symbols)

    def encode_target(self, text: str) -> list[int]:
        """Turn a target text into ids, from ``<bos>`` to ``<eos>``.

        - text: a target text.
        """
        return [BOS, *self.target_vocabulary.encode(self.tokenize_target(text)), EOS]

    def encode_pair(self, source: str, target: str) -> Pair:
        """Turn one example into ids. Raises ValueError for an empty source, and for a word that npattn adds itself.

        - source, target: the two texts. The target may be empty.
        """
        if "<" in source + target:                            # the check takes as long as the rest
            check_ordinary([*self.tokenize(source), *self.tokenize_target(target)])
        return Pair(self.encode_source(source), self.encode_target(target))

    def decode_target(self, ids: Iterable[int]) -> str:
        """Turn the ids of a target into text. Raises IndexError for an id outside the vocabulary.

        - ids: the ids that a search found, without ``<bos>`` and ``<eos>``.
        """
        return self.detokenize(self.target_vocabulary.decode(ids))

    def to_json(self) -> dict[str, Any]:
        """Return all fields as lists, strings and numbers, for a JSON file."""
        follows = self.compose == self._holds_no_parts()      # left out: the JSON of older codecs stays the same
        return {
            "source_symbols": self.source_vocabulary.to_list(),
            "target_symbols": self.target_vocabulary.to_list(),
            "source_unit": self.source_unit,
            "target_unit": self.target_unit,
            "lowercase": self.lowercase,
            "max_target_length": self.max_target_length,
        } | ({} if follows else {"compose": self.compose})

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Codec:
        """Make a codec from its fields. Raises ValueError when a field is missing or wrong.

        - fields: what `to_json` returned.
        """
        for name, kind in FIELDS.items():
            if name not in fields:
                raise ValueError(f"codec: expected a field {name!r}, got {sorted(fields)}")
            if type(fields[name]) is not kind:
                raise ValueError(f"codec: expected {name} as {kind.__name__}, got {fields[name]!r:.40}")
        return cls(
            Vocabulary(fields["source_symbols"]),
            Vocabulary(fields["target_symbols"]),
            fields["source_unit"],
            fields["target_unit"],
            fields["lowercase"],
            fields["max_target_length"],
            fields.get("compose"),
        )

    def _holds_no_parts(self) -> bool:
        """Return whether the vocabularies hold nothing to compose: no combining accents, no parts of Korean letters."""
        symbols = "".join(self.source_vocabulary.to_list() + self.target_vocabulary.to_list())
        parts = (c for c in symbols if unicodedata.category(c)[0] == "M" or "\u1161" <= c <= "\u11ff")
        return not any(parts) and unicodedata.is_normalized("NFC", symbols)

    def _composed(self, text: str) -> str:
        return nfc(text) if self.compose else text

    def _with_known_apostrophe(self, symbol: str) -> str:
        """Return the symbol, or if it is unknown, a known one that differs by the kind of its apostrophes alone."""
        if symbol not in self.source_vocabulary:
            for apostrophe in APOSTROPHES:
                other = "".join(apostrophe if c in APOSTROPHES else c for c in symbol)
                if other in self.source_vocabulary:
                    return other
        return symbol


def check_unit(unit: str, name: str = "unit") -> None:
    """Raise a ValueError unless `unit` is one of the two units."""
    if not isinstance(unit, str) or unit not in get_args(Unit):
        raise ValueError(f"{name}: expected {' or '.join(get_args(Unit))}, got {shown(unit)}")


def build_codec(
    examples: Sequence[tuple[str, str]], source_unit: Unit, target_unit: Unit, *, lowercase: bool = False
) -> Codec:
    """Make a codec with the symbols of the training examples, which are texts (source, target)."""
    sources = (tokenize(nfc(source.lower() if lowercase else source), source_unit) for source, _ in examples)
    targets = [tokenize(nfc(target), target_unit) for _, target in examples]
    longest = max(map(len, targets), default=0)
    vocabularies = Vocabulary.build(sources), Vocabulary.build(targets)
    return Codec(*vocabularies, source_unit, target_unit, lowercase, longest, compose=True)
