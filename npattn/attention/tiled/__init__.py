"""Attention for long sequences: the mathematics of `npattn.attention.dot_product` in memory linear in the length.

`attention` has the forward and the backward, `tiles` the pieces they are cut into. What needs the whole matrix of
weights at once is not here.
"""

from npattn.attention.tiled.attention import tiled_attention, tiled_attention_backward

__all__ = ["tiled_attention", "tiled_attention_backward"]
