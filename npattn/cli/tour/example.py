"""One sentence for all seven versions: small enough to follow, with weights that mean something.

Every word is a vector of four hand-made features, and two questions are asked of the sentence. What would be learnt is
set by hand, so that the weights can be judged by eye: "where?" should find the sea wall, a verb its subject, a
preposition its place. Only what no weight depends on (W_V and W_O), and the network of version 1, is drawn at random.
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

WHO, WHERE = np.array([8.0, 0.0, 0.0, 0.0]), np.array([0.0, 0.0, 8.0, 0.0])

#: What each feature asks for: a person for an action, an action of a person, a place for a relation, and so on.
ASKS = 8 * np.eye(4)[[1, 0, 3, 2]]


class Example(NamedTuple):
    """The arguments of a version's forward, and how to name the rows of its weights (per head, if it has heads)."""

    version: Version
    arrays: dict[str, Array]
    options: dict[str, Any]
    queries: tuple[str, ...]


def examples() -> list[Example]:
    """Return the example of every version, in order."""
    rng = np.random.default_rng(28)
    W_Q, W_X, w = rng.normal(size=(4, 3)) / 2, rng.normal(size=(4, 3)), rng.normal(size=3)
    W_V, W_O = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    questions = np.stack([WHO, WHERE])
    keys = np.eye(4)[:, [0, 2]]                               # person and place: all that the questions ask for
    one, both = ("where?",), ("who?", "where?")
    arguments: list[tuple[dict[str, Array], dict[str, Any], tuple[str, ...]]] = [
        ({"q": WHERE, "X": X, "W_Q": W_Q, "W_X": W_X, "w": w}, {}, one),
        ({"q": WHERE, "X": X}, {}, one),
        ({"q": WHERE, "X": X}, {}, one),
        ({"Q": questions, "X": X}, {}, both),
        ({"Q": questions @ keys, "X": X, "W_K": keys, "W_V": W_V[:, :3]}, {}, both),
        ({"X": X, "W_Q": ASKS, "W_K": np.eye(4), "W_V": W_V[:, :3]}, {}, WORDS),
        ({"X_Q": X, "X": X, "W_Q": ASKS, "W_K": np.eye(4), "W_V": W_V, "W_O": W_O}, {"n_heads": 2}, WORDS),
    ]
    return [Example(version, *each) for version, each in zip(VERSIONS, arguments, strict=True)]
