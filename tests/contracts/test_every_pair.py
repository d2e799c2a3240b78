"""Every public pair, and the whole model with every option: gradients for all masks, dtypes, magnitudes and layouts.

The arguments of a call and dY are read-only views, with gaps, with negative strides or in Fortran order.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import TransformerConfig, check_gradients
from npattn._internal.checks import Array
from npattn.transformer.fast import transformer as functions
from support.calls import Setting, cotangent, examples, floating, settings
from support.layouts import LAYOUTS, freeze
from support.pairs import PAIRS, Pair, attend_in_tiles
from support.transformer_toys import OPTIONS, PAPER, SIZES, toy_config, toy_params

# A softmax over one key is constant, and so is a query that sees none: every gradient is zero, as it should be.
pytestmark = pytest.mark.filterwarnings("ignore::npattn.gradcheck.GradientWarning")
each_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
MAGNITUDES = (1e-6, 1e-3, 1.0, 1e3, 1e6)


def laid_out(tree: Any, layout: Any) -> Any:
    """Return the arguments, with each array that has axes as a read-only view."""
    views = tuple(layout(a) if isinstance(a, np.ndarray) and a.ndim else a for a in tree)
    freeze(views)
    return views


@each_pair
@given(setting=settings(scale=st.sampled_from(MAGNITUDES)), layout=st.sampled_from(LAYOUTS))
@examples(6)
def test_gradients_of_any_array(pair: Pair, setting: Setting, layout: Any) -> None:
    """Non-contiguous, Fortran-ordered, negative-stride, read-only inputs, float32 and float64, 1e-6 … 1e6."""
    if pair.forward is attend_in_tiles and setting.scale > 1e3:
        setting = replace(setting, scale=1e3)                 # beyond, the rounding of Σ dY·Y is as large as dE
    call = pair.call(setting)
    args, kwargs = laid_out(call.args, layout), dict(call.kwargs)
    if any(leaf.size for leaf in floating(args)):
        assert check_gradients(pair.forward, pair.backward, args, kwargs, rng=setting.seed).ok
    Y, cache = call.with_args(*args).run()
    dY = laid_out([cotangent(Y)], layout)[0]
    for gradient, argument in zip(floating(pair.backward(dY, cache)), floating(args), strict=True):
        assert gradient.dtype == argument.dtype and gradient.shape == argument.shape
        assert np.isfinite(gradient).all()


def random_batch(seed: int, dead_row: bool) -> tuple[Array, Array]:
    """Draw ids with pads at the ends and repeated ids. With `dead_row` the last source has pads alone."""
    rng = np.random.default_rng(seed)
    B, N_S, N_T = (int(n) for n in rng.permutation([2, 3, 4]))
    src, tgt = rng.integers(3, 9, (B, N_S)), rng.integers(3, 11, (B, N_T))
    src[:, 1], tgt[:, 0] = src[:, 0], 1
    src[0, N_S - 1], tgt[-1, N_T - 1] = 0, 0
    src[-1] *= not dead_row
    return src, tgt


def long(options: dict[str, Any]) -> Any:
    """Leave a case to the long tests: tests/transformer checks these models by the complex step too."""
    return pytest.param(options, marks=pytest.mark.long)


def stream_of(config: TransformerConfig, seed: int) -> np.random.Generator | None:
    return np.random.default_rng(seed) if config.dropout or config.attention_dropout else None


@pytest.mark.parametrize("options", [OPTIONS[name] if name in PAPER else long(OPTIONS[name]) for name in OPTIONS],
                         ids=OPTIONS)  # fmt: skip
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["float32", "float64"]), dead_row=st.booleans())
@examples(1)
def test_whole_model(options: dict[str, Any], seed: int, dtype: str, dead_row: bool) -> None:
    """norm, final_norm, tie, bias, activation, dropout with a fixed mask, pads, dead rows; read-only parameters."""
    config = toy_config(**options)
    params = dict(toy_params(config, seed % 1000, np.dtype(dtype)))
    freeze(params)
    kwargs = {"config": config, "rng": stream_of(config, seed)}
    report = check_gradients(functions.forward, functions.backward, (params, *random_batch(seed, dead_row)), kwargs)
    assert report.method == "complex-step"
    assert len(report.arguments) == len(config.shapes())


@given(
    norm=st.sampled_from(["pre", "post"]),
    final_norm=st.sampled_from([None, True, False]),
    tie=st.sampled_from(["all", "output", "none"]),
    bias=st.booleans(),
    activation=st.sampled_from(["relu", "gelu"]),
    dropout=st.sampled_from([0.0, 0.4]),
    attention_dropout=st.sampled_from([0.0, 0.4]),
    norm_eps=st.sampled_from([1e-5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
@examples(5)
def test_any_mixture_of_options(seed: int, **options: Any) -> None:
    """Options are drawn, not only those of `OPTIONS`."""
    sizes = {"src_vocab": SIZES["tgt_vocab"]} if options["tie"] == "all" else {}
    config = toy_config(**options, **sizes)
    kwargs = {"config": config, "rng": stream_of(config, seed)}
    args = (toy_params(config, seed % 1000), *random_batch(seed, dead_row=bool(seed % 2)))
    assert check_gradients(functions.forward, functions.backward, args, kwargs, rng=seed).ok


def test_options_have_every_value() -> None:
    """Every value of every choice is in `OPTIONS` or a default, so `test_whole_model` tests all of them."""
    configs = [toy_config(**options) for options in OPTIONS.values()]
    for name, values in {
        "norm": {"pre", "post"}, "final_norm": {None, True, False}, "tie": {"all", "output", "none", "embeddings"},
        "bias": {True, False}, "activation": {"relu", "gelu", "gelu_tanh", "silu"}, "gated": {True, False},
        "positions": {"sinusoidal", "sinusoidal_halves", "learned", "relative"}, "norm_type": {"layer", "rms"},
        "embedding_norm": {True, False}, "scale_embedding": {True, False}, "scale_output": {True, False},
        "output_bias": {True, False}, "final_dropout": {True, False},
    }.items():  # fmt: skip
        assert {getattr(config, name) for config in configs} == values
    assert any(config.dropout for config in configs) and any(config.attention_dropout for config in configs)
    with_both = itertools.product(("pre", "post"), (0.0, 0.3))
    assert all(any(c.norm == norm and bool(c.dropout) == bool(p) for c in configs) for norm, p in with_both)
