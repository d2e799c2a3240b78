"""The input of decode.py: made-up words with the lengths of English words, and a model that never ends early.

The lengths are those of the CMU Pronouncing Dictionary: its 125,000 words have 7.4 letters on average, and 0.85
phonemes for each letter. The weights are random. But the bias of the last layer norm makes the logit of <eos> very low,
so every word takes the same number of steps in both libraries, and the ids can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import npattn
from _common.models import EOS, npattn_model
from _common.sizes import Size

#: The number of words by their number of letters, among 1,000 words of the dictionary.
LETTERS = {3: 13, 4: 53, 5: 119, 6: 179, 7: 188, 8: 155, 9: 115, 10: 78, 11: 46, 12: 26, 13: 14, 14: 6, 15: 3}
PHONEMES_PER_LETTER = 0.85
BATCH = 128


def batches(size: Size, count: int | None = None) -> Iterator[tuple[np.ndarray, int]]:
    """Yield src (B, N_S) and the number of tokens to decode, for words sorted by length, as in `npattn predict`.

    With `count`: for so many words of 6 letters.
    """
    lengths = [n for n, words in LETTERS.items() for _ in range(words)] if count is None else [6] * count
    rng = np.random.default_rng(0)
    for start in range(0, len(lengths), BATCH):
        part = np.array(lengths[start : start + BATCH])
        src = rng.integers(EOS + 1, size.vocabulary, (len(part), part.max()))
        src[np.arange(part.max()) >= part[:, None]] = 0
        yield src, round(PHONEMES_PER_LETTER * int(part.max()))


def model_without_end(size: Size) -> npattn.Transformer:
    """A model of random weights whose logit of <eos> is −10 on average, with a standard deviation of 1."""
    model = npattn_model(size)
    direction = np.zeros(size.d_model, np.float32)
    direction[0] = 1
    W_E = model.params["embedding.W_E"]
    W_E[:, 0] = 0                                             # the bias changes no other logit
    W_E[EOS] = direction
    model.params[f"decoder.{size.layers - 1}.norm_3.beta"] = -10 * direction
    return model
