"""Version 14: one by one = in chunks of every length, in pieces = at once, and where it is linear attention.

Forwards and backwards: gradients follow by the chain rule written out here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn._internal.checks import Array
from npattn.attention import v14_gated_delta as v14
from support.calls import Call, Setting, arrays, assert_same, cotangent, examples, settings
from support.pairs import PAIRS

each_setting = given(setting=settings(dtype="float64"))
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def call(setting: Setting, **options: Any) -> Call:
    c = PAIRS["npattn.attention.v14_gated_delta.forward"].call(setting)
    return Call(c.forward, c.args, c.kwargs | options)


def outcome(c: Call, dS: Array | None = None) -> list[Array]:
    """Return Y, the last state, and every gradient, with a cotangent of both."""
    Y, cache = c.run()
    gradients = v14.backward(cotangent(Y), cache, cotangent(cache.S, 2) if dS is None else dS)
    return [Y, cache.S, *(gradient for gradient in gradients if gradient is not None)]


def draw(dtype: str, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def drawn(dtype: str, N: int, g: Array, H: int = 2, D: int = 4) -> tuple[Array, ...]:
    Q, K, V = (draw(dtype, H, N, D, seed=seed) for seed in range(3))
    beta = np.random.default_rng(3).uniform(0.1, 1, (H, N)).astype(dtype)
    return Q, K, V, np.broadcast_to(g, (H, N)).astype(dtype), beta


@given(setting=settings(dtype="float64"), N=st.integers(0, 9))
@examples(10)
def test_in_chunks_is_one_by_one_for_every_length(setting: Setting, N: int) -> None:
    setting = Setting(**vars(setting) | {"sizes": {"N": N}})
    expected = outcome(call(setting, chunk=None))
    for chunk in range(1, N + 3):
        assert_same(outcome(call(setting, chunk=chunk)), expected)


@pytest.mark.parametrize("chunk", [64, 100, 1000])
def test_in_long_chunks(chunk: int) -> None:
    """More than one block of the recurrence, and a last chunk that is shorter."""
    args = drawn("float64", 150, -0.1 * np.abs(draw("float64", 150)))
    expected = outcome(Call(v14.forward, args, {}))
    assert_same(outcome(Call(v14.forward, args, {"chunk": chunk})), expected)


@pytest.mark.parametrize(("chunk", "other"), [(None, "at_once"), (2, "one_by_one")])
def test_which_form_runs(chunk: int | None, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both give the same numbers, so the functions of the other form are taken away."""
    for name in (other, f"{other}_back"):
        monkeypatch.delattr(v14, name)
    outcome(call(Setting(), chunk=chunk))


@each_setting
@examples(8)
def test_in_pieces_is_at_once(setting: Setting) -> None:
    """Each piece begins with the last state of the one before, and the gradient of this state goes back to it."""
    c = call(setting)
    *rows, S_0 = c.args
    expected = outcome(c)
    for cut in range(rows[0].shape[-2] + 1):
        axes = (-2, -2, -2, -1, -1)
        first, second = zip(*(np.split(X, [cut], axis) for X, axis in zip(rows, axes, strict=True)), strict=True)
        Y_1, cache_1 = v14.forward(*first, S_0, **c.kwargs)
        Y_2, cache_2 = v14.forward(*second, cache_1.S, **c.kwargs)
        dY = cotangent(expected[0])
        *d_2, dS = v14.backward(dY[..., cut:, :], cache_2, cotangent(cache_2.S, 2))
        *d_1, dS_0 = v14.backward(dY[..., :cut, :], cache_1, dS)
        joined = [np.concatenate(pair, axis) for *pair, axis in zip(d_1, d_2, axes, strict=True)]
        Y = np.concatenate([Y_1, Y_2], -2)
        assert_same([Y, cache_2.S, *joined, *arrays([dS_0])], expected)


@each_setting
@examples(8)
def test_orthogonal_keys_make_it_linear_attention_with_decay(setting: Setting) -> None:
    """Y_i = s Σ_j≤i exp(g_j+1 + … + g_i) β_j (q_i·k_j) v_j, and gradients of all but K, which moves keys together."""
    N = 4
    setting = Setting(**vars(setting) | {"sizes": {"N": N, "D_Q": 6}, "optional": 3, "n_batch": 0})
    c = call(setting, normalise=False, scale=0.7)
    Q, _, V, g, beta, _ = c.args
    Q = Q.repeat(2, 0)                                        # one head for each of V
    K = np.linalg.qr(draw("float64", 4, 6, N))[0].mT * np.linspace(0.5, 2, N)[:, None]
    Y, cache = v14.forward(Q, K, V, g, beta, **c.kwargs)
    sums = [[[row[j + 1 : i + 1].sum() if i >= j else -np.inf for j in range(N)] for i in range(N)] for row in g]
    decay = np.exp(np.array(sums))                            # (4, N, N)
    A = 0.7 * decay * (Q @ K.mT) * beta[:, None, :]
    dY = cotangent(Y)
    dA = dY @ V.mT
    through = dA * A                                          # gradient of the logarithm of A
    dg = [[through[h, t:, :t].sum() for t in range(N)] for h in range(4)]
    expected = [A @ V, 0.7 * (dA * decay * beta[:, None, :]) @ K, A.mT @ dY, np.array(dg), through.sum(-2) / beta]
    dQ, _, dV, dg_found, dbeta, dS_0 = v14.backward(dY, cache)
    assert dS_0 is None and dg_found is not None and dbeta is not None
    assert_same([Y, dQ, dV, dg_found, dbeta], expected)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize(("H_Q", "H_K", "H"), [(2, 2, 4), (1, 3, 3), (4, 1, 2), (6, 2, 2), (2, 1, 4)])
def test_a_shared_head_is_repeated(H_Q: int, H_K: int, H: int, chunk: int | None) -> None:
    """Every head of Y by itself, with the state, key and query that it reads; gradients of shared heads add."""
    Q, K, V = draw("float64", H_Q, 5, 3), draw("float64", H_K, 5, 3, seed=1), draw("float64", H, 5, 2, seed=2)
    g, beta, S_0 = -np.abs(draw("float64", H, 5)), np.abs(draw("float64", H, 5, seed=4)), draw("float64", H, 2, 3)
    Y, cache = v14.forward(Q, K, V, g, beta, S_0, chunk=chunk)
    dY, dS = cotangent(Y), cotangent(cache.S, 2)
    sums = [np.zeros_like(X) for X in (Q, K, V, g, beta, S_0)]
    for i in range(len(Y)):
        h, q = i * H // len(Y), i * H_Q // len(Y)             # ⌊i H/H_Y⌋, never i mod H
        at = [slice(n, n + 1) for n in (q, h * H_K // H, h, h, h, h)]
        y, alone = v14.forward(*(X[n] for X, n in zip((Q, K, V, g, beta, S_0), at, strict=True)), chunk=chunk)
        assert_same([Y[i : i + 1], cache.S[h : h + 1]], [y, alone.S])
        counted = dS[h : h + 1] if i % (len(Y) // H) == 0 else np.zeros_like(alone.S)         # one state, one dS
        for total, n, gradient in zip(sums, at, v14.backward(dY[i : i + 1], alone, counted), strict=True):
            total[n] += gradient
    assert_same(v14.backward(dY, cache, dS), sums)


@each_dtype
@pytest.mark.parametrize("chunk", [None, 64])
def test_strong_decay_leaves_the_digits_of_weak_ones(dtype: str, chunk: int | None) -> None:
    """One step of −10⁶ or −∞ in each chunk, all others near −0.01; nothing overflows, and no digit is lost."""
    g = np.where(np.arange(1500) % 60 == 5, -1e6, -0.01)
    g[[7, 900]] = -np.inf
    args = drawn(dtype, 1500, g.astype(dtype))
    exact = drawn("float64", 1500, g.astype(dtype))
    exact = tuple(a.astype("float64") for a in args) if dtype == "float32" else exact
    with np.errstate(all="raise", under="ignore"):
        found, expected = (outcome(Call(v14.forward, a, {"chunk": c})) for a, c in ((args, chunk), (exact, None)))
    for got, want in zip(found, expected, strict=True):
        assert np.abs(got - want).max() <= 30 * np.finfo(dtype).eps * np.abs(want).max()


@pytest.mark.parametrize("chunk", [None, 3])
def test_a_decay_of_minus_infinity_forgets_all(chunk: int | None) -> None:
    g = np.array([-0.1, -0.2, -np.inf, -0.3, -0.1])
    *rows, g, beta = drawn("float64", 5, g)
    S_0 = draw("float64", 2, 4, 4)
    Y, cache = v14.forward(*rows, g, beta, S_0, chunk=chunk)
    later, _ = v14.forward(*(X[:, 2:] for X in (*rows, np.nan_to_num(g, neginf=0), beta)), chunk=chunk)
    assert_same([Y[:, 2:]], [later])
    dY = cotangent(Y)
    dY[:, :2] = 0
    gradients = v14.backward(dY, cache)
    assert all(gradient is not None and not gradient[:, :2].any() for gradient in gradients[1:5])
    assert gradients[5] is not None and not gradients[5].any()


@each_dtype
def test_equal_keys_that_overwrite_each_other(dtype: str) -> None:
    """64 equal keys, β = 1, no decay: powers of M − I would be as large as 10¹⁸. The state answers the last value."""
    _, K, V, g, beta = drawn(dtype, 64, np.zeros(64))
    K[:], beta[:] = K[:, :1], 1
    Y, _ = v14.forward(K, K, V, g, beta, chunk=64, scale=1.0)
    assert np.abs(Y - V).max() <= 1e-5 + 10 * np.finfo(dtype).eps                 # ε = 1e-6 beside a length of about 2


def test_the_state_does_not_grow_and_few_are_kept() -> None:
    for N in (64, 640):
        _, cache = v14.forward(*drawn("float64", N, np.zeros(N)))
        assert cache.S.shape == (2, 4, 4) and len(cache.states) == N // 64
        assert len(v14.forward(*drawn("float64", N, np.zeros(N)), chunk=10)[1].states) == -(-N // 10)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("chunk", [None, 2])
def test_empty_axes(shape: tuple[int, int], chunk: int | None) -> None:
    """No steps: the state stays. No columns: zeros."""
    N, D = shape
    Q, K, V = (draw("float32", 1, N, D), draw("float32", 1, N, D), draw("float32", 1, N, 2))
    g, S_0 = draw("float32", 1, N), draw("float32", 1, 2, D)
    Y, cache = v14.forward(Q, K, V, g, g, S_0, chunk=chunk)
    assert Y.shape == (1, N, 2) and not Y.any()
    gradients = v14.backward(cotangent(Y), cache, cotangent(cache.S))
    for gradient, X in zip(gradients, (Q, K, V, g, g, S_0), strict=True):
        assert gradient is not None and gradient.shape == X.shape and gradient.dtype == X.dtype
    if not N:
        np.testing.assert_array_equal(gradients[5], cotangent(cache.S))


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ((1, 1, 0), "K: expected a number of heads that divides H_V=0, got 1"),
        ((0, 0, 0), "K: expected a number of heads that divides H_V=0, got 0"),
        ((1, 0, 2), "K: expected a number of heads that divides H_V=2, got 0"),
        ((1, 2, 3), "K: expected a number of heads that divides H_V=3, got 2"),
        ((0, 1, 2), "Q: expected a number of heads that divides H_V=2 or is a multiple of it, got 0"),
        ((3, 1, 2), "Q: expected a number of heads that divides H_V=2 or is a multiple of it, got 3"),
        ((2, 1, 3), "Q: expected a number of heads that divides H_V=3 or is a multiple of it, got 2"),
    ],
)
def test_numbers_of_heads_that_do_not_fit(heads: tuple[int, int, int], message: str) -> None:
    Q, K, V = (np.zeros((H, 5, 3)) for H in heads)
    with pytest.raises(ValueError) as caught:
        v14.forward(Q, K, V, np.zeros(V.shape[:-1]), np.zeros(V.shape[:-1]))
    assert str(caught.value) == message


def test_other_messages() -> None:
    args = drawn("float64", 3, np.zeros(3))
    for option, kind, message in (
        ({"chunk": 0}, ValueError, r"^chunk: expected 1 or more, got 0$"),
        ({"chunk": 2.0}, TypeError, r"^chunk: expected an integer, got 2.0$"),
        ({"scale": "1"}, TypeError, r"^scale: expected a number, got '1'$"),
        ({"normalise": 1}, TypeError, r"^normalise: expected True or False, got 1$"),
    ):
        with pytest.raises(kind, match=message):
            v14.forward(*args, **option)
    _, cache = v14.forward(*args)
    with pytest.raises(ValueError, match=r"^dS: expected \(2, 4, 4\) like the output, got \(4, 4\)$"):
        v14.backward(cotangent(args[2]), cache, cache.S[0])
