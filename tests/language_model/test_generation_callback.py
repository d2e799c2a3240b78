"""`generate(callback=…)`: each new id as soon as it is drawn, and texts that end early."""

from __future__ import annotations

import numpy as np
import pytest

from npattn import generate
from support.language_model_toys import toy_language_model

PROMPTS = [np.array([4]), np.array([1, 6, 2, 5]), np.array([3, 3])]


def test_every_id_in_its_order_and_nothing_else_changes() -> None:
    model = toy_language_model("mistral")
    told: list[tuple[int, int]] = []
    texts = generate(model, PROMPTS, 4, rng=2, callback=lambda row, id_: told.append((row, id_)))
    assert texts == generate(model, PROMPTS, 4, rng=2)
    assert told == [(row, texts[row][n]) for n in range(4) for row in range(3)]


def test_the_stop_id_is_told_too() -> None:
    model = toy_language_model("mistral")
    first = generate(model, PROMPTS[:1], 1, rng=2)[0][0]
    told: list[int] = []
    texts = generate(model, PROMPTS[:1], 9, rng=2, stop_id=first, callback=lambda row, id_: told.append(id_))
    assert texts == [[first]] and told == [first]


def test_true_ends_one_text_and_the_others_go_on() -> None:
    model = toy_language_model("mistral")
    left = [3, 1, 4]

    def callback(row: int, id_: int) -> np.bool:
        left[row] -= 1
        return np.bool(not left[row])

    whole = generate(model, PROMPTS, 4, rng=2)
    assert generate(model, PROMPTS, 4, rng=2, callback=callback) == [whole[0][:3], whole[1][:1], whole[2]]


def test_what_cannot_be_called() -> None:
    with pytest.raises(TypeError, match=r"^callback: expected a function or None, got 3$"):
        generate(toy_language_model("mistral"), PROMPTS, 0, callback=3)  # type: ignore[arg-type]
