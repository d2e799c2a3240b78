"""The kinds of models that a run trains, and what is different between them.

A task names the class of its model. `Transformer` turns a source into a target, and is scored by its greedy search;
`LanguageModel` goes on with a text, and is scored by the probabilities that it gives to the bytes of held-out files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from npattn._internal.checks import Array
from npattn._internal.system.blas_threads import one_blas_thread
from npattn._internal.system.workers import in_order
from npattn.language_model import LanguageModel, LanguageModelConfig
from npattn.tasks import BEGIN, Bytes, Codec, Window
from npattn.transformer import Transformer, TransformerConfig

if TYPE_CHECKING:
    from npattn.runs.run import Run

#: The sizes of the model of a run.
Config: TypeAlias = TransformerConfig | LanguageModelConfig

#: Windows that go through a language model together.
TOGETHER = 16


class Kind(NamedTuple):
    """What a run needs to know of a kind of models."""

    model: Any                                                # the class
    config: Any                                               # the class of its sizes
    codec: Any                                                # the class of its codec
    layers: tuple[str, ...]                                   # the fields of the config that are numbers of layers
    sizes: Callable[[Any], dict[str, int]]                    # the fields of the config that the codec decides
    score: Callable[[Run, Any, Sequence[Any]], dict[str, float]]   # of a model on held-out items


def sizes_of_pairs(codec: Codec) -> dict[str, int]:
    """Return the fields of a TransformerConfig that the codec decides."""
    return {"src_vocab": len(codec.source_vocabulary), "tgt_vocab": len(codec.target_vocabulary)}


def sizes_of_bytes(codec: Bytes) -> dict[str, int]:
    """Return the fields of a LanguageModelConfig that the codec decides."""
    return {"vocab": BEGIN + 1, "pad_id": BEGIN, "bos_id": BEGIN}


def score_pairs(run: Run, model: Transformer, items: Sequence[Any]) -> dict[str, float]:
    """Return the scores of greedy search."""
    return run.task.score(run.predict(model, [item.source for item in items]), items)


def score_text(run: Run, model: LanguageModel, items: Sequence[Any]) -> dict[str, float]:
    """Return the scores of the probabilities."""
    with one_blas_thread():
        return run.task.score(run.ranks.share_out(partial(measured, model, workers=run.trainer.workers), items))


def measured(model: LanguageModel, windows: Sequence[Window], *, workers: int = 1) -> list[tuple[float, int, int]]:
    """Return bits, wrong guesses and number of the targets of each window that count.

    - model: predicts each target from the ids before it. A guess is the id with the largest logit.
    - windows: parts of texts.
    - workers: threads that share the windows.
    """
    found: list[tuple[float, int, int]] = []
    groups = [windows[i : i + TOGETHER] for i in range(0, len(windows), TOGETHER)]
    in_order(groups, partial(_measure, model), lambda _, results: found.extend(results), workers)
    return found


def _measure(model: LanguageModel, windows: Sequence[Window]) -> list[tuple[float, int, int]]:
    width = max(len(window.ids) for window in windows)
    ids = np.full((len(windows), width), BEGIN)
    counts = np.zeros((len(windows), width - 1), bool)        # (B, N)
    for row, count, window in zip(ids, counts, windows, strict=True):
        row[: len(window.ids)] = window.ids
        count[window.first : len(window.ids) - 1] = True
    logits: Array = model.forward(ids[:, :-1])[0].astype(np.float64)      # (B, N, V)
    targets = ids[:, 1:]
    at_target = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    top = logits.max(-1)
    bits = (np.log(np.exp(logits - top[..., None]).sum(-1)) + top - at_target) / math.log(2)   # −log₂ softmax
    wrong = logits.argmax(-1) != targets
    return [
        (float(b[count].sum()), int(w[count].sum()), int(count.sum()))
        for b, w, count in zip(bits, wrong, counts, strict=True)
    ]


KINDS = {
    "Transformer": Kind(
        Transformer, TransformerConfig, Codec, ("n_encoder_layers", "n_decoder_layers"), sizes_of_pairs, score_pairs
    ),
    "LanguageModel": Kind(LanguageModel, LanguageModelConfig, Bytes, ("n_layers",), sizes_of_bytes, score_text),
}
