"""From a source to a target: greedy and beam search, both on a decoder with key/value caches.

`greedy` and `beam` are the searches, `hypotheses` the arithmetic of beams, `cached_decoder` the decoder one token at a
time, `inference_layers` its layers without a backward, `workers` the sharing of rows over threads. Texts are not known
here; `npattn.runs.prediction` turns them into ids.
"""

from npattn.decoding.beam import beam_search
from npattn.decoding.greedy import greedy_search
from npattn.decoding.hypotheses import Hypothesis

__all__ = ["Hypothesis", "beam_search", "greedy_search"]
