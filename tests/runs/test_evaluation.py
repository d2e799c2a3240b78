"""`npattn.runs.evaluate`: the scores of a model on a file, and its mistakes, the worst first."""

from __future__ import annotations

from typing import Any

import pytest

from npattn import Transformer, load_model
from npattn.runs import Mistake, evaluate
from npattn.runs.trained import TrainedModel
from npattn.tasks import score


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return load_model("g2p")


TARGETS = {
    "knight": ["N AY T"], "colonel": ["K ER N AH L"], "choir": ["K W AY ER"], "read": ["R EH D", "R IY D"],
    "yacht": ["Y AA T"], "queue": ["K Y UW"], "quay": ["K IY"],
}  # fmt: skip


@pytest.mark.parametrize("beam", [1, 3])
def test_the_scores_are_those_of_the_predictions(model: TrainedModel, beam: int) -> None:
    found = evaluate(model, TARGETS, beam=beam, workers=1)
    answers = dict(zip(TARGETS, model(list(TARGETS), beam=beam), strict=True))
    references = [[text.split() for text in each] for each in TARGETS.values()]
    assert (found.exact, found.error_rate) == score([text.split() for text in answers.values()], references)
    assert {each.source: each.prediction for each in found.mistakes} == {
        source: answers[source] for source in TARGETS if answers[source] not in TARGETS[source]}  # fmt: skip


def test_an_ensemble_is_evaluated_together(model: TrainedModel) -> None:
    """The other model has learnt nothing: every symbol is as likely, so it changes no answer, but all of P."""
    blank = TrainedModel(Transformer(model.transformer.config), model.codec, {})
    for name, array in blank.transformer.params.items():
        array[...] = "norm.gamma" in name
    assert evaluate(model, TARGETS, ensemble=[blank]) == evaluate(model, TARGETS)
    assert evaluate(blank, TARGETS, ensemble=[model, model]) == evaluate(model, TARGETS)
    assert evaluate(blank, TARGETS).exact == 0
    wrong: Any = [model.transformer]
    with pytest.raises(TypeError, match=r"^ensemble\[0\]: expected a TrainedModel, got Transformer$"):
        evaluate(model, TARGETS, ensemble=wrong)


def test_mistakes_begin_with_the_worst(model: TrainedModel) -> None:
    exact, error_rate, mistakes = evaluate(model, TARGETS)
    assert mistakes[:2] == [
        Mistake("colonel", "K AA L AH N EH L", ("K ER N AH L",), 4, 5),
        Mistake("choir", "CH W AA R", ("K W AY ER",), 3, 4),
    ]
    assert exact == (len(TARGETS) - len(mistakes)) / len(TARGETS)
    assert error_rate == sum(each.edits for each in mistakes) / (3 + 5 + 4 + 3 + 3 + 3 + 2)
    order = [(each.edits, -each.length) for each in mistakes]
    assert order == sorted(order, reverse=True) and {each.edits for each in mistakes} > {1}


def test_of_several_references_the_nearest_counts(model: TrainedModel) -> None:
    (mistake,) = evaluate(model, {"knight": ["K IY K IY K", "N AY", "N AH T S"]}).mistakes
    assert mistake == ("knight", "N AY T", ("K IY K IY K", "N AY", "N AH T S"), 1, 2)


def test_a_source_that_is_too_long_counts_as_answered_by_nothing(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npattn.runs.prediction.longest_source", lambda _: 6)
    found = evaluate(model, {"knight": ["N AY T"], "knights": ["N AY T S"]})
    assert found == (0.5, 4 / 7, [Mistake("knights", "", ("N AY T S",), 4, 4)])


@pytest.mark.parametrize(("targets", "options", "words"), [
    ({}, {}, "predictions: expected at least one item to judge by"),
    ({"a": []}, {}, "references: expected at least one for every item"),
    ({" ": ["AH"]}, {}, "expected at least one of characters"),
    ({"a": ["AH"]}, {"beam": 0}, "beam: expected"),
    ({"a": ["AH"]}, {"workers": 0}, "workers: expected"),
])  # fmt: skip
def test_wrong_arguments(model: TrainedModel, targets: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        evaluate(model, targets, **options)
