"""Calls of a forward function, made from a few drawn numbers, and helpers of all tests of pairs.

Hypothesis draws a `Setting` from `settings()`: a seed, a magnitude, a kind of mask and so on. A `Maker` makes arrays
from it, whose axes have pairwise different sizes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from npattn._internal.checks import Array

MASKS = ("none", "live", "dead", "broadcast", "full")


@dataclass(frozen=True)
class Setting:
    """All that determines a call. `sizes` overrides the drawn size of an axis: ``{"N_X": 1}``."""

    seed: int = 0
    n_batch: int = 1
    dtype: str = "float64"
    scale: float = 1.0
    mask: str = "none"
    optional: int = 0  # bit i: whether the i-th optional argument is given
    sizes: Mapping[str, int] = field(default_factory=dict)


def settings(**fixed: Any) -> st.SearchStrategy[Setting]:
    """Draw settings. A keyword fixes a field, or gives the strategy that draws it."""
    drawn: dict[str, Any] = {
        "seed": st.integers(0, 2**32 - 1),
        "n_batch": st.integers(0, 2),
        "dtype": st.sampled_from(["float64", "float32"]),
        "scale": st.sampled_from([0.3, 1.0]),
        "mask": st.sampled_from(MASKS),
        "optional": st.integers(0, 15),
        "sizes": st.just({}),
    }
    assert fixed.keys() <= drawn.keys()
    fixed = {k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in fixed.items()}
    return st.builds(Setting, **drawn | fixed)


def examples(n: int) -> hypothesis_settings:
    """Run n examples for 25 of the profile: n in a usual run, 20 n with NPATTN_EXPLORE=500."""
    return hypothesis_settings(max_examples=max(n * hypothesis_settings().max_examples // 25, 1))


@dataclass(frozen=True)
class Call:
    """The arguments of one call. Generators among them start anew in every run."""

    forward: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> tuple[Array, Any]:
        return self.forward(*self.args, **copy.deepcopy(self.kwargs))

    def with_args(self, *args: Any) -> Call:
        return Call(self.forward, args, self.kwargs)


class Maker:
    """Makes the arrays of one call, from shapes in words: ``array("... N_X H·D_Q")``."""

    def __init__(self, setting: Setting, axes: str, least: int, batch: Mapping[str, int]) -> None:
        self.setting = setting
        self.rng = np.random.default_rng(setting.seed)
        self.batch = list(batch)[: setting.n_batch]
        symbols = axes.split()
        sizes = (least + self.rng.permutation(len(symbols))).tolist()  # pairwise different
        self.sizes = {"1": 1, "2": 2, **batch, **dict(zip(symbols, sizes, strict=True)), **setting.sizes}
        self.optional = setting.optional

    def shape(self, pattern: str) -> tuple[int, ...]:
        symbols = pattern.replace("...", " ".join(self.batch)).split()
        return tuple(math.prod(self.sizes[factor] for factor in symbol.split("·")) for symbol in symbols)

    def array(self, pattern: str, scale: float | None = None) -> Array:
        """Normal numbers with the scale of the setting, without special ones: no zeros, ones or equal rows."""
        scale = self.setting.scale if scale is None else scale
        return (scale * self.rng.standard_normal(self.shape(pattern))).astype(self.setting.dtype)

    def weight(self, pattern: str) -> Array:
        """A weight matrix that keeps the magnitude of the rows that it multiplies."""
        return self.array(pattern, 1 / math.sqrt(max(self.shape(pattern)[0], 1)))

    def maybe(self, pattern: str) -> Array | None:
        """An optional argument of magnitude 1, or None."""
        array = self.array(pattern, 1.0)
        given, self.optional = self.optional % 2, self.optional // 2
        return array if given else None

    def mask(self, pattern: str) -> Array | None:
        """A mask of the kind that the setting names.

        "live": each query may attend to some key; "dead": some queries may attend to none; "broadcast": some axes have
        size 1 or are missing; "full": all True; "none": None.
        """
        kind, shape = self.setting.mask, self.shape(pattern)
        if kind == "none":
            return None
        if kind == "broadcast":
            shape = tuple(np.where(self.rng.random(len(shape)) < 0.5, 1, shape).tolist())
            shape = shape[int(self.rng.integers(len(shape))) :]
        mask = self.rng.random(shape) < (1.0 if kind == "full" else 0.6)
        if kind == "live" and mask.size:
            mask[..., 0] |= ~mask.any(-1)
        if kind == "dead" and mask.size:
            mask &= self.rng.random((*shape[:-1], 1)) < 0.6
            mask[(0,) * (len(shape) - 1)] = False
        return mask


def arrays(tree: Any) -> Iterator[Array]:
    """Yield every array in nested tuples and mappings, such as arguments, outputs, gradients and caches."""
    if isinstance(tree, np.ndarray):
        yield tree
    elif isinstance(tree, (tuple, list, dict)):
        for child in tree.values() if isinstance(tree, dict) else tree:
            yield from arrays(child)


def floating(tree: Any) -> list[Array]:
    return [array for array in arrays(tree) if array.dtype.kind == "f"]


def cotangent(Y: Array, seed: int = 1) -> Array:
    """A random dY: ones would hide a wrong order of axes."""
    return np.asarray(np.random.default_rng(seed).standard_normal(Y.shape), Y.dtype)


def assert_same(got: Any, expected: Any) -> None:
    """Equal to rounding, relative to the largest entry of each array."""
    for g, e in zip(got, expected, strict=True):
        assert g.shape == e.shape
        assert np.abs(g - e).max(initial=0.0) <= 1e-13 * max(np.abs(e).max(initial=0.0), 1e-2)


def summed(gradient: Array, rank: int) -> Array:
    """Sum over the leading axes that a parameter with this number of axes does not have."""
    return gradient.reshape(-1, *gradient.shape[gradient.ndim - rank :]).sum(0)
