"""The gradients of the whole model for each family, and what its parts equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn import LanguageModel
from npattn._internal.checks import Array, Params
from npattn.attention import v12_normalised
from npattn.attention.dot_product import scaled_dot_product_attention
from npattn.attention.v7_multi_head import merge_heads
from npattn.language_model import reference
from npattn.language_model.config import LanguageModelConfig
from npattn.layers import dropout, rms_norm
from npattn.transformer.parameters import nested
from support.language_model_toys import FAMILIES, IDS, OTHERS, toy_config, toy_language_model, toy_params

every_model = pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])


def forward(params: Params, config: LanguageModelConfig) -> tuple[Array, Any]:
    rng = np.random.default_rng(8) if config.dropout else None
    return reference.forward(params, IDS, config, rng)


def slopes_by_complex_step(
    params: dict[str, Array], config: LanguageModelConfig, name: str, steps: Array, dlogits: Array
) -> list[float]:
    """Return the slope of Σ dlogits · logits along each step of one parameter."""
    point, slopes = {n: array.astype(complex) for n, array in params.items()}, []
    for step in steps:
        logits, _ = forward(point | {name: point[name] + 1e-20j * step}, config)
        slopes.append(float((dlogits * logits).sum().imag / 1e-20))
    return slopes


@every_model
def test_each_gradient_by_complex_step(family: str) -> None:
    """One random direction for each parameter, scaled so that the largest entry of the gradient counts as 1."""
    config, rng = toy_config(family), np.random.default_rng(1)
    params = toy_params(config)
    logits, cache = forward(params, config)
    dlogits = rng.normal(size=logits.shape)
    grads = reference.backward(dlogits, cache)
    assert grads.keys() == params.keys()
    largest = max(float(np.abs(gradient).max()) for gradient in grads.values())
    for name, gradient in grads.items():
        size = max(float(np.abs(gradient).max()), 1e-3 * largest)     # GPT-2's b_K has no influence
        step = rng.choice([-1.0, 1.0], gradient.shape) / size
        (slope,) = slopes_by_complex_step(params, config, name, step[None], dlogits)
        assert abs(slope - float((gradient * step).sum())) < 1e-12 * gradient.size, name
        assert gradient.any() or name.endswith("b_K"), name


@pytest.mark.long
@every_model
def test_each_entry_of_each_gradient_by_complex_step(family: str) -> None:
    config, rng = toy_config(family), np.random.default_rng(1)
    params = toy_params(config)
    logits, cache = forward(params, config)
    dlogits = rng.normal(size=logits.shape)
    grads = reference.backward(dlogits, cache)
    largest = max(float(np.abs(gradient).max()) for gradient in grads.values())
    for name, gradient in grads.items():
        steps = np.eye(gradient.size).reshape(-1, *gradient.shape)
        numeric = slopes_by_complex_step(params, config, name, steps, dlogits)
        size = max(float(np.abs(gradient).max()), 1e-3 * largest)
        assert np.abs(gradient.ravel() - numeric).max() < 1e-12 * size, name


@pytest.mark.parametrize("family", ["mistral", "qwen3", "olmo2", "gemma2", "gemma3"])
def test_attention_is_version_12(family: str) -> None:
    config, X = toy_config(family), np.random.default_rng(2).normal(size=(2, 5, 5))
    p = nested(toy_params(config))["layers"]["0"]["attention"]
    layer_type, offset = config.layer_types[0], 1.0 if config.unit_offset else 0.0
    Z, cache = reference.attention(X, p, layer_type, config, None)
    gammas = [p[name] + offset if name in p else None for name in ("gamma_Q", "gamma_K")]
    wanted, wanted_cache = v12_normalised.forward(
        X, *(p[f"W_{which}"] for which in "QKVO"), None, None, None, *gammas, n_heads=4, n_kv_heads=2,
        window=config.window, norm="rms" if config.qk_norm == "none" else config.qk_norm, eps=config.norm_eps,
        softcap=config.attention_softcap, scale=config.attention_scale, frequencies=config.frequencies(layer_type, 5),
        pairing="halves",
    )  # fmt: skip
    np.testing.assert_allclose(Z, wanted, rtol=0, atol=1e-13)
    dX, grads = reference.attention_backward(np.cos(Z), cache)
    dX_wanted, *weights = v12_normalised.backward(np.cos(Z), wanted_cache)
    np.testing.assert_allclose(dX, dX_wanted, rtol=0, atol=1e-13)
    np.testing.assert_allclose(grads["W_K"], weights[1], rtol=0, atol=1e-13)


@every_model
def test_logits_depend_on_the_past_alone(family: str) -> None:
    model = toy_language_model(family)
    logits, _ = model.forward(IDS)
    changed = IDS.copy()
    changed[:, 3] = 5
    moved = np.abs(model.forward(changed)[0] - logits).max((0, 2)) > 1e-9
    assert moved.tolist() == [False, False, False, True, True]


def test_a_window_hides_what_is_further_back() -> None:
    model = toy_language_model("mistral", n_layers=1, layer_types=("sliding_attention",))
    logits, _ = model.forward(IDS)
    changed = IDS.copy()
    changed[:, 0] = 2
    moved = np.abs(model.forward(changed)[0] - logits).max((0, 2)) > 1e-9
    assert moved.tolist() == [True, True, True, False, False]  # W = 3


def theta(family: str, layer_type: str, length: int) -> list[float]:
    frequencies = toy_config(family).frequencies(layer_type, length)
    assert frequencies is not None
    return [float(one) for one in frequencies.theta]


def test_frequencies_of_layers() -> None:
    """They follow the length for dynamic scaling alone, and each type of layer has its own."""
    assert theta("gelu", "full_attention", 5) != theta("gelu", "full_attention", 3)
    assert theta("llama", "full_attention", 5) == theta("llama", "full_attention", 3)
    assert np.allclose(theta("gemma3", "full_attention", 3), [1e4 ** (-i / 3) for i in range(3)])
    assert np.allclose(theta("gemma3", "sliding_attention", 3), [100 ** (-i / 3) for i in range(3)])
    assert toy_config("gpt2").frequencies("full_attention", 3) is None
    message = "layer_type: expected one of full_attention, sliding_attention, got 'full'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        toy_config("llama").frequencies("full", 3)


def test_dropout_needs_a_generator() -> None:
    model = toy_language_model("geglu")
    plain = model.forward(IDS)[0]
    assert np.array_equal(plain, model.forward(IDS)[0])
    assert not np.array_equal(plain, model.forward(IDS, np.random.default_rng(0))[0])
    one, other = (model.loss_and_gradients(IDS, rng=np.random.default_rng(3)) for _ in range(2))
    assert one[0] == other[0] != model.loss_and_gradients(IDS)[0]
    assert one[1] == other[1]


@pytest.mark.parametrize("family", ["llama", "relu"])
def test_epsilon_matters(family: str) -> None:
    one, other = (toy_language_model(family, norm_eps=eps).forward(IDS)[0] for eps in (1e-5, 0.1))
    assert np.abs(one - other).max() > 1e-3


def test_where_dropout_acts() -> None:
    """On the embedding, on what each sub-layer adds, and on the weights of attention, in this order of draws."""
    config = toy_config("geglu", n_layers=1)
    params, rng, p = toy_params(config), np.random.default_rng(8), config.dropout
    part = nested(params)["layers"]["0"]

    def norm(X: Array, name: str) -> Array:
        return rms_norm(X, params[name])[0]

    X, _ = dropout(params["embedding.W_E"][IDS], p, rng)
    I = norm(X, "layers.0.attention_norm.gamma")
    frequencies = config.frequencies("full_attention", 5)
    Q, K = (reference.heads(I, part["attention"], which, config, frequencies)[0] for which in "QK")
    V, _ = reference.heads(I, part["attention"], "V", config)
    Y, _ = scaled_dot_product_attention(Q, K, V, causal=True, grouped=True, dropout=0.2, rng=rng)
    X = X + dropout(merge_heads(Y) @ part["attention"]["W_O"], p, rng)[0]
    F, _ = reference.feed_forward(norm(X, "layers.0.feed_forward_norm.gamma"), part["feed_forward"], config)
    X = X + dropout(F, p, rng)[0]
    np.testing.assert_allclose(forward(params, config)[0], norm(X, "norm.gamma") @ params["output.W"], atol=1e-13)


class TestWrongInputs:
    @pytest.mark.parametrize(("change", "kind"), [(lambda d: d[:, :1], ValueError), (np.float32, TypeError)])
    def test_cotangents_of_the_reference(self, change: Any, kind: type[Exception]) -> None:
        config = toy_config("llama")
        logits, cache = reference.forward(toy_params(config), IDS, config)
        with pytest.raises(kind, match=r"^dlogits: expected "):
            reference.backward(change(logits), cache)

    def test_a_cotangent_of_float64_where_the_model_has_float32(self) -> None:
        config = toy_config("llama")
        params = {name: array.astype(np.float32) for name, array in toy_params(config).items()}
        logits, cache = reference.forward(params, IDS, config)
        with pytest.raises(TypeError, match=r"^dlogits: expected an array of float32 like the output, got float64$"):
            reference.backward(logits.astype(np.float64), cache)

    def test_ids(self) -> None:
        config = toy_config("gpt2", max_length=4)
        params = toy_params(config)
        with pytest.raises(ValueError, match=r"^ids: expected at most max_length=4 in a row, got \(2, 5\)$"):
            reference.forward(params, IDS, config)
        assert reference.forward(params, IDS[:, :4], config)[0].shape == (2, 4, 7)
        reference.check_rows(IDS, config)                     # the fifth id is asked for, and not read
        reference.check_rows(np.tile(IDS, 3), toy_config("llama", max_length=4))
        with pytest.raises(ValueError, match=r"^ids: expected at most max_length \+ 1=5 in a row, got \(2, 6\)$"):
            reference.check_rows(np.pad(IDS, ((0, 0), (0, 1))), config)
        with pytest.raises(ValueError, match=r"^ids: expected ids \(B, N\) with two columns or more, got \(2, 1\)$"):
            reference.check_rows(IDS[:, :1], config)
        with pytest.raises(IndexError, match=r"^ids: "):
            reference.forward(params, IDS[:, :4] + 1, config)
        with pytest.raises(ValueError, match=r"^ids: expected ids \(B, N\), got \(5,\)$"):
            LanguageModel(toy_config("llama")).forward(IDS[0])

    def test_parameters(self) -> None:
        config = toy_config("llama")
        params = toy_params(config)
        del params["norm.gamma"]
        with pytest.raises(ValueError, match=r"^params: missing 'norm.gamma'$"):
            reference.forward(params, IDS, config)
        with pytest.raises(TypeError, match=r"^params: expected a mapping"):
            reference.forward([], IDS, config)  # type: ignore[arg-type]

    def test_cotangents(self) -> None:
        model = toy_language_model("llama")
        logits, cache = model.forward(IDS)
        with pytest.raises(ValueError, match=r"^dlogits: "):
            model.backward(logits[:, 1:], cache)
        with pytest.raises(TypeError, match=r"^dlogits: expected an array of float64 like the output, got float32$"):
            model.backward(logits.astype(np.float32), cache)
        with pytest.raises(TypeError, match=r"^cache: "):
            model.backward(logits, None)  # type: ignore[arg-type]
