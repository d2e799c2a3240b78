"""The scores of a trained model on pairs of one's own, and its mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from npattn._internal.checks import check_size
from npattn._internal.files import CheckpointError
from npattn.runs.prediction import predict
from npattn.runs.trained import TrainedModel, others_of
from npattn.tasks import Codec, load_task
from npattn.tasks.scores import nearest, score


class Mistake(NamedTuple):
    """A prediction that equals no reference of its source. `edits` and `length` are those of the nearest reference."""

    source: str
    prediction: str
    references: tuple[str, ...]
    edits: int
    length: int


class Evaluation(NamedTuple):
    """The scores of all sources, as `npattn.tasks.score` counts them, and the mistakes, the worst first."""

    exact: float
    error_rate: float
    mistakes: list[Mistake]


def evaluate(
    model: TrainedModel,
    targets: Mapping[str, Sequence[str]],
    *,
    beam: int = 1,
    ensemble: Sequence[TrainedModel] = (),
    workers: int | None = None,
) -> Evaluation:
    """Compare what a model answers to each source with its targets, each of which is right.

    A source that is too long for the model counts as answered by nothing. Of two mistakes the one with more edits is
    worse, then the one with more edits for each symbol.

    - model: as `npattn.load_model` returns it.
    - targets: the targets of each source text; `npattn.tasks.read_targets` reads them from a file.
    - beam: 1 for greedy search, more for a beam search of that width.
    - ensemble: more trained models of the same symbols, that choose each symbol together with the model.
    - workers: threads that share the texts; None chooses.

    Raises ValueError for no sources, a source without symbols or without targets, numbers below 1, and models of other
    symbols in the ensemble; TypeError for what is no model there.

    >>> from npattn import load_model
    >>> exact, error_rate, mistakes = evaluate(load_model("g2p"), {"knight": ["N AY T"], "zoo": ["Z UW", "S UW"]})
    >>> exact, error_rate, mistakes
    (1.0, 0.0, [])
    >>> evaluate(load_model("g2p"), {"colonel": ["K ER N AH L"]}).mistakes[0].edits
    4
    """
    check_size("beam", beam, least=1)
    transformer, codec, _ = model
    others = others_of(model, ensemble)
    found = predict(transformer, codec, list(targets), beam=beam, ensemble=others, workers=workers, skip_long=True)
    return compare(codec, targets, found)


def held_out(model: TrainedModel) -> tuple[dict[str, tuple[str, ...]], dict[str, list[str]]]:
    """Return the targets of each source that the task of a run keeps for the test, and the sources of parts by name.

    - model: as `npattn.load_model` returns it.

    Raises CheckpointError for data that are no longer those of the training: the model may have learnt what is now the
    test. Raises ValueError for a task without a test, and what `npattn.tasks.load_task` raises.
    """
    _, codec, description = model
    task = load_task(description["task"], **description["options"])
    if task.codec != codec:
        task = task.with_codec(codec)
    if task.fingerprint != description["fingerprint"]:
        raise CheckpointError(f"{task.name}: expected the data that the run began with, got other data")
    if not task.test:
        raise ValueError(f"{task.name}: expected a file of pairs to test on, because the run keeps none for a test")
    parts = {name: [task.test[i].source for i in rows] for name, rows in task.subsets.items() if rows}
    return {item.source: item.references for item in task.test}, parts


def compare_parts(
    codec: Codec, targets: Mapping[str, Sequence[str]], found: Sequence[str], parts: Mapping[str, Sequence[str]]
) -> dict[str, Evaluation]:
    """Compare the texts that were found for the sources of each part.

    - codec, targets, found: as for `compare`.
    - parts: some of the sources, by a name.
    """
    found_of = dict(zip(targets, found, strict=True))
    return {
        name: compare(codec, {source: targets[source] for source in part}, [found_of[source] for source in part])
        for name, part in parts.items()
    }


def compare(codec: Codec, targets: Mapping[str, Sequence[str]], found: Sequence[str]) -> Evaluation:
    """Compare the text that was found for each source with its targets, as `evaluate` does.

    - codec: cuts the texts into symbols.
    - targets: the targets of each source text.
    - found: one text for each source, in the order of `targets`.

    Raises ValueError for no sources, a source without targets, and another number of texts.

    >>> from npattn import load_model
    >>> codec = load_model("g2p").codec
    >>> compare(codec, {"knight": ["N AY T"], "zoo": ["Z UW", "S UW"]}, ["N IY T", "S UW"])[:2]    # 1 edit, 5 symbols
    (0.5, 0.2)
    """
    symbols = codec.tokenize_target
    answers = [symbols(text) for text in found]
    accepted = [[symbols(text) for text in references] for references in targets.values()]
    exact, error_rate = score(answers, accepted)
    mistakes = []
    for (source, references), text, answer, right in zip(targets.items(), found, answers, accepted, strict=True):
        edits, length = nearest(answer, right)
        if edits:
            mistakes.append(Mistake(source, text, tuple(references), edits, length))
    return Evaluation(exact, error_rate, sorted(mistakes, key=lambda m: (-m.edits, m.length)))
