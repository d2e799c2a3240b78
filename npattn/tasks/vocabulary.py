"""Symbols (characters, phonemes, words) to ids and back.

The first four ids are the same in every vocabulary, because the model and the search know them by number:
``<pad>`` = 0 fills short rows of a batch, ``<bos>`` = 1 starts a target, ``<eos>`` = 2 ends it, ``<unk>`` = 3
stands for every symbol that training never showed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

PAD, BOS, EOS, UNK = range(4)

#: The names of the special ids, in the order of the ids.
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")


class Vocabulary:
    """A fixed list of symbols; the id of a symbol is its place in the list, after the four special ones.

    Text is never mistaken for a special symbol: a word of the data that is spelled ``<eos>`` encodes to
    ``<unk>``.

    >>> letters = Vocabulary.build(["cab", "bad"])
    >>> letters
    Vocabulary(['a', 'b', 'c', 'd'])
    >>> letters.encode("dab?")
    [7, 4, 5, 3]
    >>> letters.decode([7, 4, 5, 3])
    ['d', 'a', 'b', '<unk>']
    >>> len(letters)
    8

    Raises: ValueError when a symbol comes twice, is empty, or is spelled like a special one; TypeError when
    it is no string.
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
        """Collect the symbols of many sequences, sorted, so that the order of the data does not matter."""
        return cls(sorted({s for sequence in sequences for s in sequence} - set(SPECIALS)))

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Turn symbols into ids; a symbol that is not in the vocabulary becomes ``<unk>``."""
        return [self._ids.get(s, UNK) for s in symbols]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Turn ids into symbols. Raises IndexError for an id outside the vocabulary."""
        symbols = []
        for i in ids:
            if not 0 <= i < len(self._symbols):
                raise IndexError(f"ids: expected ids from 0 to {len(self) - 1}, got {i}")
            symbols.append(self._symbols[i])
        return symbols

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
        return f"Vocabulary({_shorten(self.to_list())})"


def _shorten(symbols: Sequence[str], most: int = 8) -> str:
    if len(symbols) <= most:
        return str(list(symbols))
    return f"[{', '.join(map(repr, symbols[:most]))}, … {len(symbols)} symbols]"
