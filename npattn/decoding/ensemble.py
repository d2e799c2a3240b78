"""An ensemble: several models that choose each token together, by the mean of their probabilities.

    p(id | beginning, src) = (p_1(id | beginning, src) + … + p_M(id | beginning, src)) / M

Models that were trained with different seeds make partly different mistakes, and the mean avoids some of them. All
models read the same ids, so they must have the same vocabularies.

**Source**  Sutskever, Vinyals & Le (2014), arXiv:1409.3215, section 3.6, who decode with ensembles of 2 and 5 models.

>>> from npattn.transformer import TransformerConfig
>>> models = [Transformer(TransformerConfig(5, 5, d_model=2, n_heads=1, d_ff=2, norm="pre")) for _ in range(2)]
>>> for model, p in zip(models, (0.7, 0.2)):                  # of id 3; id 4 has 1 − p
...     model.params["decoder.norm.gamma"][:], model.params["decoder.norm.beta"][:] = 0, (1, 0)
...     model.params["target_embedding.W_E"][:, 0] = -99, -99, -99, np.log(p), np.log(1 - p)
>>> log_p = decoder_of(models, np.array([[4]])).step(np.array([1]))
>>> np.exp(log_p).round(3)                                    # (0.7 + 0.2)/2 and (0.3 + 0.8)/2
array([[0.  , 0.  , 0.  , 0.45, 0.55]])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npattn._internal.checks import Array
from npattn.decoding.cached_decoder import CachedDecoder
from npattn.decoding.hypotheses import log_softmax
from npattn.transformer.model import Transformer


class EnsembleDecoder:
    """The decoders of several models, as one `CachedDecoder`: the same methods, on the same beginnings."""

    def __init__(self, models: Sequence[Transformer], src: Array, beam: int = 1) -> None:
        """Encode src (B, N_S) with each model."""
        self.decoders = [CachedDecoder(model.params, src, model.config, beam) for model in models]

    def __len__(self) -> int:
        return len(self.decoders[0])

    def step(self, ids: Array) -> Array:
        """Read the tokens ids (B·k,) at position t, and return log p (B·k, V) of the next tokens in float64.

        log p serves as logits: its softmax is p.
        """
        with np.errstate(under="ignore"):
            log_p = np.array([log_softmax(decoder.step(ids).astype(np.float64)) for decoder in self.decoders])
            top = log_p.max(0)
            mean: Array = np.log(np.exp(log_p - top).mean(0)) + top
        return mean

    def reorder(self, parents: Array) -> None:
        """Make beam j of group b a continuation of what was beam parents[b, j]; parents (B, k)."""
        for decoder in self.decoders:
            decoder.reorder(parents)

    def keep(self, groups: Array) -> Array:
        """Drop all groups but the given ones, in ascending order; return the old number of the group at each place."""
        *_, order = (decoder.keep(groups) for decoder in self.decoders)    # all of them move alike
        return order


def decoder_of(models: Sequence[Transformer], src: Array, beam: int = 1) -> CachedDecoder | EnsembleDecoder:
    """Return the decoder of one model, or of several together, for src (B, N_S) with `beam` beginnings each."""
    if len(models) > 1:
        return EnsembleDecoder(models, src, beam)
    return CachedDecoder(models[0].params, src, models[0].config, beam)
