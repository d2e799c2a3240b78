"""From source texts to target texts: the target of a text does not depend on the other texts of its batch."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest

from npattn import beam_search, greedy_search
from npattn.runs import prediction
from npattn.runs.prediction import attention_weights, longest_source, predict
from npattn.runs.trained import TrainedModel
from npattn.tasks import Codec, Vocabulary
from support.transformer_toys import toy_model

TEXTS = ["abcde", "b", "eda", " Cab ", "b", "ax", "ddddd"]
CODEC = Codec(
    Vocabulary("abcde"), Vocabulary(["P", "QU", "R"]), "characters", "words", lowercase=True, max_target_length=3
)


def random_model(seed: int = 12) -> Any:
    """Return a model with the codec's vocabularies (four special ids and the symbols); its targets differ in length."""
    return toy_model(seed, tgt_vocab=7, tie="none", norm="pre", n_encoder_layers=1, n_decoder_layers=1)


class TestPredict:
    def test_greedy(self) -> None:
        model = random_model()
        found = predict(model, CODEC, TEXTS)
        for text, target in zip(TEXTS, found, strict=True):
            ids = greedy_search(model, np.array([CODEC.encode_source(text)]), 3 + 4)[0]
            assert target == CODEC.decode_target(ids)
        assert len(set(found)) >= 4
        assert any(" " in target for target in found)         # words are joined by spaces

    @pytest.mark.parametrize("beam", [2, 3])
    def test_beam(self, beam: int) -> None:
        model = random_model()
        found = predict(model, CODEC, TEXTS, beam=beam)
        for text, target in zip(TEXTS, found, strict=True):
            best = beam_search(model, np.array([CODEC.encode_source(text)]), beam, 3 + 4)[0][0]
            assert target == CODEC.decode_target(best.ids)

    def test_beams_differ_from_greedy(self) -> None:
        """Otherwise the two tests above could not distinguish the searches."""
        models = map(random_model, range(9))
        assert any(predict(model, CODEC, TEXTS, beam=3) != predict(model, CODEC, TEXTS) for model in models)

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 256])
    def test_batches_do_not_matter(self, batch_size: int) -> None:
        model = random_model()
        assert predict(model, CODEC, TEXTS, batch_size=batch_size) == predict(model, CODEC, TEXTS)

    def test_texts_of_similar_length_share_a_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shapes = []

        def search(model: Any, src: Any, max_len: int, **options: Any) -> Any:
            shapes.append((src.shape, max_len))
            return greedy_search(model, src, max_len, **options)

        monkeypatch.setattr(prediction, "greedy_search", search)
        predict(random_model(), CODEC, TEXTS, batch_size=3)
        assert shapes == [((3, 2), 7), ((3, 5), 7), ((1, 5), 7)]

    def test_order_does_not_matter(self) -> None:
        model = random_model()
        assert predict(model, CODEC, TEXTS[::-1]) == predict(model, CODEC, TEXTS)[::-1]

    def test_no_texts(self) -> None:
        assert predict(random_model(), CODEC, []) == []
        assert predict(random_model(), CODEC, [], beam=3) == []

    def test_all_unknown_symbols_are_the_same(self) -> None:
        model = random_model()
        assert predict(model, CODEC, ["a?"]) == predict(model, CODEC, ["a!"])

    @pytest.mark.parametrize("text", ["", "  "])
    def test_a_text_without_symbols(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"^texts\[1\]: expected at least one of characters, got "):
            predict(random_model(), CODEC, ["abc", text])

    @pytest.mark.parametrize(
        "texts", ["abc", b"abc", bytearray(b"abc"), {"abc": 1}, 7, None], ids=lambda texts: type(texts).__name__
    )
    def test_one_text_and_what_holds_no_texts_are_refused(self, texts: Any) -> None:
        with pytest.raises(TypeError, match=r"^texts: expected several texts, such as a list of them, got "):
            predict(random_model(), CODEC, texts)

    @pytest.mark.parametrize("text", [None, b"abc", 7, ["abc"]], ids=lambda text: type(text).__name__)
    def test_an_item_that_is_no_text(self, text: Any) -> None:
        with pytest.raises(TypeError, match=r"^texts\[2\]: expected a text, got "):
            predict(random_model(), CODEC, ["a", "b", text])

    def test_any_iterable(self) -> None:
        model = random_model()
        assert predict(model, CODEC, iter(TEXTS)) == predict(model, CODEC, TEXTS)

    def test_a_codec_of_other_sizes_than_the_model(self) -> None:
        model, message = random_model(), r"^codec: expected the vocabularies of the model, of \(9, 7\) symbols, got"
        for field, symbols in (("source_vocabulary", "abcd"), ("target_vocabulary", "PQRS")):
            codec = dataclasses.replace(CODEC, **{field: Vocabulary(symbols)})  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=message):
                predict(model, codec, [])
            with pytest.raises(ValueError, match=message):
                TrainedModel(model, codec, {})("a")
            with pytest.raises(ValueError, match=message):
                attention_weights(model, codec, "a", "P")
        with pytest.raises(TypeError, match=r"^model: expected a Transformer, got Codec"):
            predict(CODEC, random_model(), [])


class TestLongTexts:
    """A batch holds texts of similar work, so that one long text costs the others nothing."""

    def shapes(self, monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []

        def search(model: Any, src: Any, max_len: int, **options: Any) -> Any:
            found.append(src.shape)
            return [[4]] * len(src)

        monkeypatch.setattr(prediction, "greedy_search", search)
        assert predict(random_model(), CODEC, texts) == ["P"] * len(texts)
        return found

    def test_a_long_text_is_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = ["a" * 3000, *["abcd"] * 63]
        assert self.shapes(monkeypatch, texts) == [(63, 4), (1, 3000)]

    def test_pads_at_most_double_the_work_and_usual_batches_stay_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = ["a" * n for n in range(3, 18) for _ in range(17)]
        assert self.shapes(monkeypatch, texts) == [(255, 17)]
        lengths = np.sort(np.random.default_rng(0).lognormal(3, 1.5, 256).astype(int) + 1)
        found = self.shapes(monkeypatch, ["a" * n for n in lengths])
        assert sum(B for B, _ in found) == 256 and len(found) < 10
        assert sum(B * N * (N + 512) for B, N in found) <= 2 * sum(n * (n + 512) for n in lengths)

    def test_the_scores_of_a_batch_fit_the_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.shapes(monkeypatch, ["a" * 1000] * 40)
        H = random_model().config.n_heads
        assert sum(B for B, _ in found) == 40
        assert 0.5 * 2**25 < max(B * H * N**2 for B, N in found) <= 2**25

    def test_a_text_that_is_too_long_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prediction, "SCORES_OF_TEXT", 72)
        model = random_model()                                # of two heads
        assert longest_source(model) == 6
        assert predict(model, CODEC, ["a" * 6])
        message = r"expected at most 6 characters, got 7$"
        for call, name in ((lambda: predict(model, CODEC, ["a", "abcdeab"]), r"texts\[1\]"),
                           (lambda: TrainedModel(model, CODEC, {})("abcdeab"), "text"),
                           (lambda: attention_weights(model, CODEC, "abcdeab", "P"), "source")):  # fmt: skip
            with pytest.raises(ValueError, match=f"^{name}: {message}"):
                call()
        with pytest.raises(ValueError, match=r"^target: expected at most 6 words, got 7$"):
            attention_weights(model, CODEC, "a", "P " * 7)

    def test_a_text_that_is_too_long_can_be_skipped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prediction, "SCORES_OF_TEXT", 72)
        model = random_model()
        found = predict(model, CODEC, ["abcdeab", "eda", "b"], skip_long=True)
        assert found == ["", *predict(model, CODEC, ["eda", "b"])]

    def test_the_memory_of_a_long_text_is_that_of_its_scores(self) -> None:
        model = random_model()
        H, N = model.config.n_heads, 1500
        tracemalloc.start()
        predict(model, CODEC, ["a" * N, *["abcd"] * 63])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        scores = H * N**2 * model.params.flat.itemsize
        assert peak < 1.5 * scores + 2e7

    @pytest.mark.parametrize(("option", "value"), [("beam", 0), ("batch_size", 0)])
    def test_options_out_of_range(self, option: str, value: int) -> None:
        with pytest.raises(ValueError, match=rf"^{option}: expected (1 or more|at least 1), got 0$"):
            predict(random_model(), CODEC, TEXTS, **{option: value})  # type: ignore[arg-type]
