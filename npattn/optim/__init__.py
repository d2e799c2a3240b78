"""From gradients to the next parameters: clipping, learning rates, Adam.

Everything here works on any mapping of names to float32 or float64 arrays. A plain dict is updated array by array.
`npattn.transformer.Parameters` has all its arrays in one buffer, `.flat`, and is updated as one long vector. Both give
the same numbers, because the operations are elementwise. Only the norm in clipping is a sum over all arrays, and its
rounding can differ.
"""

from npattn.optim.adam import Adam, is_matrix
from npattn.optim.clipping import clip_gradients
from npattn.optim.rates import cosine_rate, linear_rate, noam_rate

__all__ = ["Adam", "clip_gradients", "cosine_rate", "is_matrix", "linear_rate", "noam_rate"]
