"""Underflow never raises, whatever the caller's `np.errstate`; overflow and invalid operations follow it.

A number below the smallest of its dtype becomes 0 or loses digits. That is the right result for a weight that vanishes,
and no error. ∞ and NaN are errors more often, so the caller decides about them.

The public functions are wrapped at the end of their modules. A `with` around each body would say the same.

Numbers below the smallest normal one are called subnormal. On many processors they take up to 100 times as long as
others. Where they would be kept and computed with again and again, they become 0.
"""

from __future__ import annotations

import numpy as np

from npattn._internal.checks.types import Array

#: `f = ignore_underflow(f)` keeps name, signature and docstring. It takes less than a microsecond a call.
ignore_underflow = np.errstate(under="ignore")


def drop_subnormal(X: Array) -> None:
    """Set the subnormal numbers of X to 0. X is real: moments and gradients, never the values of a forward."""
    np.copyto(X, 0, where=np.abs(X) < np.finfo(X.dtype).tiny)
