"""The cases: inputs, options and a cotangent, with the right output and every right gradient in float64.

The right answers come from npattn's own functions in float64, whose gradients `npattn check` proves. Inputs and
cotangents can be held exactly by the dtype under test, so their rounding is not part of any error. All are drawn from a
stream of their own: the name of the case is its seed, and no seed of a caller gives the same numbers. The cotangent is
drawn after the inputs, so it is neither symmetric nor equal to an input.

>>> case = cases("attention")[0]
>>> case
attention: plain
>>> case.answer["output"].shape, list(case.gradients)
((5, 4), ['Q', 'K', 'V'])
>>> from npattn.attention.dot_product import scaled_dot_product_attention as attention
>>> case.check(attention)                                  # raises an AssertionError for a wrong answer
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from typing import Any
from zlib import crc32

import numpy as np

from npattn._internal.checks import Array, check_choice
from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.conformance.analysis import ANALYSES
from npattn.conformance.bounds import PRECISIONS, Arithmetic, rounded
from npattn.conformance.catches import CATCHES, FINE
from npattn.conformance.drafts import DRAFTS, INPUTS, Draft
from npattn.conformance.judging import Call, examine
from npattn.layers.cross_entropy import cross_entropy, cross_entropy_backward
from npattn.layers.embedding import embedding, embedding_backward
from npattn.layers.gated_feed_forward import swiglu, swiglu_backward
from npattn.layers.gelu import gelu, gelu_backward
from npattn.layers.layer_norm import layer_norm, layer_norm_backward
from npattn.layers.rms_norm import rms_norm, rms_norm_backward
from npattn.layers.rotary import rotary, rotary_backward
from npattn.layers.rotary_frequencies import rotary_frequencies
from npattn.layers.softmax import softmax, softmax_backward


@dataclass(frozen=True, repr=False, eq=False)
class Case:
    """One test of one layer.

    - name: what is special about it.
    - of: the kind of layer, a key of KINDS.
    - dtype: the dtype that holds inputs and cotangent exactly.
    - options: arguments without a gradient, by name.
    - inputs: arguments that the dtype holds, by name, in float64. All have a gradient, but for those of Adam.
    - cotangent: the gradient of the loss with respect to the output.
    - catches: names of faults, in npattn.conformance.faults, that this case must catch.
    - layout: "strided" or "read-only" for inputs that lie in memory so.
    """

    name: str
    of: str
    dtype: str
    options: Mapping[str, Any]
    inputs: Mapping[str, Array]
    cotangent: Array
    catches: tuple[str, ...] = ()
    layout: str = ""

    def __repr__(self) -> str:
        return f"{self.of}: {self.name}"

    @cached_property
    def answer(self) -> dict[str, Array]:
        """The right output, under "output", and the right gradient of every input under its name."""
        output, gradients = KINDS[self.of](self.inputs, self.options, self.cotangent)
        named = zip(self.inputs, gradients, strict=bool(gradients))
        return {"output": np.asarray(output), **dict(named)}

    @property
    def output(self) -> Array:
        """The right output."""
        return self.answer["output"]

    @property
    def gradients(self) -> dict[str, Array]:
        """The right gradient of every input; none of Adam."""
        return {name: X for name, X in self.answer.items() if name != "output"}

    def bounds(self, accumulate: str | None = None, tightness: bool = False) -> dict[str, Array]:
        """Return how far each number may be off: by the arithmetic of the dtype, and by that of the answer itself."""
        own = bounds_in(self, Arithmetic("float64"))
        found = bounds_in(self, Arithmetic(self.dtype, accumulate, tightness))
        return {name: found[name] + own[name] for name in self.answer}

    def errors(
        self, answer: Mapping[str, Array], accumulate: str | None = None, tightness: bool = False
    ) -> dict[str, float]:
        """Return the largest error of each array in units of its bound; ∞ for NaN, or where no error may be."""
        bounds, found = self.bounds(accumulate, tightness), {}
        for name, value in answer.items():
            with np.errstate(all="ignore"):
                off = np.abs(value - self.answer[name])
                off = np.where(np.isnan(off), np.inf, off)
                found[name] = float(np.where(off > 0, off / bounds[name], 0.0).max())
        return found

    def cast(self, X: Array) -> Array:
        """Return the numbers in the dtype; bfloat16 needs the package ml_dtypes."""
        if self.dtype != "bfloat16":
            return X.astype(self.dtype)
        try:
            return X.astype(import_module("ml_dtypes").bfloat16)
        except ModuleNotFoundError:
            raise ModuleNotFoundError("bfloat16 in NumPy needs the package ml_dtypes; torch has it by itself") from None

    def laid_out(self, X: Any) -> Any:
        """Return the array, or every second column of one that is twice as wide."""
        if self.layout != "strided":
            return X
        wide = X.repeat(*(1,) * (X.ndim - 1), 2) if hasattr(X, "detach") else np.concatenate([X, X], -1)
        wide[..., ::2] = X
        return wide[..., ::2]

    def array(self, name: str) -> Array:
        """Return an input in the dtype and layout of the case."""
        X = self.laid_out(self.cast(self.inputs[name]))
        X.flags.writeable = self.layout != "read-only"
        return X

    def check(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any] | None = None,
        *,
        framework: str = "numpy",
        accumulate: str | None = None,
    ) -> None:
        """Raise an AssertionError unless the implementation passes; skip the pytest test where it lacks an option."""
        outcome = examine(self, Call(forward, backward, framework, accumulate))
        if outcome.status == "skipped":
            _skip(f"{self}: {outcome.message}")
        if outcome.status == "failed":
            raise AssertionError(f"{self}: {outcome.message}; error in units of the bound: {outcome.errors}")


@lru_cache(maxsize=2048)
def bounds_in(case: Case, arithmetic: Arithmetic) -> dict[str, Array]:
    """Return the bounds of a case in an arithmetic."""
    with np.errstate(all="ignore"):
        numbers = ANALYSES[case.of](arithmetic, case.inputs, case.options, case.cotangent)
    return {name: numbers[name].error for name in case.answer}


def _skip(message: str) -> None:
    raise unittest.SkipTest(message)                          # pytest and unittest both count it as skipped


Answer = tuple[Array, tuple[Array, ...]]


def _attention(inputs: Mapping[str, Any], options: Mapping[str, Any], dY: Array) -> Answer:
    Y, cache = scaled_dot_product_attention(**inputs, **options)
    return Y, tuple(dX for dX in scaled_dot_product_attention_backward(dY, cache) if dX is not None)


def _rotary(inputs: Mapping[str, Any], options: Mapping[str, Any], dY: Array) -> Answer:
    X = inputs["X"]
    frequencies = rotary_frequencies(X.shape[-1], base=options["base"])
    Y, cache = rotary(X, frequencies, options.get("positions"), pairing=options["pairing"])
    return Y, (rotary_backward(dY, cache),)


def _softmax(inputs: Mapping[str, Any], options: Mapping[str, Any], dY: Array) -> Answer:
    A = softmax(inputs["E"], options.get("mask"))
    return A, (softmax_backward(dY, A),)


def _layer_norm(inputs: Mapping[str, Any], options: Mapping[str, Any], dY: Array) -> Answer:
    Y, cache = layer_norm(**inputs, **options)
    return Y, tuple(dX for dX in layer_norm_backward(dY, cache) if dX is not None)


def _rms_norm(inputs: Mapping[str, Any], options: Mapping[str, Any], dY: Array) -> Answer:
    Y, cache = rms_norm(**inputs, **options)
    return Y, rms_norm_backward(dY, cache)


def _cross_entropy(inputs: Mapping[str, Any], options: Mapping[str, Any], dY: Array) -> Answer:
    loss, cache = cross_entropy(**inputs, **options)
    return loss, (cross_entropy_backward(dY, cache),)


def _gelu(inputs: Mapping[str, Any], options: Mapping[str, Any], dY: Array) -> Answer:
    Y, cache = gelu(inputs["X"], **options)
    return Y, (gelu_backward(dY, cache),)


def _swiglu(inputs: Mapping[str, Any], options: Mapping[str, Any], dY: Array) -> Answer:
    Y, cache = swiglu(inputs["X"], **options)
    return Y, (swiglu_backward(dY, cache),)


def _embedding(inputs: Mapping[str, Any], options: Mapping[str, Any], dY: Array) -> Answer:
    Y, cache = embedding(options["ids"], inputs["W_E"])
    return Y, (embedding_backward(dY, cache),)


def _adam(inputs: Mapping[str, Any], options: Mapping[str, Any], dY: Array) -> Answer:
    """Take m/(1 − βᵗ) and v/(1 − βᵗ) for what they are: weighted means of the gradients so far and of their squares."""
    p, g, (beta_1, beta_2) = inputs["p"], inputs["gradients"], options["betas"]
    kept = 1 - options["lr"] * options.get("weight_decay", 0.0)
    for t in range(1, len(g) + 1):
        m, v = _weighted_mean(g[:t], beta_1), _weighted_mean(g[:t] ** 2, beta_2)
        p = kept * p - options["lr"] * m / (np.sqrt(v) + options["eps"])
    return p, ()


def _weighted_mean(X: Array, beta: float) -> Array:
    weights = beta ** np.arange(len(X))[::-1]
    return np.asarray(np.tensordot(weights, X, 1) / weights.sum())


#: The right answer of every kind of layer.
KINDS: dict[str, Callable[[Mapping[str, Array], Mapping[str, Any], Array], Answer]] = {
    "attention": _attention,
    "rotary": _rotary,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "cross_entropy": _cross_entropy,
    "gelu": _gelu,
    "swiglu": _swiglu,
    "embedding": _embedding,
    "adam": _adam,
}


@lru_cache(maxsize=64)
def cases(of: str = "attention", dtype: str = "float64") -> tuple[Case, ...]:
    """Return all cases of a kind of layer.

    - of: "attention", "rotary", "softmax", "layer_norm", "rms_norm", "cross_entropy", "gelu", "swiglu", "embedding" or
      "adam".
    - dtype: "float64", "float32", "float16" or "bfloat16", which holds the inputs exactly.

    Raises ValueError for any other name.
    """
    check_choice("of", of, tuple(KINDS))
    check_choice("dtype", dtype, tuple(PRECISIONS))
    return tuple(_make(of, dtype, name, draft) for name, draft in DRAFTS[of].items())


def _make(of: str, dtype: str, name: str, draft: Draft) -> Case:
    rng = np.random.default_rng([crc32(of.encode()), crc32(name.encode())])
    made = draft.make(rng)
    inputs = {key: rounded(value, dtype) for key, value in made.items() if key in INPUTS[of]}
    options = {key: value for key, value in made.items() if key not in inputs}
    options |= draft.options
    cotangent = rounded(np.asarray(rng.standard_normal(_output_shape(of, inputs, options))), dtype)
    catches = tuple(fault for fault in CATCHES[of][name] if fault not in FINE or not dtype.endswith("16"))
    return Case(name, of, dtype, options, inputs, cotangent, catches, draft.layout)


def _output_shape(of: str, inputs: Mapping[str, Array], options: Mapping[str, Any]) -> tuple[int, ...]:
    shape = next(iter(inputs.values())).shape
    if of == "attention":
        return (*shape[:-1], inputs["V"].shape[-1])
    if of == "swiglu":
        return (*shape[:-1], shape[-1] // 2)
    if of == "embedding":
        return (*options["ids"].shape, *shape[1:])
    return () if of == "cross_entropy" else shape
