"""The swiglu that training runs on: its two halves, its pieces, and a single row."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.language_model import reference
from npattn.language_model.fast import feed_forward
from npattn.language_model.fast import language_model as fast
from npattn.layers import swiglu, swiglu_backward
from npattn.transformer.fast.gradient import computed
from support.language_model_toys import toy_config, toy_params


class TestSwiglu:
    @pytest.mark.parametrize("piece", [1, 7, 8, 1 << 16])
    def test_is_that_of_the_layers(self, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed_forward, "PIECE", piece)
        U = np.random.default_rng(0).normal(0, 5, (2, 3, 8))
        wanted, cache = swiglu(U)
        H, fast_cache = feed_forward.swiglu(*(half.copy() for half in feed_forward.halves(U)))
        np.testing.assert_allclose(H, wanted, rtol=1e-15, atol=0)
        dH = np.cos(H)
        dU = np.concatenate(feed_forward.swiglu_backward(dH, fast_cache), -1)
        np.testing.assert_allclose(dU, swiglu_backward(dH, cache), rtol=1e-14, atol=1e-14)

    def test_far_out(self) -> None:
        """σ is 0 or 1 there, without a warning."""
        g, u = np.array([[-1e3, 1e3]], np.float32), np.array([[2.0, 3.0]], np.float32)
        with np.errstate(all="raise"):
            H, cache = feed_forward.swiglu(g, u)
            dg, du = feed_forward.swiglu_backward(np.ones_like(H), cache)
        assert H.tolist() == [[0, 3e3]] and dg.tolist() == [[0, 3]] and du.tolist() == [[0, 1e3]]
        assert {H.dtype, dg.dtype, du.dtype, *(array.dtype for array in cache)} == {np.dtype(np.float32)}

    def test_rows_of_a_piece(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are views, also of rows with gaps: what is written to them must not be lost."""
        monkeypatch.setattr(feed_forward, "PIECE", 9)
        X = np.arange(20.0).reshape(5, 4)
        found = list(feed_forward.pieces(X, X[:, :2]))
        assert [one.tolist() for one, _ in found] == [X[:2].tolist(), X[2:4].tolist(), X[4:].tolist()]
        assert [other.shape for _, other in found] == [(2, 2), (2, 2), (1, 2)]
        assert all(np.shares_memory(one, X) and np.shares_memory(other, X) for one, other in found)
        assert len(list(feed_forward.pieces(np.zeros((3, 10))))) == 3

    @pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 3)])
    @pytest.mark.parametrize("d_model", [1, 6])
    def test_a_single_row_takes_one_product(
        self, shape: tuple[int, int], d_model: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its backward is that of the reference too."""
        config = toy_config("llama", d_model=d_model, tie=False)
        params, ids = toy_params(config), np.full(shape, 4)
        products, project = [], feed_forward.project
        monkeypatch.setattr(feed_forward, "project", lambda X, *rest: products.append(X) or project(X, *rest))
        logits, cache = fast.forward(params, ids, config)
        assert len(products) == config.n_layers * (2 if shape == (1, 1) else 3)
        wanted, c_wanted = reference.forward(params, ids, config)
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-13)
        found = {name: computed(gradient) for name, gradient in fast.gradients(np.cos(wanted), cache)}
        gradients = reference.backward(np.cos(wanted), c_wanted)
        for i in range(config.n_layers):
            name = f"layers.{i}.feed_forward.W_1"
            np.testing.assert_allclose(found[name], gradients[name], rtol=0, atol=1e-12, err_msg=name)

    def test_gradients_of_both_halves_are_one_array(self) -> None:
        rng = np.random.default_rng(0)
        X, dg, du = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
        wanted = X.reshape(6, 5).T @ np.concatenate([dg, du], -1).reshape(6, 8)
        out = np.full((5, 8), 9.0)
        assert feed_forward.weight_gradients(X, dg, du, out) is out
        for dW in (out, feed_forward.weight_gradients(X, dg, du)):
            np.testing.assert_allclose(dW, wanted, rtol=0, atol=1e-14)
        assert feed_forward.weight_gradients(*(T.astype(np.float32) for T in (X, dg, du))).dtype == np.float32
