"""No subnormal number is computed with where it can't change an answer.

Numbers below the smallest normal one take up to 100 times as long on many processors. The tests look for them, not at
the clock: there are processors that take no longer for them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from npattn import Adam, Transformer, clip_gradients
from npattn._internal.checks import Array
from npattn.attention import v4_multiple_queries, v7_multi_head
from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.attention.tiled import tiled_attention, tiled_attention_backward, tiles
from npattn.decoding.inference_layers import attend
from npattn.layers import cross_entropy, cross_entropy_backward, softmax, softmax_backward
from npattn.transformer.fast.packing import Packing
from npattn.transformer.fast.softmax import masked_softmax
from support.transformer_toys import SRC, TGT, mask_of, toy_config

DTYPES = ("float32", "float64")
N = 96


def assert_no_subnormal(*arrays: Array | None) -> None:
    for array in arrays:
        if array is not None:
            assert not (np.abs(array) < np.finfo(array.dtype).tiny)[array != 0].any()


def depth(dtype: str) -> float:
    """How far below its row's maximum a score is whose weight is subnormal: 87 to 103 in float32."""
    return -math.log(np.finfo(dtype).tiny) * 1.06


def biases(dtype: str) -> dict[str, Array]:
    """What to add to the scores (N, N): confident rows, scores that fall with the distance, both with hidden scores."""
    n = np.arange(N)
    confident = np.where(n == n[:, None], 0, -depth(dtype))
    distant = -3 * depth(dtype) / N * np.abs(n - n[:, None]).astype(float)
    found = {"confident": confident, "distant": distant, "far from 0": confident + 1e3, "below": confident - 50}
    found["hidden"] = np.where(n <= n[:, None], distant, -np.inf)
    return {name: bias.astype(dtype) for name, bias in found.items()}


def draw(dtype: str, *shape: int, size: float = 1.0) -> Array:
    return (size * np.random.default_rng(len(shape)).standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("kind", biases("float32"))
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention(dtype: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, their gradients, and every operand of the tiles' products; the outputs are those of all weights."""
    bias = biases(dtype)[kind]
    Q, K, V = draw(dtype, 3, 2, N, 8, size=0.1)
    dY = draw(dtype, 2, N, 8, size=1e-6)
    Y, cache = scaled_dot_product_attention(Q, K, V, bias=bias)
    gradients = scaled_dot_product_attention_backward(dY, cache)
    assert_no_subnormal(cache.A, softmax_backward(dY @ V.mT, cache.A), Y, *gradients)
    assert cache.A[cache.A > 0].min() >= math.sqrt(np.finfo(dtype).tiny) / N
    product = tiles.Scratch.product

    def checked(self: tiles.Scratch, A: Array, B: Array, name: str = "rows") -> Array:
        result = product(self, A, B, name)
        assert_no_subnormal(A, B, result)
        return result

    monkeypatch.setattr(tiles.Scratch, "product", checked)
    Y_tiled, cache_tiled = tiled_attention(Q, K, V, bias=bias, tile=32, workers=1)
    gradients_tiled = tiled_attention_backward(dY, cache_tiled)
    assert_no_subnormal(Y_tiled, *gradients_tiled)

    E = Q.astype(np.longdouble) @ K.mT / np.sqrt(np.longdouble(8)) + bias
    A = np.exp(E - E.max(-1, keepdims=True))
    A /= A.sum(-1, keepdims=True)
    dA = dY.astype(np.longdouble) @ V.mT
    dE = A * (dA - (A * dA).sum(-1, keepdims=True))
    expected = (A @ V, dE @ K / np.sqrt(np.longdouble(8)), dE.mT @ Q / np.sqrt(np.longdouble(8)), A.mT @ dY, dE.sum(0))
    eps = np.finfo(dtype).eps
    for found in ((Y, *gradients), (Y_tiled, *gradients_tiled)):
        for got, exact in zip(found, expected, strict=True):
            spread = 1e3 if kind == "far from 0" else 1           # the scores are rounded themselves; dA is about 1e-7
            np.testing.assert_allclose(got, exact, rtol=0, atol=20 * eps * spread * max(np.abs(exact).max(), 1e-7))


def test_sums_that_a_later_tile_makes_negligible() -> None:
    """The maximum rises by 95 from the first tile to the second, whose values are 0: nothing is left of the first."""
    ones = np.ones((64, 1), np.float32)
    V = np.repeat(np.float32([1, 0]), 32)[:, None]
    Y, _ = tiled_attention(ones, 95 * (1 - V), V, tile=32, workers=1)
    assert not Y.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_versions(dtype: str) -> None:
    """All versions have their softmax from one place; two of them stand for it, with scores of ± twice the depth."""
    X = draw(dtype, N, 8, size=math.sqrt(depth(dtype)))
    for version, args, options in (
        (v4_multiple_queries, (X, X), {}),
        (v7_multi_head, (X, X, *np.stack([np.eye(8, dtype=dtype)] * 4)), {"n_heads": 2}),
    ):
        Y, cache = version.forward(*args, **options)
        assert (cache.A == 0).any()
        assert_no_subnormal(Y, cache.A, *version.backward(draw(dtype, N, 8, size=1e-6), cache)[:2])


@pytest.mark.parametrize("kind", biases("float32"))
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_training(dtype: str, kind: str) -> None:
    ids = np.ones((1, N), int)
    ids[0, -5:] = 0
    packing = Packing.of(ids, 0, dtype, causal=True)
    E = biases(dtype)[kind][None, None] + draw(dtype, 1, 1, N, N)
    A = masked_softmax(E.copy(), packing.bias)
    assert_no_subnormal(A, softmax_backward(draw(dtype, *A.shape, size=1e-6), A))
    np.testing.assert_allclose(A, softmax(E, mask_of(packing)), rtol=2e-4 if dtype == "float32" else 1e-12, atol=2e-19)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy(dtype: str) -> None:
    logits = np.linspace(-2 * depth(dtype), 0, 200, dtype=dtype)[None] * np.ones((3, 1), dtype)
    loss, cache = cross_entropy(logits, np.array([199, 0, 100]))
    assert_no_subnormal(cache.P, cross_entropy_backward(1e-6, cache), loss)
    np.testing.assert_allclose(float(loss), np.mean(-logits[0, [199, 0, 100]]) + np.log(np.exp(logits[0]).sum()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pooled", [False, True], ids=["alone", "nditer"])
def test_adam_without_gradients(dtype: str, pooled: bool) -> None:
    """After 900 steps of zero gradient m is subnormal in float32. The parameters are those of exact moments."""
    start = np.array([[1e-3, 0.5], [1e-12, 300]])
    order: Any = "F" if pooled else "C"
    params, zeros = {"w": np.ones((2, 2), dtype)}, {"w": np.zeros((2, 2), dtype)}
    adam = Adam(params, betas=(0.9, 0.9) if dtype == "float32" else (0.4, 0.4))
    adam.step({"w": np.asarray(start.astype(dtype), order=order)})
    b, m, v, p = np.longdouble(adam.betas[0]), (1 - np.longdouble(adam.betas[0])) * start, 0.0, 1.0
    m, v = (1 - b) * start.astype(np.longdouble), (1 - b) * start.astype(np.longdouble) ** 2
    for t in range(1, 1000):
        p = p - 1e-3 * (m / (1 - b**t)) / (np.sqrt(v / (1 - b**t)) + 1e-9)
        m, v = m * b, v * b
        adam.step(zeros)
        if t % 50 == 0:
            assert_no_subnormal(*(array for name, array in adam.state_dict().items() if name != "t"))
    assert not any(array.any() for name, array in adam.state_dict().items() if name != "t")
    np.testing.assert_allclose(params["w"], p.astype(float), rtol=1e-4 if dtype == "float32" else 1e-12)


def test_adam_with_a_tiny_epsilon_keeps_its_moments() -> None:
    """Beside an ε of 1e−37 a subnormal m is no small number."""
    params = {"w": np.ones(1, np.float32)}
    adam = Adam(params, lr=1.0, eps=2e-38, betas=(0.9, 0.9))
    adam.step({"w": np.array([1.17e-37], np.float32)})
    adam.step({"w": np.zeros(1, np.float32)})
    assert 0 < adam.state_dict()["m.w"][0] < np.finfo(np.float32).tiny


@pytest.mark.parametrize("in_place", [False, True])
def test_clipping(in_place: bool) -> None:
    grads = {"w": np.array([1e3, 2e-38, -3e-36, 0], np.float32)}
    clipped, _ = clip_gradients(grads, 1.0, in_place=in_place)
    np.testing.assert_allclose(clipped["w"], np.array([1, 0, 0, 0]), atol=1e-36)
    assert_no_subnormal(clipped["w"])


def test_the_encoder_of_a_search() -> None:
    """A weight of exp(−60) would make 0.09 of a value of 1e25; at 1e-19 of the largest it counts as 0 here too."""
    Q, V = np.full((1, 2, N, 1), 1, np.float32), np.zeros((1, 2, N, 1), np.float32)
    K = np.full((1, 2, N, 1), -60, np.float32)
    K[:, :, 7], V[:, :, 7], V[:, :, 8] = 0, 3, 1e25
    assert (attend(Q, K, V, None) == 3).all()


def test_a_confident_model() -> None:
    """Every gradient of a model whose scores lie hundreds apart."""
    model = Transformer(toy_config(), rng=0)
    for name, view in model.params.items():
        if name.endswith(("W_Q", "W_K")):
            view *= np.float32(20)
    logits, cache = model.forward(SRC, TGT)
    _, grads = model.loss_and_gradients(SRC, TGT)
    assert_no_subnormal(logits, grads.flat, *cache.attention_weights().values())
