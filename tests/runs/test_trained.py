"""A trained model as a value: a text, a list or any iterable of texts; scores; unknown symbols; named errors."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import npattn
from npattn import beam_search
from npattn.layers import softmax
from npattn.runs import attention_weights, predict
from npattn.runs.trained import CHUNK
from npattn.tasks import Codec, Vocabulary
from support.transformer_toys import toy_model

TEXTS = ["abcde", "b", "eda", " Cab ", "b", "ddddd"]
CODEC = Codec(
    Vocabulary("abcde"), Vocabulary(["P", "QU", "R"]), "characters", "words", lowercase=True, max_target_length=3
)


@pytest.fixture(scope="module")
def model() -> npattn.TrainedModel:
    transformer = toy_model(12, tgt_vocab=7, tie="none", norm="pre", n_encoder_layers=1, n_decoder_layers=1)
    return npattn.TrainedModel(transformer, CODEC, {"task": "toys"})


def test_a_text_a_sequence_and_an_iterable(model: npattn.TrainedModel) -> None:
    wanted = predict(model.transformer, CODEC, TEXTS)
    assert model(TEXTS) == wanted and model(tuple(TEXTS)) == wanted and model([]) == []
    assert [model(text) for text in TEXTS] == wanted
    assert model(np.str_("abcde")) == wanted[0]
    for texts in (iter(TEXTS), dict.fromkeys(TEXTS).keys(), np.array(TEXTS)):
        found = model(texts)
        assert isinstance(found, Iterator) and set(found) == set(wanted)
    assert list(model(iter(TEXTS), n_best=1, beam=2)) == model(TEXTS, n_best=1, beam=2)


def test_options_reach_the_search(model: npattn.TrainedModel) -> None:
    assert model(TEXTS, beam=3) == predict(model.transformer, CODEC, TEXTS, beam=3)
    assert model(TEXTS, workers=2) == model(TEXTS)
    assert max(len(text.split()) for text in model(TEXTS)) > 1
    assert max(len(text.split()) for text in model(TEXTS, max_length=1)) == 1
    assert model("abc", max_length=0) == ""


@pytest.mark.parametrize("beam", [None, 3, 5])
def test_the_n_best_have_the_scores_of_the_search(model: npattn.TrainedModel, beam: int | None) -> None:
    found = model(TEXTS, n_best=3, beam=beam)
    assert found[1] == model("b", n_best=3, beam=beam)
    for text, predictions in zip(TEXTS, found, strict=True):
        wanted = beam_search(model.transformer, np.array([CODEC.encode_source(text)]), beam or 3, 3 + 4)[0][:3]
        assert [each.text for each in predictions] == [CODEC.decode_target(each.ids) for each in wanted]
        np.testing.assert_allclose([each[1:] for each in predictions], [each[1:] for each in wanted], rtol=1e-5)
        assert [each.score for each in predictions] == sorted((each.score for each in predictions), reverse=True)


def test_an_iterable_without_end_is_read_a_chunk_at_a_time(model: npattn.TrainedModel) -> None:
    read = itertools.count()
    found = model("abcde"[next(read) % 5] for _ in itertools.count())
    first = [next(found) for _ in range(3)]
    assert first == model(["a", "b", "c"]) and next(read) == CHUNK


def test_the_memory_does_not_grow_with_the_number_of_texts(model: npattn.TrainedModel) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in model(itertools.repeat("ab", count), max_length=1, workers=1):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(CHUNK)
    assert peak(6 * CHUNK) < 1.2 * peak(CHUNK)


@pytest.mark.parametrize("wrong", [None, b"ab", 7, {"ab": 1}], ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_text_and_holds_none(model: npattn.TrainedModel, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^texts: expected several texts, such as a list of them, got "):
        model(wrong)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (None, TypeError, "expected a text, got None"),
        (b"ab", TypeError, "expected a text, got b'ab'"),
        ("", ValueError, "expected at least one of characters, got ''"),
        ("a\udcff", ValueError, r"expected text in UTF-8, got 'a\udcff'"),
    ],
)
def test_an_error_names_the_item(
    model: npattn.TrainedModel, wrong: Any, error: type[Exception], message: str
) -> None:
    texts = [*["ab"] * 2500, wrong, "ab"]
    for call in (lambda: model(texts, max_length=1), lambda: list(model(iter(texts), max_length=1))):
        with pytest.raises(error, match=r"^texts\[2500\]: ") as caught:
            call()
        assert str(caught.value) == f"texts[2500]: {message}"
    if isinstance(wrong, str):
        with pytest.raises(error, match=r"^text: "):
            model(wrong)


class TestUnknownSymbols:
    def test_a_warning_names_the_item_and_the_symbols(self, model: npattn.TrainedModel) -> None:
        with pytest.warns(UserWarning, match="vocabulary") as caught:
            found = model(["abc", "4 注a", "ab", "x"])
        (warning,) = caught
        assert str(warning.message) == (
            "texts[1] and 1 more: not in the model's vocabulary, read as <unk>: '4' ' ' '注' 'x'"
        )
        assert warning.filename == __file__
        assert found == predict(model.transformer, CODEC, ["abc", "4 注a", "ab", "x"])
        with pytest.warns(UserWarning, match=r"^text: not in .*: '4'$") as caught:
            model("a4")
        assert caught[0].filename == __file__

    def test_the_warning_of_an_iterator_is_of_the_line_that_reads_it(self, model: npattn.TrainedModel) -> None:
        with pytest.warns(UserWarning, match=r"^texts\[0\]: ") as caught:
            next(model(iter(["a4"])))
        assert caught[0].filename == __file__

    def test_an_error(self, model: npattn.TrainedModel) -> None:
        message = r"^texts\[1\]: expected symbols of the model's vocabulary, got '4' '注'$"
        with pytest.raises(ValueError, match=message):
            model(["abc", "4注"], unknown="error")
        assert model(["abc"], unknown="error") == model(["abc"])

    def test_a_symbol_to_read_instead(self, model: npattn.TrainedModel) -> None:
        assert model(["abc", "b?d"], unknown="c") == model(["abc", "bcd"])
        assert model("a?", unknown="<unk>") == model("a!", unknown="<unk>")   # a warning would fail the test

    @pytest.mark.parametrize("wrong", ["", "x", "ignore", None, ["a"]], ids=repr)
    def test_another_policy(self, model: npattn.TrainedModel, wrong: Any) -> None:
        with pytest.raises(ValueError, match=r"^unknown: expected error, warning, <unk> or a symbol of the voc"):
            model("abc", unknown=wrong)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_best": 0}, ValueError, "n_best: expected 1 or more, got 0"),
        ({"n_best": "3"}, TypeError, "n_best: expected an integer, got '3'"),
        ({"n_best": 3, "beam": 2}, ValueError, "n_best: expected at most beam=2, got 3"),
        ({"beam": 0}, ValueError, "beam: expected 1 or more, got 0"),
        ({"max_length": -1}, ValueError, "max_length: expected 0 or more, got -1"),
        ({"workers": 0}, ValueError, "workers: expected 1 or more, got 0"),
    ],
)
def test_an_option_out_of_range_is_named_before_an_iterable_is_read(
    model: npattn.TrainedModel, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        model(iter([None]), **options)
    assert str(caught.value) == message


class TestEnsemble:
    def test_it_is_that_of_the_search(self, model: npattn.TrainedModel) -> None:
        sizes: dict[str, Any] = {"tgt_vocab": 7, "tie": "none", "norm": "pre", "n_encoder_layers": 1}
        others = [npattn.TrainedModel(toy_model(seed, **sizes), CODEC, {}) for seed in (5, 6)]
        transformers = [each.transformer for each in others]
        assert model(TEXTS, ensemble=others) == predict(model.transformer, CODEC, TEXTS, ensemble=transformers)
        assert model(TEXTS, ensemble=others) not in ([each(TEXTS) for each in (model, *others)])
        for text, (best,) in zip(TEXTS, model(TEXTS, n_best=1, beam=4, ensemble=tuple(others)), strict=True):
            src = np.array([CODEC.encode_source(text)])
            wanted = beam_search(model.transformer, src, 4, 3 + 4, ensemble=transformers)[0][0]
            assert best.text == CODEC.decode_target(wanted.ids)
            assert best.log_probability == pytest.approx(wanted.log_probability, rel=1e-5)

    def test_the_models_of_another_task(self, model: npattn.TrainedModel) -> None:
        letters, sounds = CODEC.source_vocabulary, CODEC.target_vocabulary
        for name, codec in {
            "source_vocabulary": dataclasses.replace(CODEC, source_vocabulary=Vocabulary("abcdf")),
            "target_vocabulary": dataclasses.replace(CODEC, target_vocabulary=Vocabulary(["P", "R", "QU"])),
            "source_unit": Codec(letters, sounds, "words", "words", lowercase=True),
            "target_unit": Codec(letters, sounds, "characters", "characters", lowercase=True),
        }.items():
            other = model._replace(codec=codec)
            with pytest.raises(ValueError, match=rf"^ensemble\[1\]: expected the {name} of the first model, got anoth"):
                model("abc", ensemble=[model, other])
        longer = model._replace(codec=dataclasses.replace(CODEC, max_target_length=9))
        assert model("abc", ensemble=[longer]) == model("abc")

    @pytest.mark.parametrize(("wrong", "message"), [
        ("g2p", "ensemble[0]: expected a TrainedModel, got str"),
        (None, "ensemble: expected a sequence of trained models, got NoneType"),
    ])  # fmt: skip
    def test_what_is_no_ensemble(self, model: npattn.TrainedModel, wrong: Any, message: str) -> None:
        for ensemble, said in ((wrong, message), (model, "ensemble: expected a sequence of trained models, got Tra")):
            with pytest.raises(TypeError) as caught:
                model("abc", ensemble=ensemble)
            assert str(caught.value).startswith(said)


def test_attention_weights(model: npattn.TrainedModel) -> None:
    target = model("abc")
    assert target
    given, found = model.attention_weights("abc", target), model.attention_weights("abc")
    wanted = attention_weights(model.transformer, CODEC, "abc", target)
    assert given.keys() == found.keys() == wanted.keys()
    assert all((given[name] == A).all() and (found[name] == A).all() for name, A in wanted.items())
    with pytest.raises(TypeError, match=r"^target: expected a text, got 7"):
        model.attention_weights("abc", 7)  # type: ignore[arg-type]


def test_probabilities(model: npattn.TrainedModel) -> None:
    """They are the softmax of the model's own logits, and their logarithms add up to log P of the search."""
    for found in model("abcde", n_best=3):
        steps = model.probabilities("abcde", found.text)
        assert [step.symbol for step in steps] == [*found.text.split(), "<eos>"]
        tgt = np.array([CODEC.encode_target(found.text)])
        logits, _ = model.transformer.forward(np.array([CODEC.encode_source("abcde")]), tgt[:, :-1])
        wanted = softmax(logits[0])
        names = CODEC.target_vocabulary.decode(range(7))
        got = np.array([[step.probabilities[name] for name in names] for step in steps])
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
        assert all(list(step.probabilities.values()) == sorted(step.probabilities.values())[::-1] for step in steps)
        total = sum(np.log(step.probabilities[step.symbol]) for step in steps)
        assert total == pytest.approx(found.log_probability, rel=1e-6)
    assert model.probabilities("abc") == model.probabilities("abc", model("abc"))
    assert [step.symbol for step in model.probabilities("abc", "P ? ")] == ["P", "<unk>", "<eos>"]
    (only,) = model.probabilities("abc", "")
    assert only.symbol == "<eos>" and sum(only.probabilities.values()) == pytest.approx(1)
    with pytest.raises(TypeError, match=r"^target: expected a text, got 7"):
        model.probabilities("abc", 7)  # type: ignore[arg-type]


def test_the_value(model: npattn.TrainedModel) -> None:
    transformer, codec, description = model
    assert (transformer, codec, description) == (model.transformer, CODEC, {"task": "toys"})
    assert repr(model) == f"<TrainedModel of {transformer.params.flat.size:,} parameters: toys, characters to words>"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert npattn.load_model("g2p")(["knight"]) == ["N AY T"]
