"""Symbols (characters, phonemes, words) to ids and back.

The first four ids are the same in every vocabulary, because the model and the search use these numbers: ``<pad>`` = 0
fills short rows of a batch, ``<bos>`` = 1 starts a target, ``<eos>`` = 2 ends it, ``<unk>`` = 3 stands for every symbol
that is not in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable

PAD, BOS, EOS, UNK = range(4)

#: The names of the special ids, in the order of the ids.
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")


class Vocabulary:
    """A fixed list of symbols. The id of a symbol is its place in the list, after the four special ones.

    Text never becomes a special symbol by its spelling: a word ``<eos>`` is encoded as ``<unk>``. `Codec.encode_pair`
    refuses it in training data.

    - symbols: the ordinary symbols, in the order of their ids.

    >>> letters = Vocabulary.build(["cab", "bad"])
    >>> letters
    Vocabulary(['a', 'b', 'c', 'd'])
    >>> letters.encode("dab?")
    [7, 4, 5, 3]
    >>> letters.decode([7, 4, 5, 3])
    ['d', 'a', 'b', '<unk>']
    >>> len(letters)
    8

    Raises: ValueError when a symbol comes twice, is empty, or is spelled like a special one; TypeError when it is no
    string.
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        self._symbols = (*SPECIALS, *symbols)
        self._ids: dict[str, int] = {}
        for i, symbol in enumerate(self._symbols[len(SPECIALS) :], start=len(SPECIALS)):
            if not isinstance(symbol, str):
                raise TypeError(f"symbols: expected strings, got {symbol!r}")
            if not symbol or symbol in SPECIALS or symbol in self._ids:
                raise ValueError(f"symbols: expected different, non-empty, ordinary symbols, got {symbol!r}")
            self._ids[symbol] = i

    @classmethod
    def build(cls, sequences: Iterable[Iterable[str]]) -> Vocabulary:
        """Make a vocabulary of the symbols in many sequences. It is sorted, so the order of the data does not matter.

        - sequences: sequences of symbols, such as texts or lists of words.
        """
        return cls(sorted({s for sequence in sequences for s in sequence} - set(SPECIALS)))

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Turn symbols into ids. A symbol that is not in the vocabulary becomes ``<unk>``.

        - symbols: a sequence of symbols.
        """
        return [self._ids.get(s, UNK) for s in symbols]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Turn ids into symbols. Raises IndexError for an id outside the vocabulary.

        - ids: integers, the special ones included.
        """
        ids = list(ids)
        for i in ids:
            if not 0 <= i < len(self):
                raise IndexError(f"ids: expected ids from 0 to {len(self) - 1}, got {i}")
        return [self._symbols[i] for i in ids]

    def to_list(self) -> list[str]:
        """Return the ordinary symbols in the order of their ids: `Vocabulary(v.to_list()) == v`."""
        return list(self._symbols[len(SPECIALS) :])

    def __len__(self) -> int:
        return len(self._symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._symbols == other._symbols

    def __hash__(self) -> int:
        return hash(self._symbols)

    def __repr__(self) -> str:
        symbols = self.to_list()
        more = f", … {len(symbols)} symbols" if len(symbols) > 8 else ""
        return f"Vocabulary([{', '.join(map(repr, symbols[:8]))}{more}])"
