"""Text to ids and back, for both sides of a task.

A codec is all that a trained model needs to be used: a run folder keeps it as JSON, and predictions are made
without the data that the model was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from npattn._internal.checks import check_flag, check_size, shown
from npattn.tasks.batches import Pair
from npattn.tasks.vocabulary import BOS, EOS, Vocabulary

#: What one symbol is: a character (joined by nothing), or a word between white space (joined by one space).
Unit: TypeAlias = Literal["characters", "words"]

#: The fields of a codec in JSON, and their types.
FIELDS: dict[str, type] = {
    "source_symbols": list, "target_symbols": list, "source_unit": str, "target_unit": str, "lowercase": bool,
    "max_target_length": int,
}  # fmt: skip


def tokenize(text: str, unit: Unit) -> list[str]:
    """Cut a text into its symbols.

    >>> tokenize("K AE T", "words"), tokenize("cat", "characters")
    (['K', 'AE', 'T'], ['c', 'a', 't'])
    """
    return text.split() if unit == "words" else list(text)


def detokenize(symbols: Iterable[str], unit: Unit) -> str:
    """Join symbols into a text."""
    return (" " if unit == "words" else "").join(symbols)


@dataclass(frozen=True)
class Codec:
    """Vocabularies and units of the source and the target.

    >>> codec = Codec(Vocabulary("act"), Vocabulary(["AE", "K", "T"]), "characters", "words", lowercase=True)
    >>> codec.encode_source("Cat")
    [5, 4, 6]
    >>> codec.encode_target("K AE T")
    [1, 5, 4, 6, 2]
    >>> codec.decode_target([5, 4, 6])
    'K AE T'
    >>> Codec.from_json(codec.to_json()) == codec
    True

    Raises: ValueError for a unit that is neither characters nor words, or a negative `max_target_length`.
    """

    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    source_unit: Unit
    target_unit: Unit
    lowercase: bool = False  # the source is put in lower case before anything else
    max_target_length: int = 100  # of the longest target in the data: where a search may give up

    def __post_init__(self) -> None:
        for name, unit in (("source_unit", self.source_unit), ("target_unit", self.target_unit)):
            check_unit(unit, name)
        for name, vocabulary in (
            ("source_vocabulary", self.source_vocabulary), ("target_vocabulary", self.target_vocabulary)
        ):  # fmt: skip
            if not isinstance(vocabulary, Vocabulary):
                raise TypeError(f"{name}: expected a Vocabulary, got {type(vocabulary).__name__}")
        # JSON takes numbers of Python's own, and no others.
        object.__setattr__(self, "lowercase", check_flag("lowercase", self.lowercase))
        object.__setattr__(self, "max_target_length", check_size("max_target_length", self.max_target_length))

    def tokenize(self, text: str) -> list[str]:
        """Cut a source text into symbols, surrounding white space removed."""
        text = text.strip()
        return tokenize(text.lower() if self.lowercase else text, self.source_unit)

    def detokenize(self, symbols: Iterable[str]) -> str:
        """Join target symbols into a text."""
        return detokenize(symbols, self.target_unit)

    def encode_source(self, text: str) -> list[int]:
        """Turn a source text into ids. Raises ValueError when it is empty."""
        symbols = self.tokenize(text)
        if not symbols:
            raise ValueError(f"text: expected at least one of {self.source_unit}, got {text!r}")
        return self.source_vocabulary.encode(symbols)

    def encode_target(self, text: str) -> list[int]:
        """Turn a target text into ids, from ``<bos>`` to ``<eos>``."""
        return [BOS, *self.target_vocabulary.encode(tokenize(text, self.target_unit)), EOS]

    def encode_pair(self, source: str, target: str) -> Pair:
        """Turn one example into ids."""
        return Pair(self.encode_source(source), self.encode_target(target))

    def decode_target(self, ids: Iterable[int]) -> str:
        """Turn the ids that a search found (without ``<bos>`` and ``<eos>``) into text."""
        return self.detokenize(self.target_vocabulary.decode(ids))

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain lists, strings and numbers."""
        return {
            "source_symbols": self.source_vocabulary.to_list(),
            "target_symbols": self.target_vocabulary.to_list(),
            "source_unit": self.source_unit,
            "target_unit": self.target_unit,
            "lowercase": self.lowercase,
            "max_target_length": self.max_target_length,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Codec:
        """Rebuild a codec from what `to_json` gave. Raises ValueError when a field is missing or wrong."""
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
        )


def check_unit(unit: str, name: str = "unit") -> None:
    """Raise a ValueError unless `unit` is one that `tokenize` knows."""
    if not isinstance(unit, str) or unit not in get_args(Unit):
        raise ValueError(f"{name}: expected {' or '.join(get_args(Unit))}, got {shown(unit)}")


def build_codec(
    examples: Iterable[tuple[str, str]], source_unit: Unit, target_unit: Unit, *, lowercase: bool = False
) -> Codec:
    """Collect the vocabularies of the training examples, given as texts (source, target)."""
    check_unit(source_unit, "source_unit")
    check_unit(target_unit, "target_unit")
    sources, targets = set[str](), set[str]()
    longest = 0
    for source, target in examples:
        sources.update(tokenize(source.lower() if lowercase else source, source_unit))
        symbols = tokenize(target, target_unit)
        targets.update(symbols)
        longest = max(longest, len(symbols))
    build = Vocabulary.build
    return Codec(build([sources]), build([targets]), source_unit, target_unit, lowercase, longest)
