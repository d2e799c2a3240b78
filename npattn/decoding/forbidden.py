"""Which tokens may come next: bad words, and a first token that is given.

A bad word is a sequence of ids. Its last id is forbidden where the ids before it are the last ones of a beginning, the
start token among them. Forbidden tokens get −∞, as a score or as a log-probability. The settings are those that
Hugging Face's `generate` calls bad_words_ids and forced_bos_token_id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from npattn._internal.checks import Array, check_size, shown
from npattn.transformer.config import TransformerConfig

#: Bad words.
Words: TypeAlias = Sequence[Sequence[int]]


class Forbidden:
    """What is forbidden after the beginnings of B sources, k of each. It remembers their last ids."""

    def __init__(
        self, words: Words | None, first: int | None, config: TransformerConfig, shape: tuple[int, int]
    ) -> None:
        """Begin with the start token alone in the beginnings (B, k) of a shape. Words None: <pad> and <bos>."""
        if words is None:
            words = [[config.pad_id], [config.bos_id]]
        words = [word for word in words if list(word) != [config.eos_id]]                 # a target may always end
        self.single = [word[0] for word in words if len(word) == 1]
        self.longer = [(np.array(word[:-1]), word[-1]) for word in words if len(word) > 1]
        self.first = first
        width = max(map(len, [*words, []]))
        self.ids = np.full((*shape, width), config.tgt_vocab)  # (B, k, width)  tgt_vocab stands for no id
        self.ids[..., -1:] = config.bos_id

    def apply(self, scores: Array) -> Array:
        """Return the scores (B·k, V), in their memory: −∞ at forbidden tokens, 0 at a first id that is given."""
        scores[:, self.single] = -np.inf
        ends = self.ids.reshape(len(scores), self.ids.shape[-1])
        for prefix, last in self.longer:
            scores[(ends[:, -len(prefix) :] == prefix).all(1), last] = -np.inf
        if self.first is not None:
            scores[...] = -np.inf
            scores[:, self.first] = 0
        return scores

    def follow(self, parents: Array, ids: Array) -> None:
        """Make beam j a continuation of what was beam parents[b, j] by ids[b, j]; both (B, k)."""
        self.first = None
        if self.longer:
            past = np.take_along_axis(self.ids, parents[..., None], 1)
            self.ids = np.concatenate([past, ids[..., None]], -1)[..., 1:]

    def keep(self, kept: Array) -> None:
        """Keep the given sources, in this order."""
        self.ids = self.ids[kept]


def check_words(words: Words | None, first: int | None, vocab: int) -> None:
    """Raise unless these are None or words of ids below `vocab`, and None or such an id."""
    if words is not None:
        if isinstance(words, str) or not isinstance(words, Sequence):
            raise TypeError(f"bad_words_ids: expected a sequence of sequences of ids, got {shown(words)}")
        for word in words:
            if isinstance(word, str) or not isinstance(word, Sequence):
                raise TypeError(f"bad_words_ids: expected sequences of ids, got {shown(word)}")
            if not word:
                raise ValueError("bad_words_ids: expected sequences of ids, got an empty one")
            for each in word:
                check_id("bad_words_ids", each, vocab)
    if first is not None:
        check_id("forced_bos_id", first, vocab)


def check_id(symbol: str, value: int, vocab: int) -> None:
    """Raise unless it is an id of the vocabulary."""
    if check_size(symbol, value) >= vocab:
        raise IndexError(f"{symbol}: expected ids below {vocab}, got {value}")
