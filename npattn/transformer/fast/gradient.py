"""Gradients of weights that are computed later, perhaps by another thread.

No other gradient of the backward depends on the gradient of a weight matrix. So a backward returns it as a function,
and goes on at once. `npattn.training.shards` has such functions called by a second thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from npattn._internal.checks import Array
from npattn._internal.system.underflow import ignore_underflow

#: A gradient, or a function that computes it: `gradient()` returns a new array, `gradient(out=array)` fills one.
Gradient: TypeAlias = Array | Callable[..., Array]


def computed(gradient: Gradient) -> Array:
    """Return the gradient as an array."""
    return gradient() if callable(gradient) else gradient


computed = ignore_underflow(computed)
