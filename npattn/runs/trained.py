"""A trained model as a value: a model, the codec of its task, and what is known about its run.

The call of a `TrainedModel` turns source texts into target texts. `npattn.runs.load` reads one from files.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypedDict, Unpack, overload

from npattn._internal.checks import Array, check_size, shown
from npattn.runs.prediction import (
    Prediction,
    Step,
    attention_weights,
    check_fit,
    check_several,
    encode,
    in_batches,
    probabilities,
    quoted,
    searcher,
    unknown_symbols,
)
from npattn.tasks import Codec
from npattn.tasks.vocabulary import UNK
from npattn.transformer import Transformer

#: Texts that are read before the first of them is answered. This bounds the memory for an iterable of any length.
CHUNK = 1024

#: How `<unk>` is written, and the policies for unknown symbols.
UNKNOWN, POLICIES = "<unk>", ("error", "warning")


class Options(TypedDict, total=False):
    """Options of the call of a `TrainedModel`, which do not change the type of the result."""

    beam: int | None
    max_length: int | None
    unknown: str
    ensemble: Sequence[TrainedModel]
    workers: int | None


class TrainedModel(NamedTuple):
    """A model that turns texts into texts, as `npattn.load_model` returns it.

    - transformer: the model.
    - codec: turns texts into ids and back.
    - description: the content of its run.json: task, sizes, schedule.

    ``model(text)`` returns a text, ``model(list of texts)`` a list of texts, and ``model(iterable)`` an iterator, which
    reads 1024 texts at a time. So an iterable may be of any length. The call has these options:

    - n_best: return for each text a list of so many `npattn.runs.Prediction`s, the best first, instead of one text.
    - beam: the width of the beam search. None is `n_best`, or 1, greedy search, without it.
    - max_length: the most symbols of a target; None is a few more than the longest of the training data.
    - unknown: what to do about symbols that are not in the vocabulary: "error"; "warning" reads them as ``<unk>`` and
      gives a UserWarning; any other text is the symbol to read instead, ``<unk>`` or one of the vocabulary.
    - ensemble: more trained models of the same symbols. All choose each symbol together, by the mean of their
      probabilities, see `npattn.decoding.ensemble`. The codec of this model reads and writes the texts.
    - workers: threads that share the texts; None chooses.

    Raises TypeError for what is no text and no iterable of texts. Raises ValueError for a text without symbols, with
    more symbols than `npattn.runs.prediction.longest_source`, or with unknown ones if that is an error; the message
    names the text, as in ``texts[3]``. Raises ValueError and TypeError for options, naming the option.

    >>> from npattn.runs import load_model
    >>> model = load_model("g2p")
    >>> model("knight"), model(["quick", "brown"])
    ('N AY T', ['K W IH K', 'B R AW N'])
    >>> for text in model(word for word in ("thorough", "attention")):
    ...     print(text)
    TH ER OW
    AH T EH N SH AH N
    >>> [(found.text, round(found.log_probability, 2)) for found in model("read", n_best=2)]
    [('R IY D', -0.85), ('R EH D', -1.32)]
    >>> model("zoë", unknown="error")
    Traceback (most recent call last):
    ValueError: text: expected symbols of the model's vocabulary, got 'ë'
    """

    transformer: Transformer
    codec: Codec
    description: dict[str, Any]

    # mypy ignores that a text is also a sequence of texts: the first signature that fits counts.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, texts: str, *, n_best: None = None, **options: Unpack[Options]
    ) -> str: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, texts: str, *, n_best: int, **options: Unpack[Options]
    ) -> list[Prediction]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, texts: Sequence[str], *, n_best: None = None, **options: Unpack[Options]
    ) -> list[str]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, texts: Sequence[str], *, n_best: int, **options: Unpack[Options]
    ) -> list[list[Prediction]]: ...
    @overload
    def __call__(
        self, texts: Iterable[str], *, n_best: None = None, **options: Unpack[Options]
    ) -> Iterator[str]: ...
    @overload
    def __call__(
        self, texts: Iterable[str], *, n_best: int, **options: Unpack[Options]
    ) -> Iterator[list[Prediction]]: ...

    def __call__(
        self,
        texts: Iterable[str],
        *,
        n_best: int | None = None,
        beam: int | None = None,
        max_length: int | None = None,
        unknown: str = "warning",
        ensemble: Sequence[TrainedModel] = (),
        workers: int | None = None,
    ) -> Any:
        """Return the target of a text, or of each of several texts; the class describes the options."""
        check_fit(self.transformer, self.codec)
        check_unknown(unknown, self.codec)
        best = 1 if n_best is None else check_size("n_best", n_best, least=1)
        beam = best if beam is None else check_size("beam", beam, least=1)
        if best > beam:
            raise ValueError(f"n_best: expected at most beam={beam}, got {n_best}")
        if max_length is not None:
            check_size("max_length", max_length)
        if workers is not None:
            check_size("workers", workers, least=1)
        search = searcher(
            self.transformer,
            self.codec,
            beam=beam,
            n_best=n_best,
            max_length=max_length,
            ensemble=others_of(self, ensemble),
            workers=workers,
        )
        if isinstance(texts, str):
            return next(self._answers([texts], search, unknown, "text"))
        check_several(texts)
        if isinstance(texts, Sequence):
            return list(self._answers(texts, search, unknown, "texts[{}]"))
        # This frame stands for that of `__call__` above, see `stacklevel` in `_warn`.
        return (found for found in self._answers(texts, search, unknown, "texts[{}]"))

    def attention_weights(self, source: str, target: str | None = None) -> dict[str, Array]:
        """Return the attention weights (H, N_Q, N_X) of a source text and a target text, by layer name.

        - source: the text that the encoder reads.
        - target: the text that the decoder writes; None takes the one that greedy search finds.

        `npattn.runs.attention_weights` says what rows and columns are. Raises what it raises, and what the call of the
        model raises.
        """
        return attention_weights(self.transformer, self.codec, source, self._target(source, target))

    def probabilities(self, source: str, target: str | None = None) -> list[Step]:
        """Return the probabilities of all symbols at each step: where a symbol of the target is chosen, or ``<eos>``.

        - source: the text that the encoder reads.
        - target: the text that the decoder writes; None takes the one that greedy search finds.

        `npattn.runs.probabilities` says what they are. Raises what it raises, and what the call of the model raises.

        >>> from npattn.runs import load_model
        >>> first, *_, last = load_model("g2p").probabilities("knight")
        >>> first.symbol, round(first.probabilities["N"], 2), round(first.probabilities["K"], 2), last.symbol
        ('N', 0.93, 0.01, '<eos>')
        """
        return probabilities(self.transformer, self.codec, source, self._target(source, target))

    def __repr__(self) -> str:
        units = f"{self.codec.source_unit} to {self.codec.target_unit}"
        size = self.transformer.params.flat.size
        return f"<TrainedModel of {size:,} parameters: {self.description.get('task', 'text')}, {units}>"

    def _target(self, source: str, target: str | None) -> str:
        return self(source, unknown=UNKNOWN) if target is None else target

    def _answers(
        self, texts: Iterable[str], search: Callable[[Array], list[Any]], unknown: str, name: str
    ) -> Iterator[Any]:
        """Yield the result of each text. `name` is what messages call text {}."""
        numbered = enumerate(texts)
        while chunk := list(islice(numbered, CHUNK)):
            sources = [self._encode(text, unknown, name.format(i)) for i, text in chunk]
            if unknown == "warning":
                self._warn(chunk, sources, name)
            yield from in_batches(self.transformer, search, sources)

    def _encode(self, text: str, unknown: str, name: str) -> list[int]:
        ids = encode(self.transformer, self.codec, text, name)
        if UNK in ids and unknown == "error":
            missing = quoted(unknown_symbols(self.codec, [text]))
            raise ValueError(f"{name}: expected symbols of the model's vocabulary, got {missing}")
        if UNK in ids and unknown not in POLICIES:
            (other,) = self.codec.source_vocabulary.encode([unknown])
            return [other if i == UNK else i for i in ids]
        return ids

    def _warn(self, chunk: Sequence[tuple[int, str]], sources: Sequence[list[int]], name: str) -> None:
        """Give one warning for all unknown symbols of a chunk; it names the first text that has one."""
        found = [numbered for numbered, ids in zip(chunk, sources, strict=True) if UNK in ids]
        if found:
            missing = quoted(unknown_symbols(self.codec, [text for _, text in found]))
            more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
            message = f"{name.format(found[0][0])}{more}: not in the model's vocabulary, read as <unk>: {missing}"
            warnings.warn(message, stacklevel=4)              # of the line that calls the model


def others_of(
    model: TrainedModel, ensemble: Sequence[TrainedModel], names: Sequence[str] = ()
) -> list[Transformer]:
    """Return the Transformers of the other models of an ensemble; raise unless they have the symbols of the model.

    `names` is what messages call these models; without it they have numbers.
    """
    if isinstance(ensemble, TrainedModel) or not isinstance(ensemble, Sequence):
        raise TypeError(f"ensemble: expected a sequence of trained models, got {type(ensemble).__name__}")
    for other, name in zip(ensemble, names or [f"ensemble[{i}]" for i in range(len(ensemble))], strict=True):
        if not isinstance(other, TrainedModel):
            raise TypeError(f"{name}: expected a TrainedModel, got {type(other).__name__}")
        check_fit(other.transformer, other.codec)
        for field in ("source_unit", "target_unit", "source_vocabulary", "target_vocabulary"):
            if getattr(other.codec, field) != getattr(model.codec, field):
                raise ValueError(f"{name}: expected the {field} of the first model, got another")
    return [other.transformer for other in ensemble]


def check_unknown(unknown: str, codec: Codec) -> None:
    """Raise a ValueError unless it is a policy for unknown symbols, or a symbol to read instead."""
    known = unknown in (*POLICIES, UNKNOWN) or (isinstance(unknown, str) and unknown in codec.source_vocabulary)
    if not known:
        raise ValueError(
            f"unknown: expected {', '.join(POLICIES)}, <unk> or a symbol of the vocabulary, got {shown(unknown)}"
        )
