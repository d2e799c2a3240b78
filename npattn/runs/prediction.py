"""From source texts to target texts, with a trained model and the codec of its task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from npattn._internal.checks import Array, shown
from npattn.decoding.beam import beam_search
from npattn.decoding.greedy import greedy_search
from npattn.decoding.hypotheses import log_softmax
from npattn.tasks import Codec, prediction_batches
from npattn.tasks.vocabulary import PAD
from npattn.transformer import Transformer

T = TypeVar("T")

#: The search ends this many symbols beyond the longest target of the training data.
MARGIN = 4

#: Texts that go through the model together, at most.
BATCH_SIZE = 256

#: The most scores, H · N² for each text, that an encoder layer holds at once: of a batch, and of one long text. In
#: float32 they take 128 MiB and 512 MiB.
SCORES_OF_BATCH, SCORES_OF_TEXT = 2**25, 2**27

#: At this many symbols, attention takes about as long as the rest of a layer.
BALANCE = 512

#: Unknown symbols that a message lists, at most.
LISTED = 20


class Prediction(NamedTuple):
    """One target that beam search found: its text, log P in nats with its end, and the score that ranks it."""

    text: str
    log_probability: float
    score: float


class Step(NamedTuple):
    """One step of the decoder: the symbol that it wrote, and the probability of every symbol, the largest first."""

    symbol: str
    probabilities: dict[str, float]


def predict(
    model: Transformer,
    codec: Codec,
    texts: Iterable[str],
    *,
    beam: int = 1,
    batch_size: int = BATCH_SIZE,
    ensemble: Sequence[Transformer] = (),
    workers: int | None = None,
    skip_long: bool = False,
) -> list[str]:
    """Return one target text for each source text. Unknown symbols are read as ``<unk>``.

    - model, codec: as `npattn.load_model` returns them.
    - texts: the source texts.
    - beam: 1 for greedy search; more for the best result of a beam search of that width.
    - batch_size: how many texts go through the model together, at most. They have similar lengths.
    - ensemble: more models of the codec, that choose each symbol together with the model, see
      `npattn.decoding.ensemble`.
    - workers: threads that share the texts; None for the default of the search.
    - skip_long: True gives a text that is too long, see `longest_source`, an empty target; False raises.

    Raises ValueError for a text without symbols or with too many, for a number below 1, and for a codec of other sizes
    than the model; TypeError for texts that are one text, or hold anything but texts.

    >>> from npattn.runs import load_model
    >>> model, codec, _ = load_model("g2p")
    >>> predict(model, codec, ["quick", "brown"], beam=2)
    ['K W IH K', 'B R AW N']
    """
    check_fit(model, codec)
    check_several(texts)
    given = list(texts)
    longest = longest_source(model)
    read = [i for i, text in enumerate(given) if not skip_long or len(symbols(codec, text, f"texts[{i}]")) <= longest]
    sources = [encode(model, codec, given[i], f"texts[{i}]") for i in read]
    search = searcher(model, codec, beam=beam, ensemble=ensemble, workers=workers)
    found = in_batches(model, search, sources, batch_size)
    outputs = dict(zip(read, found, strict=True))
    return [outputs.get(i, "") for i in range(len(given))]


def attention_weights(model: Transformer, codec: Codec, source: str, target: str) -> dict[str, Array]:
    """Return the attention weights (H, N_Q, N_X) of a source text and a target text, by layer name.

    - model, codec: as `npattn.load_model` returns them.
    - source: the text that the encoder reads.
    - target: the text that the decoder writes; the model need not prefer it.

    Row i of a decoder's weights is the one with which symbol i of the target is chosen, and the last row the one with
    which ``<eos>`` is chosen: the decoder has read the symbols before it. So in its self-attention column 0 is
    ``<bos>``, and column i is symbol i − 1.

    Raises ValueError for a source without symbols or with too many, and for a codec of other sizes than the model;
    TypeError for what is no text.

    >>> from npattn.runs import load_model
    >>> model, codec, _ = load_model("g2p")
    >>> weights = attention_weights(model, codec, "knight", "N AY T")
    >>> weights["decoder.2.cross_attention"].shape     # (H, N_T + 1, N_S): 4 heads, 3 phonemes and <eos>, 6 letters
    (4, 4, 6)
    """
    _, _, cache = _read(model, codec, source, target)
    return {name: A[0] for name, A in cache.attention_weights().items()}


def probabilities(model: Transformer, codec: Codec, source: str, target: str) -> list[Step]:
    """Return for each symbol of a target text, and for ``<eos>`` at its end, the probabilities of all symbols there.

    - model, codec: as `npattn.load_model` returns them.
    - source: the text that the encoder reads.
    - target: the text that the decoder writes; the model need not prefer it.

    A step's probabilities are the softmax of the model's logits, after the symbols before it. The sum of
    log(step.probabilities[step.symbol]) over all steps is log P of the target, as in a `Prediction`.

    Raises what `attention_weights` raises: ValueError for a text that cannot be read and a codec that does not fit,
    TypeError for what is no text.

    >>> from npattn.runs import load_model
    >>> model, codec, _ = load_model("g2p")
    >>> for symbol, found in probabilities(model, codec, "read", "R EH D"):
    ...     print(symbol, [f"{name} {p:.2f}" for name, p in found.items()][:2])
    R ['R 0.92', 'OW 0.00']
    EH ['IY 0.55', 'EH 0.33']
    D ['D 0.93', 'R 0.00']
    <eos> ['<eos> 0.93', 'D 0.00']
    """
    ids, logits, _ = _read(model, codec, source, target)
    names = codec.target_vocabulary.decode(range(len(codec.target_vocabulary)))
    P = np.exp(log_softmax(logits.astype(np.float64)))        # (N_T + 1, V)
    return [
        Step(names[i], {names[j]: float(p[j]) for j in np.argsort(-p, kind="stable")})
        for i, p in zip(ids, P, strict=True)
    ]


def _read(model: Transformer, codec: Codec, source: str, target: str) -> tuple[list[int], Array, Any]:
    """Return the ids of the target with ``<eos>``, the logits (N_T + 1, V) that choose them, and the model's cache."""
    check_fit(model, codec)
    src = np.array([encode(model, codec, source, "source")])
    check_text(target, "target")
    bos, *ids = codec.encode_target(target)
    check_length(model, len(ids) - 1, codec.target_unit, "target")
    logits, cache = model.forward(src, np.array([[bos, *ids[:-1]]]))   # <eos> is chosen, not read
    return ids, logits[0], cache


def longest_source(model: Transformer) -> int:
    """Return the most symbols of a source that the model reads. The scores of a layer grow with their square."""
    return math.isqrt(SCORES_OF_TEXT // model.config.n_heads)


def searcher(
    model: Transformer,
    codec: Codec,
    *,
    beam: int,
    n_best: int | None = None,
    max_length: int | None = None,
    ensemble: Sequence[Transformer] = (),
    workers: int | None = None,
) -> Callable[[Array], list[Any]]:
    """Return a function from src (B, N_S) to the results of its rows.

    A result is a text, or with `n_best` a list of so many `Prediction`s, the best first.
    """
    max_len = codec.max_target_length + MARGIN if max_length is None else max_length

    def search(src: Array) -> list[Any]:
        if beam == 1 and n_best is None:
            found_ids = greedy_search(model, src, max_len, ensemble=ensemble, workers=workers)
            return [codec.decode_target(ids) for ids in found_ids]
        found = beam_search(model, src, beam, max_len, ensemble=ensemble, workers=workers)
        if n_best is None:
            return [codec.decode_target(hypotheses[0].ids) for hypotheses in found]
        return [
            [Prediction(codec.decode_target(ids), log_p, score) for ids, log_p, score in hypotheses[:n_best]]
            for hypotheses in found
        ]

    return search


def in_batches(
    model: Transformer, search: Callable[[Array], list[T]], sources: Sequence[list[int]], batch_size: int = BATCH_SIZE
) -> list[T]:
    """Return the results of encoded sources, which are searched in batches of similar lengths."""
    results: dict[int, T] = {}
    for rows, src in prediction_batches(sources, batch_size):
        lengths = (src != PAD).sum(1).tolist()
        for part in parts(lengths, model.config.n_heads):
            found = search(src[part, : lengths[part.stop - 1]])
            results |= zip(rows[part].tolist(), found, strict=True)
    return [results[row] for row in range(len(sources))]


def parts(lengths: Sequence[int], n_heads: int) -> Iterator[slice]:
    """Cut ascending lengths into batches. A text begins a new one if its pads would double the work of the others.

    It also does if the scores of the batch would need too much memory.

    >>> list(parts([5, 6, 7, 3000], n_heads=4))
    [slice(0, 3, None), slice(3, 4, None)]
    """
    start, own = 0, 0
    for i, n in enumerate(lengths):
        work, count = n * (n + BALANCE), i + 1 - start
        if count > 1 and (count * work > 2 * (own + work) or count * n_heads * n**2 > SCORES_OF_BATCH):
            yield slice(start, i)
            start, own = i, 0
        own += work
    if lengths:
        yield slice(start, len(lengths))


def encode(model: Transformer, codec: Codec, text: str, name: str) -> list[int]:
    """Return the ids of a source text. Raises TypeError or ValueError, with the name, for one that cannot be read."""
    check_length(model, len(symbols(codec, text, name)), codec.source_unit, name)
    return codec.encode_source(text)


def symbols(codec: Codec, text: str, name: str) -> list[str]:
    """Return the symbols of a source text. Raises TypeError or ValueError when it has none."""
    check_text(text, name)
    found = codec.tokenize(text)
    if not found:
        raise ValueError(f"{name}: expected at least one of {codec.source_unit}, got {shown(text)}")
    return found


def unknown_symbols(codec: Codec, texts: Iterable[str]) -> list[str]:
    """Return the different symbols of source texts that are not in the vocabulary."""
    found = dict.fromkeys(symbol for text in texts for symbol in codec.tokenize(text))
    return [symbol for symbol in found if symbol not in codec.source_vocabulary]


def quoted(symbols: Sequence[str]) -> str:
    """Return symbols in quotation marks, which show blanks and control characters; at most `LISTED`.

    >>> quoted(["é", " "])
    "'é' ' '"
    """
    return " ".join(map(shown, symbols[:LISTED])) + " …" * (len(symbols) > LISTED)


def check_fit(model: Transformer, codec: Codec) -> None:
    """Raise a TypeError or ValueError unless the codec has the vocabularies of the model."""
    for name, value, kind in (("model", model, Transformer), ("codec", codec, Codec)):
        if not isinstance(value, kind):
            raise TypeError(f"{name}: expected a {kind.__name__}, got {type(value).__name__}")
    wanted = model.config.src_vocab, model.config.tgt_vocab
    got = len(codec.source_vocabulary), len(codec.target_vocabulary)
    if got != wanted:
        raise ValueError(f"codec: expected the vocabularies of the model, of {wanted} symbols, got {got}")


def check_several(texts: Iterable[str]) -> None:
    """Raise a TypeError unless it is an iterable that can hold texts; the letters of a text are none."""
    if isinstance(texts, str | bytes | bytearray | Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"texts: expected several texts, such as a list of them, got {shown(texts)}")


def check_text(text: object, name: str) -> None:
    """Raise a TypeError unless it is a text, a ValueError for one with half a surrogate pair, as bad UTF-8 leaves."""
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a text, got {shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}: expected text in UTF-8, got {shown(text)}") from None


def check_length(model: Transformer, length: int, unit: str, name: str) -> None:
    """Raise a ValueError for a text of more symbols than the model reads or writes."""
    if length > longest_source(model):
        raise ValueError(f"{name}: expected at most {longest_source(model):,} {unit}, got {length:,}")
