"""The fast path in special cases: columns of pads, short targets, shares of a loss, wrong cotangents, positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn._internal.checks import Array
from npattn.layers.positions import sinusoidal_positions
from npattn.transformer.fast import encoder_decoder
from npattn.transformer.fast import transformer as fast
from npattn.transformer.fast.gradient import computed
from npattn.transformer.fast.packing import Packing
from support.transformer_toys import SRC, TGT, toy_config, toy_model, toy_params


class TestLongest:
    @given(st.integers(0, 2**32), st.sampled_from([0, 3]))
    def test_is_that_of_the_longest_row(self, seed: int, pad_id: int) -> None:
        """A pad between tokens counts; a pad after all tokens does not."""
        rng = np.random.default_rng(seed)
        lengths = rng.integers(0, 7, 4)
        ids = rng.integers(4, 6, (4, 6))
        ids[np.arange(6) >= lengths[:, None]] = pad_id
        ids[:, 0] = np.where(lengths > 1, pad_id, ids[:, 0])
        assert fast.longest(ids, pad_id) == lengths.max()

    @pytest.mark.parametrize("shape", [(4, 3), (0, 3), (4, 0), (0, 0)])
    def test_is_0_without_tokens(self, shape: tuple[int, int]) -> None:
        assert fast.longest(np.zeros(shape, int), 0) == 0


class TestLossAndGradients:
    @pytest.mark.parametrize("pad_id", [0, 8])
    def test_no_work_on_columns_of_pads(self, pad_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Columns after the end of the longest row are cut off before anything is computed."""
        seen: list[tuple[int, ...]] = []

        def spy(params: Any, src: Array, tgt: Array, *rest: Any) -> Any:
            seen.extend((src.shape, tgt.shape))
            return forward_rows(params, src, tgt, *rest)

        forward_rows = fast.forward_rows
        monkeypatch.setattr(fast, "forward_rows", spy)
        model = toy_model(pad_id=pad_id, bos_id=1, eos_id=2)
        src, tgt = np.full((4, 9), pad_id), np.full((4, 8), pad_id)
        src[1, :3], tgt[2, :2], tgt[3, :5] = 4, (1, 2), (1, 3, pad_id, 5, 2)
        model.loss_and_gradients(src, tgt)
        assert seen == [(4, 3), (4, 4)]

    def test_sources_of_pads_alone(self) -> None:
        """Any number of columns of pads equals no column: the decoder reads nothing."""
        model = toy_model()
        tgt = np.array([[1, 7, 7, 2], [1, 4, 2, 0], [1, 10, 9, 2], [1, 2, 0, 0]])
        loss, grads = model.loss_and_gradients(np.zeros((4, 5), int), tgt)
        no_loss, no_grads = model.loss_and_gradients(np.zeros((4, 0), int), tgt)
        assert loss == no_loss
        np.testing.assert_array_equal(grads.flat, no_grads.flat)
        _, cache = model.forward(np.zeros((4, 5), int), tgt[:, :-1])
        assert not cache.attention_weights()["decoder.1.cross_attention"].any()
        assert not grads["source_embedding.W_E"].any()

    def test_targets_of_pads_alone(self) -> None:
        loss, grads = toy_model().loss_and_gradients(SRC, np.zeros((4, 3), int))
        assert loss == 0.0
        assert not grads.flat.any()

    def test_two_columns_are_enough(self) -> None:
        """An empty target is <bos> <eos>, and the loss is that of <eos> alone."""
        model = toy_model()
        tgt = np.array([[1, 2]] * 4)
        logits, _ = model.forward(SRC, tgt[:, :1])
        z = logits[:, 0]
        expected = np.log(np.exp(z).sum(-1)) - z[:, 2]
        assert model.loss_and_gradients(SRC, tgt, smoothing=0.0)[0] == pytest.approx(expected.mean(), rel=1e-13)


class TestShare:
    @given(st.sampled_from([0.25, 0.5, 3.0]), st.booleans())
    def test_scales_the_gradients_and_not_the_loss(self, share: float, gap: bool) -> None:
        """This holds too with a pad between tokens, for which the loss is computed in another way."""
        config = toy_config()
        params = toy_params(config)
        tgt = np.array([[1, 7, 7, 2], [1, 4, 2, 0], [1, 0 if gap else 10, 9, 2], [1, 2, 0, 0]])
        (loss, whole), (same, part) = (
            fast.loss_and_gradients(params, SRC, tgt, config, 0.1, share=s) for s in (1.0, share)
        )
        assert loss == same
        expected = [(name, computed(gradient) * share) for name, gradient in whole]
        got = [(name, computed(gradient)) for name, gradient in part]
        assert [name for name, _ in got] == [name for name, _ in expected]
        largest = max(abs(gradient).max() for _, gradient in expected)
        for (_, one), (_, other) in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-13 * largest)


class TestBackward:
    @pytest.mark.parametrize(
        ("dlogits", "error", "message"),
        [
            (np.ones((4, 3, 10)), ValueError, "dlogits: expected (4, 3, 11) like the output, got (4, 3, 10)"),
            (np.ones((4, 2, 11)), ValueError, "dlogits: expected (4, 3, 11) like the output, got (4, 2, 11)"),
            (
                np.ones((4, 3, 11), np.float32), TypeError,
                "dlogits: expected an array of float64 like the output, got float32",
            ),
        ],
    )  # fmt: skip
    def test_refuses_what_is_unlike_the_logits(self, dlogits: Any, error: type[Exception], message: str) -> None:
        model = toy_model()
        _, cache = model.forward(SRC, TGT)
        for backward in (model.backward, fast.backward):
            with pytest.raises(error) as caught:
                backward(dlogits, cache)
            assert str(caught.value) == message

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_logits_at_pads_have_gradients_too(self, dtype: Any) -> None:
        """`forward` gives every position of the target a row, so dlogits at a pad reach the parameters."""
        model = toy_model(dtype=dtype)
        logits, cache = model.forward(SRC, TGT)
        assert logits[TGT == 0].all()
        dlogits = np.where((TGT == 0)[..., None], logits, 0)
        grads = model.backward(dlogits, cache)
        assert grads["target_embedding.W_E"][0].all()


class TestEmbed:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_adds_positions_of_the_dtype_of_the_table(self, dtype: Any) -> None:
        """√D_X W_E[ids] + P bit by bit, for the tokens that have a row."""
        W_E = np.random.default_rng(0).normal(size=(9, 6)).astype(dtype)
        E, _ = encoder_decoder.embed(W_E, SRC, Packing.of(SRC, 0), toy_config(), None)
        P = sinusoidal_positions(5, 6).astype(dtype)
        expected = (W_E[SRC] * np.sqrt(6).astype(dtype) + P)[SRC != 0]
        assert E.dtype == dtype
        np.testing.assert_array_equal(E, expected)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_shared_positions_are_read_only(self, dtype: Any) -> None:
        P = encoder_decoder.positions(5, 6, np.dtype(dtype))
        assert P.dtype == dtype
        with pytest.raises(ValueError, match="read-only"):
            P[0, 0] = 1


def test_gradients_come_from_the_last_layer_to_the_first() -> None:
    """Each gradient comes as soon as it is known, that of a tied embedding once for each of its uses."""
    config = toy_config(tie="all", src_vocab=11, n_encoder_layers=2, n_decoder_layers=1, final_norm=True)
    params = toy_params(config)
    _, gradients = fast.loss_and_gradients(params, SRC, np.pad(TGT, ((0, 0), (0, 1))), config, 0.1)
    names = [name for name, _ in gradients]
    order = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
    assert order == ["embedding.W_E", "decoder.norm", "decoder.0", "encoder.norm", "encoder.1", "encoder.0"]
    assert [i for i, name in enumerate(names) if name == "embedding.W_E"] == [0, names.index("encoder.norm.gamma") - 1,
                                                                              len(names) - 1]


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_matrices_are_written_where_they_are_wanted(bias: bool) -> None:
    """All weights of the layers are computed later, and nothing else is."""
    config = toy_config(bias=bias, n_encoder_layers=1, n_decoder_layers=1)
    params, tgt = toy_params(config), np.pad(TGT, ((0, 0), (0, 1)))
    found, again = (list(fast.loss_and_gradients(params, SRC, tgt, config, 0.1)[1]) for _ in range(2))
    later = {name for name, gradient in found if callable(gradient)}
    attentions = ["encoder.0.self_attention", "decoder.0.self_attention", "decoder.0.cross_attention"]
    parts = [f"{attention}.{W}" for attention in attentions for W in ("W_QKV", "W_O")]
    assert later == {*parts, *(f"{half}coder.0.feed_forward.{W}" for half in ("en", "de") for W in ("W_1", "W_2"))}
    for (name, gradient), (_, other) in zip(found, again, strict=True):
        if name in later:
            out = np.full_like(expected := computed(other), 9)
            assert gradient(out=out) is out                   # type: ignore[operator]
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("final_norm", [True, False])
def test_underflow_does_not_raise(final_norm: bool) -> None:
    """Gradients below the smallest number, in every part of the backward."""
    config = toy_config(norm="pre", final_norm=final_norm)
    params = toy_params(config, 0, np.dtype("float32"))
    with np.errstate(all="raise"):
        _, gradients = fast.loss_and_gradients(params, SRC, np.pad(TGT, ((0, 0), (0, 1))), config, 0.1, share=1e-42)
        assert all(np.isfinite(computed(gradient)).all() for _, gradient in gradients)
