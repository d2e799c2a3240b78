"""Underflow never raises, whatever the caller's np.errstate; overflow and invalid operations follow it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn import Adam, Parameters, Transformer, beam_search, clip_gradients, greedy_search
from npattn._internal.checks import Array
from npattn.layers import dropout, dropout_backward, linear, softmax
from npattn.transformer import reference
from npattn.transformer.fast import transformer as fast
from npattn.transformer.fast.gradient import computed
from support.calls import Setting, cotangent, floating
from support.pairs import PAIRS, Pair
from support.transformer_toys import OPTIONS, SRC, TGT, toy_config, toy_params

DTYPES = [np.dtype("float32"), np.dtype("float64")]


def small_cotangent(Y: Array, size: float) -> Array:
    with np.errstate(under="ignore"):
        return (cotangent(Y) * size).astype(np.asarray(Y).dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.03, 0.75, 0.45], ids=["subnormal inputs", "tiny inputs", "tiny products"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_no_pair_raises(pair: Pair, dtype: np.dtype[Any], scale: float) -> None:
    """The numbers are those of np.errstate(under="ignore"). The cotangents are as small as the inputs."""
    smallest = float(np.finfo(dtype).tiny) ** scale
    results = []
    for under in ("raise", "ignore"):
        call = pair.call(Setting(seed=3, dtype=str(dtype), scale=smallest))
        with np.errstate(all="raise", under=under):  # type: ignore[call-overload]
            Y, cache = call.run()
            dY = small_cotangent(Y, smallest)
            results.append([Y, *floating(pair.backward(dY, cache))])
    for raising, ignoring in zip(*results, strict=True):
        np.testing.assert_array_equal(raising, ignoring)


@pytest.mark.parametrize("options", [OPTIONS[name] for name in ("paper", "pre", "untied", "dropout")])
@pytest.mark.parametrize("run", [reference, fast], ids=["reference", "fast"])
def test_no_model_raises(run: Any, options: dict[str, Any]) -> None:
    """Embeddings, γ and cotangents so small that almost every product falls below the smallest number."""
    config = toy_config(**options)
    usual = toy_params(config, 0, np.dtype("float32"))
    tiny = {name: array * np.float32(1e-25) for name, array in usual.items()}
    tiny_layers = usual | {name: array for name, array in tiny.items() if "coder" in name and ".norm" not in name}
    for params, size in ((tiny, 1e-25), (tiny_layers, 1.0), (usual, 1e-39)):
        with np.errstate(all="raise"):
            logits, cache = run.forward(params, SRC, TGT, config, np.random.default_rng(0))
            grads = run.backward(small_cotangent(logits, size), cache)
            loss, gradients = fast.loss_and_gradients(params, SRC, TGT, config, 0.1, share=size)
            found = {name: computed(gradient) for name, gradient in gradients}
        assert all(np.isfinite(gradient).all() for gradient in (*grads.values(), *found.values(), loss))


def test_dropout_does_not_raise() -> None:
    """The factor 1/0.7 rounds a subnormal number; in the pairs above it is 2."""
    X = np.full(9, 1e-40, np.float32)
    with np.errstate(all="raise"):
        _, cache = dropout(X, 0.3, np.random.default_rng(0))
        dropout_backward(X, cache)


def test_neither_search_raises() -> None:
    """Logits hundreds apart: the probabilities of most tokens are below the smallest number."""
    model = Transformer(toy_config(), rng=0)
    model.params["target_embedding.W_E"] *= np.float32(1e4)
    with np.errstate(all="raise"):
        assert len(greedy_search(model, SRC, 5)) == len(beam_search(model, SRC, 3, 5)) == len(SRC)


def test_no_update_raises() -> None:
    params, grads = ({"w": np.full(3, size, np.float32)} for size in (1e-38, 1e-30))
    adam = Adam(params, weight_decay=0.1, decay=lambda name, parameter: True)
    model = Parameters({"w": (1,)})
    with np.errstate(all="raise"):
        for _ in range(3):
            adam.step(clip_gradients(grads, 1e-36)[0])
        model["w"] = np.array([1e-60])
    assert np.isfinite(params["w"]).all() and not model.flat.any()


@pytest.mark.parametrize("setting", ["raise", "warn", "ignore"])
def test_overflow_and_invalid_follow_the_caller(setting: Any) -> None:
    huge = np.full((2, 2), 3e38, np.float32)
    with np.errstate(all=setting):
        for call, result in ((lambda: linear(huge, huge)[0], np.inf), (lambda: softmax(huge * 0 + np.inf), np.nan)):
            if setting == "ignore":
                np.testing.assert_array_equal(call(), np.full((2, 2), result))
            else:
                with pytest.raises(FloatingPointError if setting == "raise" else RuntimeWarning):
                    call()
