"""Everything between a gradient and the next parameters: clipping, learning rates, Adam.

It works on any mapping of names to float32 or float64 arrays. `npattn.transformer.Parameters` keeps all of
them in one buffer, `.flat`, and is then treated as one long vector; a plain dict is treated array by array.
Both give the same numbers, but for rounding in the one norm that clipping takes over all arrays: everything
else is elementwise.
"""

from npattn.optim.adam import Adam, is_matrix
from npattn.optim.clipping import clip_gradients
from npattn.optim.rates import cosine_rate, linear_rate, noam_rate

__all__ = ["Adam", "clip_gradients", "cosine_rate", "is_matrix", "linear_rate", "noam_rate"]
