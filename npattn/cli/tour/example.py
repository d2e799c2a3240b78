"""One sentence for all seven versions: small enough to follow, with weights that have a meaning.

Every word is a vector of four features that are set by hand. Queries and keys are set by hand too, in place of learnt
ones, so that the weights can be judged by eye: "where?" should find the sea wall, a verb its subject, a preposition its
place. Random are W_V and W_O, on which no weight depends, and the network of version 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.attention import VERSIONS, Version

WORDS = ("she", "sat", "by", "the", "sea", "wall")
FEATURES = ("person", "action", "place", "relation")

X = np.array([
    [0.9, 0.1, 0.0, 0.0],
    [0.2, 0.9, 0.1, 0.1],
    [0.0, 0.1, 0.2, 0.9],
    [0.1, 0.0, 0.1, 0.2],
    [0.0, 0.2, 0.8, 0.1],
    [0.1, 0.0, 0.9, 0.1],
])  # fmt: skip

#: Two queries, in the same features.
WHO, WHERE = np.array([8.0, 0.0, 0.0, 0.0]), np.array([0.0, 0.0, 8.0, 0.0])

#: W_Q for words: person ↔ action, place ↔ relation. The query of a verb, for instance, is like the key of a person.
W_WORDS = 8 * np.eye(4)[[1, 0, 3, 2]]


class Example(NamedTuple):
    """The arguments of a version's forward, and the names of the queries: the rows of its weights, of each head."""

    version: Version
    arrays: dict[str, Array]
    options: dict[str, Any]
    queries: tuple[str, ...]


def examples() -> list[Example]:
    """Return the example of every version, in order."""
    rng = np.random.default_rng(28)
    W_Q, W_X, w = rng.normal(size=(4, 3)) / 2, rng.normal(size=(4, 3)), rng.normal(size=3)
    W_V, W_O = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    Q = np.stack([WHO, WHERE])
    keys = np.eye(4)[:, [0, 2]]                               # the features that the queries use: person and place
    one, both = ("where?",), ("who?", "where?")
    arguments: list[tuple[dict[str, Array], dict[str, Any], tuple[str, ...]]] = [
        ({"q": WHERE, "X": X, "W_Q": W_Q, "W_X": W_X, "w": w}, {}, one),
        ({"q": WHERE, "X": X}, {}, one),
        ({"q": WHERE, "X": X}, {}, one),
        ({"Q": Q, "X": X}, {}, both),
        ({"Q": Q @ keys, "X": X, "W_K": keys, "W_V": W_V[:, :3]}, {}, both),
        ({"X": X, "W_Q": W_WORDS, "W_K": np.eye(4), "W_V": W_V[:, :3]}, {}, WORDS),
        ({"X_Q": X, "X": X, "W_Q": W_WORDS, "W_K": np.eye(4), "W_V": W_V, "W_O": W_O}, {"n_heads": 2}, WORDS),
    ]
    return [Example(version, *each) for version, each in zip(VERSIONS, arguments, strict=True)]
