"""`generate`: its caches, its choices, their distribution, and prompts that do not depend on each other."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from npattn import LanguageModel, generate
from npattn._internal.checks import Array
from npattn.language_model.generation import Reader, sampled
from npattn.layers import softmax
from support.language_model_toys import FAMILIES, OTHERS, toy_config, toy_language_model

PROMPTS = [np.array([4]), np.array([1, 6, 2, 5]), np.array([3, 3])]
every_model = pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])


def naive(model: LanguageModel, prompt: Array, max_new: int) -> list[int]:
    """The greedy text by the whole forward for every id."""
    text = prompt.tolist()
    for _ in range(max_new):
        text.append(int(model.forward(np.array([text]))[0][0, -1].argmax()))
    return text[len(prompt) :]


class TestCaches:
    @every_model
    def test_logits_are_those_of_forward(self, family: str) -> None:
        """Three texts of unlike length grow by unlike ids; the second ends first."""
        model = toy_language_model(family)
        texts = [prompt.tolist() for prompt in PROMPTS]
        reader, rows = Reader(model, 3, 8), [0, 1, 2]
        for more in range(4):
            logits = reader.next_logits([texts[row] for row in rows], rows)
            for row, z in zip(rows, logits, strict=True):
                wanted = model.forward(np.array([texts[row]]))[0][0, -1]
                np.testing.assert_allclose(z, wanted, rtol=0, atol=1e-12)
                texts[row].append((row + 2 * more) % 7)
            if more == 1:
                rows = [0, 2]

    @every_model
    def test_greedy_text(self, family: str) -> None:
        model = toy_language_model(family)
        assert generate(model, PROMPTS, 5, temperature=0) == [naive(model, prompt, 5) for prompt in PROMPTS]

    def test_caches_are_used_unless_frequencies_change(self) -> None:
        dynamic = toy_language_model("gelu")                  # its length of training is 2
        assert Reader(dynamic, 1, 2).has_cache and not Reader(dynamic, 1, 3).has_cache
        assert Reader(toy_language_model("llama"), 1, 99).has_cache
        learned = toy_language_model("gpt2", rotary=dynamic.config.rotary)
        assert Reader(learned, 1, 9).has_cache

    @pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-9}])
    def test_options_that_leave_one_id(self, options: dict[str, Any]) -> None:
        model = toy_language_model("llama")
        assert generate(model, PROMPTS, 5, **options) == generate(model, PROMPTS, 5, temperature=0)

    def test_one_id_at_a_time_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, shapes = toy_language_model("llama"), []
        layers = Reader.layers

        def counted(self: Reader, ids: Array, positions: Array) -> Array:
            shapes.append(ids.shape)
            return layers(self, ids, positions)

        monkeypatch.setattr(Reader, "layers", counted)
        generate(model, PROMPTS, 3)
        assert shapes == [(3, 4), (3, 1), (3, 1)]

    def test_what_new_ids_see(self) -> None:
        """The only text sees all columns up to its own and in its window; several see their own of them."""
        alone, window = Reader(toy_language_model("llama"), 1, 9), Reader(toy_language_model("mistral"), 2, 9)
        view = alone.view("full_attention", np.array([[5]]))
        assert view.columns == slice(0, 6) and view.bias is view.window is None
        view = window.view("sliding_attention", np.array([[5], [4]]))      # W = 3
        assert view.columns == slice(2, 6) and view.window == 3 and view.bias is not None
        assert (view.bias == 0).tolist() == [[[[False, True, True, True]]], [[[True, True, True, False]]]]
        assert window.view("sliding_attention", np.array([[1]])).columns == slice(0, 2)
        assert window.view("sliding_attention", np.array([[2]])).columns == slice(0, 3)
        assert window.view("sliding_attention", np.array([[3]])).columns == slice(1, 4)

    def test_float32(self) -> None:
        model = LanguageModel(toy_config("gemma3"), rng=2)
        assert generate(model, PROMPTS, 4, temperature=0) == [naive(model, prompt, 4) for prompt in PROMPTS]
        assert Reader(model, 1, 2).K[0].dtype == np.float32


class TestRows:
    def test_the_same_seed_the_same_text(self) -> None:
        model = toy_language_model("llama")
        texts = generate(model, PROMPTS, 9, rng=3)
        assert texts == generate(model, PROMPTS, 9, rng=3) == generate(model, PROMPTS, 9, rng=np.random.default_rng(3))
        assert texts != generate(model, PROMPTS, 9, rng=4)
        assert generate(model, PROMPTS, 9) == generate(model, PROMPTS, 9, rng=0, temperature=1.0, top_p=1.0, top_k=7)
        assert generate(model, PROMPTS, 9) != generate(model, PROMPTS, 9, temperature=2.0)
        rng = np.random.default_rng(3)
        assert generate(model, PROMPTS, 9, rng=rng) != generate(model, PROMPTS, 9, rng=rng)
        assert len({tuple(text) for text in generate(model, [PROMPTS[0]] * 5, 9)}) == 5

    @pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
    def test_a_text_does_not_depend_on_other_prompts(self, family: str) -> None:
        model = toy_language_model(family)
        texts = generate(model, PROMPTS, 5, rng=3, stop_id=[2])
        others = [np.array([6, 6, 1]), PROMPTS[1], np.array([5])]
        assert generate(model, others, 5, rng=3, stop_id=[2])[1] == texts[1]
        assert generate(model, PROMPTS[:1], 5, rng=3, stop_id=[2]) == texts[:1]

    def test_pads_after_the_end(self) -> None:
        model = toy_language_model("llama")
        padded = np.array([[4, 0, 0, 0], [1, 6, 2, 5], [3, 3, 0, 0]])
        assert generate(model, padded, 4) == generate(model, PROMPTS, 4)
        inside = np.array([4, 0, 5])
        assert generate(model, [inside], 4, temperature=0) == [naive(model, inside, 4)]
        free = toy_language_model("llama", pad_id=None)
        assert generate(free, padded[:1], 4, temperature=0) == [naive(free, padded[0], 4)]

    def test_stop_ids(self) -> None:
        model = toy_language_model("llama")
        whole = generate(model, PROMPTS, 12, rng=5)
        for stops in ([2], [1, 4]):
            stopped = generate(model, PROMPTS, 12, rng=5, stop_id=stops)
            for text, end in zip(whole, stopped, strict=True):
                first = min((text.index(one) for one in stops if one in text), default=11)
                assert end == text[: first + 1]
        one, several = (generate(model, PROMPTS, 12, rng=5, stop_id=stop) for stop in (2, np.array([2])))
        assert one == several != whole

    def test_nothing_to_do(self) -> None:
        model = toy_language_model("llama")
        assert generate(model, PROMPTS, 0) == [[], [], []]
        assert generate(model, [], 3) == generate(model, np.zeros((0, 2), int), 3) == []
        assert generate(toy_language_model("gpt2"), [], 9) == []

    def test_a_vocabulary_of_one(self) -> None:
        model = toy_language_model("llama", vocab=1, pad_id=None)
        assert generate(model, [np.array([0]), np.array([0, 0])], 2) == [[0, 0], [0, 0]]

    def test_the_callers_prompts_stay(self) -> None:
        prompts = np.array([[4, 5], [6, 0]])
        generate(toy_language_model("llama"), prompts, 3)
        assert prompts.tolist() == [[4, 5], [6, 0]]


def draws(z: Array, n: int, **options: Any) -> Array:
    """Return how often each id is drawn from the logits."""
    settings = {"temperature": 1.0, "top_k": None, "top_p": None} | options
    rng = np.random.default_rng(0)
    return np.bincount([sampled(z, **settings, rng=rng) for _ in range(n)], minlength=len(z))


def chi_square(counts: Array, p: Array) -> float:
    """Return χ² over its degrees of freedom, for the ids that can be drawn."""
    can = p > 0
    assert not counts[~can].any()
    expected = counts.sum() * p[can]
    return float(((counts[can] - expected) ** 2 / expected).sum() / max(can.sum() - 1, 1))


#: 0.4, 0.3, 0.15, 0.1 and 0.05 in another order.
P = np.array([0.1, 0.4, 0.05, 0.3, 0.15])


class TestDistribution:
    @pytest.mark.parametrize(("options", "wanted"), [
        ({}, P),
        ({"temperature": 0.5}, P**2),
        ({"temperature": 2.0}, P**0.5),
        ({"top_k": 2}, P * (P > 0.2)),
        ({"top_k": 1}, P * (P > 0.35)),
        ({"top_k": 4}, P * (P > 0.07)),
        ({"top_k": 9}, P),
        ({"top_k": 5}, P),
        ({"top_p": 1.0}, P),
        ({"top_p": 0.39}, P * (P > 0.35)),
        ({"top_p": 0.41}, P * (P > 0.2)),
        ({"top_p": 0.69}, P * (P > 0.2)),
        ({"top_p": 0.71}, P * (P > 0.12)),
        ({"top_p": 0.001}, P * (P > 0.35)),
        ({"top_k": 3, "top_p": 0.8}, P * (P > 0.2)),          # 0.4/0.85 + 0.3/0.85 > 0.8
        ({"top_p": 0.75, "temperature": 0.5}, P**2 * (P > 0.2)),
    ])  # fmt: skip
    def test_chi_square(self, options: dict[str, Any], wanted: Array) -> None:
        counts = draws(np.log(P) + 5, 800, **options)
        assert counts.sum() == 800 and chi_square(counts, wanted / wanted.sum()) < 3.5

    def test_of_a_model(self) -> None:
        """One id after 700 equal prompts."""
        model = toy_language_model("gemma2")
        texts = generate(model, [PROMPTS[1]] * 700, 1, temperature=0.8, rng=1)
        counts = np.bincount([text[0] for text in texts], minlength=7)
        p = softmax(model.forward(PROMPTS[1][None])[0][0, -1] / 0.8)
        assert chi_square(counts, p) < 3
        assert chi_square(counts, np.roll(p, 1)) > 10

    def test_equal_logits_at_the_border_stay(self) -> None:
        counts = draws(np.array([1.0, 1.0, 1.0, 0.0]), 300, top_k=2)
        assert (counts > 0).tolist() == [True, True, True, False]

    def test_a_sum_of_exactly_p_is_enough(self) -> None:
        assert (draws(np.zeros(2), 40, top_p=0.5) > 0).sum() == 1

    def test_a_draw_of_zero_is_no_impossible_id(self) -> None:
        class Zero(np.random.Generator):
            def random(self) -> float:  # type: ignore[override]
                return 0.0

        assert sampled(np.array([-np.inf, 1.0]), 1.0, None, None, Zero(np.random.PCG64(0))) == 1

    def test_extremes(self) -> None:
        z = np.array([-1e30, 3.0, 2.0], np.float32)
        for temperature in (0.0, 1e-300, 5e-324):
            assert draws(z, 20, temperature=temperature).tolist() == [0, 20, 0]
        assert draws(z, 200, temperature=1e300).min() > 0
        assert draws(np.array([2.0]), 3).tolist() == [3]

    def test_logits_are_not_changed(self) -> None:
        z = np.log(P)
        draws(z, 3, top_k=2, top_p=0.5)
        assert np.array_equal(z, np.log(P))


class TestWrongArguments:
    @pytest.mark.parametrize(("change", "error", "message"), [
        ({"model": 3}, TypeError, "model: expected a LanguageModel, got int"),
        ({"max_new": -1}, ValueError, "max_new: expected 0 or more, got -1"),
        ({"temperature": -1}, ValueError, "temperature: expected 0 ≤ temperature < inf, got -1"),
        ({"top_k": 0}, ValueError, "top_k: expected 1 or more, got 0"),
        ({"top_p": 0}, ValueError, "top_p: expected 0 < top_p ≤ 1, got 0"),
        ({"top_p": 1.5}, ValueError, "top_p: expected 0 < top_p ≤ 1, got 1.5"),
        ({"max_new": 10**15}, ValueError,
         "max_new: expected no more numbers than memory has room for, got 144000000000000432"),
        ({"stop_id": -1}, ValueError, "stop_id: expected 0 or more, got -1"),
        ({"stop_id": [1, "a"]}, TypeError, "stop_id: expected an integer, got 'a'"),
        ({"rng": "a"}, TypeError, "rng: expected a numpy.random.Generator or an integer seed, got 'a'"),
        ({"ids": 3}, TypeError, "ids: expected prompts (B, N) or a list of prompts, got int"),
        ({"ids": np.array([1, 2])}, ValueError, "ids: expected prompts (B, N), got (2,)"),
        ({"ids": [np.array([[1, 2]])]}, ValueError, "ids: expected prompts (N,), got (1, 2)"),
        ({"ids": [[1, 2]]}, TypeError, "ids: expected an integer array, got list"),
        ({"ids": [np.array([1, 7])]}, IndexError, "ids: expected ids from 0 to 6, got 7"),
        ({"ids": np.array([[1, 2], [0, 0]])}, ValueError,
         "ids: expected one id or more in each prompt, got an empty one"),
    ])  # fmt: skip
    def test_each_is_named(self, change: dict[str, Any], error: type[Exception], message: str) -> None:
        arguments = {"model": toy_language_model("llama"), "ids": PROMPTS, "max_new": 2} | change
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            generate(**arguments)

    def test_learned_positions_end(self) -> None:
        model = toy_language_model("gpt2")                    # nine of them
        assert len(generate(model, PROMPTS, 5)[0]) == 5
        with pytest.raises(ValueError, match=r"^max_new: expected at most max_length=9 ids with the prompt, got 10$"):
            generate(model, PROMPTS, 6)
        assert len(generate(toy_language_model("llama", max_length=9), PROMPTS, 6)[0]) == 6

    def test_logits_that_are_not_finite(self) -> None:
        model = toy_language_model("llama")
        model.params["output.W"][0, 0] = np.nan
        with pytest.raises(FloatingPointError, match=r"^logits: expected finite numbers, got NaN or infinity$"):
            generate(model, PROMPTS, 2)
