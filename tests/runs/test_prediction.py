"""From source texts to target texts: the target of a text does not depend on the other texts of its batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn import beam_search, greedy_search
from npattn.runs import prediction
from npattn.runs.prediction import predict
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
        with pytest.raises(ValueError, match=r"^text: expected at least one of characters, got "):
            predict(random_model(), CODEC, ["abc", text])

    @pytest.mark.parametrize(("option", "value"), [("beam", 0), ("batch_size", 0)])
    def test_options_out_of_range(self, option: str, value: int) -> None:
        with pytest.raises(ValueError, match=rf"^{option}: expected (1 or more|at least 1), got 0$"):
            predict(random_model(), CODEC, TEXTS, **{option: value})  # type: ignore[arg-type]
