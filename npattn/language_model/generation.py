"""Text: ids that follow prompts, one at a time, on key/value caches.

**Sampling**  The logits z of the next id become probabilities in this order:

    z / T                          `temperature`; T → 0 is the id with the largest logit, the greedy choice
    the k largest logits           `top_k`; the others get probability 0
    the most probable ids until    `top_p`; the first of them always stays
    their sum reaches p
    softmax over those that stay

This is the order of Hugging Face's `generate`. Ids with equal logits at the border of `top_k` all stay.

**Prompts of unlike length**  Every row stands at the left of the caches, and its next key goes to the column of its own
position. A query sees the columns up to its position alone. So a row does not depend on other rows, and the columns
behind a short prompt are never read before they are written. Each row draws from a generator of its own, which the
seed and the number of the row determine.

Layers with dynamic scaling have other frequencies for each length, and a cache holds keys of older ones. Where the text
outgrows the length of training, such a model reads the whole text anew for each id, so that its text is what `forward`
says.

**Source**  Fan et al. (2018), arXiv:1805.04833, for top-k; Holtzman et al. (2019), arXiv:1904.09751, for top-p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npattn._internal.checks import Array, check_generator, check_ids, check_number, check_size, shown
from npattn._internal.system.underflow import ignore_underflow
from npattn.language_model.fast.reader import Reader
from npattn.language_model.model import LanguageModel
from npattn.layers import softmax


def generate(
    model: LanguageModel,
    ids: Array | Sequence[Array],
    max_new: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_id: int | Sequence[int] | None = None,
    rng: np.random.Generator | int | None = None,
    callback: Callable[[int, int], object] | None = None,
) -> list[list[int]]:
    """Return the new ids of each prompt, with the stop id that ended them.

    - model: a LanguageModel.
    - ids: prompts (B, N), <pad> after the end of short rows; or a sequence of prompts (N,) of any lengths.
    - max_new: the most ids that follow a prompt.
    - temperature: T, which divides the logits; 0 takes the largest logit.
    - top_k: how many of the largest logits stay; None for all.
    - top_p: the sum of probabilities that stays, 0 < top_p ≤ 1; None for 1.
    - stop_id: the id that ends a text, or several; None for none.
    - rng: draws the ids: a numpy.random.Generator, or an integer seed; None for the seed 0.
    - callback: is called with the number of a prompt and each new id of it, as soon as that is drawn. If it returns
      True, the text ends. None for none.

    Raises ValueError for an empty prompt, for more ids than learned positions and for numbers out of range, TypeError
    for arguments of another type, IndexError for ids outside the vocabulary, FloatingPointError for logits that are not
    finite.

    >>> from npattn.language_model import LanguageModelConfig
    >>> model = LanguageModel(LanguageModelConfig(5, d_model=2, n_layers=1, n_heads=1, norm="layer", norm_bias=True))
    >>> model.params["norm.gamma"][:], model.params["norm.beta"][:] = 0, (1, 0)
    >>> model.params["output.W"][0] = 1, 2, 1, 3, 2              # logits at every position: 3 wins
    >>> generate(model, np.array([[4, 1]]), 3, temperature=0)
    [[3, 3, 3]]
    >>> generate(model, np.array([[4, 1]]), 2, temperature=0, callback=print)
    0 3
    0 3
    [[3, 3]]
    """
    if not isinstance(model, LanguageModel):
        raise TypeError(f"model: expected a LanguageModel, got {type(model).__name__}")
    max_new = check_size("max_new", max_new)
    temperature = check_number("temperature", temperature, 0)
    top_k = None if top_k is None else check_size("top_k", top_k, least=1)
    top_p = None if top_p is None else check_number("top_p", top_p, 0, 1, "(]")
    stops = stop_ids(stop_id)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a function or None, got {shown(callback)}")
    rng = check_generator("rng", 0 if rng is None else rng)
    texts = prompts_of(ids, model, max_new)
    if not texts:
        return []
    rngs, lengths = rng.spawn(len(texts)), [len(text) for text in texts]
    rows = list(range(len(texts)))                            # the texts that have not ended
    reader = Reader(model, len(texts), max(lengths) + max_new - 1)          # the last new id is not read
    for _ in range(max_new):
        if not rows:
            break
        logits = reader.next_logits([texts[row] for row in rows], rows)
        if not np.isfinite(logits).all():
            raise FloatingPointError("logits: expected finite numbers, got NaN or infinity")
        for row, z in zip(rows, logits, strict=True):
            texts[row].append(sampled(z, temperature, top_k, top_p, rngs[row]))
        ended = {row for row in rows if callback is not None and callback(row, texts[row][-1])}
        rows = [row for row in rows if row not in ended and texts[row][-1] not in stops]
    return [text[length:] for text, length in zip(texts, lengths, strict=True)]


def sampled(z: Array, temperature: float, top_k: int | None, top_p: float | None, rng: np.random.Generator) -> int:
    """Return an id drawn from logits z (V,)."""
    if temperature == 0:
        return int(z.argmax())
    with np.errstate(over="ignore"):                          # −∞ is right
        z = (z - z.max()) / np.float64(temperature)
    if top_k is not None:
        first = max(len(z) - top_k, 0)
        z[z < np.partition(z, first)[first]] = -np.inf
    p = softmax(z)
    if top_p is not None:
        order = np.argsort(-p)
        before = np.cumsum(p[order]) - p[order]               # the sum of all that are more probable
        p[order[before >= top_p]] = 0
    total = np.cumsum(p)
    return int(np.searchsorted(total, rng.random() * total[-1], "right"))


def prompts_of(ids: Any, model: LanguageModel, max_new: int) -> list[list[int]]:
    """Return each prompt as a list of ids, without pads after its end. Raise unless each fits the model."""
    if not isinstance(ids, np.ndarray | list | tuple):
        raise TypeError(f"ids: expected prompts (B, N) or a list of prompts, got {type(ids).__name__}")
    if isinstance(ids, np.ndarray) and ids.ndim != 2:
        raise ValueError(f"ids: expected prompts (B, N), got {ids.shape}")
    texts = []
    for row in ids:
        check_ids("ids", row, model.config.vocab)
        if row.ndim != 1:
            raise ValueError(f"ids: expected prompts (N,), got {row.shape}")
        text = row.tolist()
        while text and text[-1] == model.config.pad_id:
            text.pop()
        if not text:
            raise ValueError("ids: expected one id or more in each prompt, got an empty one")
        texts.append(text)
    longest, top = max(map(len, texts), default=0) + max_new, model.config.max_length
    if model.config.positions == "learned" and top is not None and longest > top:
        raise ValueError(f"max_new: expected at most max_length={top} ids with the prompt, got {longest}")
    return texts


def stop_ids(stop_id: Any) -> set[int]:
    """Return the ids that end a text."""
    if stop_id is None:
        return set()
    several = stop_id if isinstance(stop_id, list | tuple) else np.ravel(np.asarray(stop_id))
    return {check_size("stop_id", one) for one in several}


generate = ignore_underflow(generate)
