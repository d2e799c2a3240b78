"""The choices of models of Hugging Face, one by one: positions, distances, starts, pads, scales, dropout."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from npattn import Transformer, TransformerConfig
from npattn.layers import cross_entropy, cross_entropy_backward
from npattn.transformer import reference
from npattn.transformer.batch import target_mask
from npattn.transformer.fast import by_reference
from npattn.transformer.fast import transformer as fast
from npattn.transformer.relative_bias import distance_buckets, distances, relative_bias
from npattn.transformer.variants import positions
from support.transformer_toys import SRC, TGT, VARIANTS, deviation, toy_config, toy_model, toy_params

NO_PADS = np.array([[4, 5, 4, 8, 3], [6, 6, 7, 3, 4]]), np.array([[0, 7, 7], [0, 4, 9]])


def slow_bucket(d: int, n: int, most: int, both: bool) -> int:
    first = 0
    if both:
        n //= 2
        first = n if d > 0 else 0
        d = -abs(d)
    d = max(-d, 0)
    exact = n // 2
    if d < exact:
        return first + d
    return first + min(exact + int(math.log(d / exact) / math.log(most / exact) * (n - exact)), n - 1)


class TestPositions:
    @pytest.mark.parametrize("both", [True, False])
    @pytest.mark.parametrize(("n", "most"), [(32, 128), (6, 7), (9, 40), (4, 3)])
    def test_buckets(self, n: int, most: int, both: bool) -> None:
        d = np.arange(-200, 202).reshape(2, -1)
        found = distance_buckets(d, n, most, both=both)
        assert found.tolist() == [[slow_bucket(each, n, most, both) for each in row] for row in d.tolist()]
        assert found.max() == (n // 2 * 2 if both else n) - 1 and found.min() == 0

    def test_the_bias_of_a_head(self) -> None:
        config = toy_config(**VARIANTS["t5"])
        W_B = np.random.default_rng(0).normal(size=(6, 2))
        B, _ = relative_bias(distances(4), {"positions": {"W_B": W_B}}, config, both=True)
        assert B is not None and B.shape == (2, 4, 4)
        for h, i, n in np.ndindex(2, 4, 4):
            assert B[h, i, n] == W_B[slow_bucket(n - i, 6, 4, True), h]
        assert relative_bias(distances(4), {}, toy_config(), both=True) == (None, None)

    def test_encoder_and_decoder_have_unlike_buckets(self) -> None:
        """In the encoder keys on both sides have buckets, in the decoder those of the past alone."""
        config = toy_config(**VARIANTS["t5"])
        _, cache = reference.forward(toy_params(config), SRC, TGT, config)
        ids = [cache.parts[i][1].ids for i in (1, 3)]
        for found, N, both in ((ids[0], 5, True), (ids[1], 3, False)):
            assert found.tolist() == [[slow_bucket(n - i, 6, 4, both) for n in range(N)] for i in range(N)]

    def test_an_encoder_without_layers_has_a_table_without_a_gradient(self) -> None:
        model = toy_model(**VARIANTS["t5"] | {"n_encoder_layers": 0}, dtype=np.float32)
        _, grads = model.loss_and_gradients(SRC, TGT)
        assert not grads["encoder.positions.W_B"].any() and grads["decoder.positions.W_B"].any()

    def test_halves_are_all_sines_then_all_cosines_in_float32(self) -> None:
        for D in (6, 7):
            P, cache = positions(5, {}, toy_config(positions="sinusoidal_halves", d_model=D, n_heads=1), np.float64)
            angles = np.arange(5)[:, None] / 10000 ** (2 * np.arange((D + 1) // 2) / D)
            wanted = np.concatenate([np.sin(angles), np.cos(angles)], 1)[:, :D]
            np.testing.assert_allclose(P, wanted, atol=1e-7)
            assert np.array_equal(P, P.astype(np.float32)) and P.dtype == np.float64 and cache is None

    def test_learned_positions_begin_at_the_offset(self) -> None:
        config, W_P = toy_config(**VARIANTS["bart"]), np.random.default_rng(0).normal(size=(42, 6))
        P, _ = positions(3, {"positions": {"W_P": W_P}}, config, np.float64)
        assert np.array_equal(P, W_P[2:5])

    def test_no_positions_beside_distances(self) -> None:
        P, cache = positions(3, {}, toy_config(**VARIANTS["t5"]), np.float32)
        assert P.dtype == np.float32 and P.shape == (3, 6) and not P.any() and cache is None

    def test_more_ids_than_positions(self) -> None:
        model = toy_model(**VARIANTS["bart"] | {"max_length": 4})
        for src, tgt in ((SRC, TGT), (SRC[:, :3], SRC)):
            with pytest.raises(ValueError) as caught:
                model.forward(src, tgt)
            assert str(caught.value) == f"src, tgt: expected at most max_length=4, got {src.shape}, {tgt.shape}"
        model.forward(SRC[:, :4], np.tile(TGT, (1, 2))[:, :4])


class TestStart:
    def test_a_start_token_is_no_pad(self) -> None:
        mask = target_mask(np.array([[0, 4, 0], [0, 0, 0]]), toy_config(bos_id=0))
        assert mask.tolist() == [[[[True, True, False]]], [[[True, False, False]]]]
        mask = target_mask(np.array([[0, 4, 0]]), toy_config())
        assert mask.tolist() == [[[[False, True, False]]]]

    def test_pad_as_start_token_equals_another_pad(self) -> None:
        starts, apart = toy_config(bos_id=0), toy_config(bos_id=0, pad_id=1)
        params = toy_params(starts)
        logits, _ = fast.forward(params, *NO_PADS, starts)
        np.testing.assert_allclose(logits, fast.forward(params, *NO_PADS, apart)[0], rtol=1e-13)
        hidden, _ = fast.forward(params, *NO_PADS, toy_config())
        assert np.abs(logits - hidden).max() > 1e-3

    @pytest.mark.parametrize(("tie", "pads"), [("none", ("source_embedding.W_E", "target_embedding.W_E")),
                                               ("all", ("embedding.W_E",))])
    def test_pads_without_a_gradient(self, tie: Any, pads: tuple[str, ...]) -> None:
        config = toy_config(bos_id=0, tie=tie, src_vocab=11)
        params, (src, tgt) = toy_params(config), NO_PADS
        logits, cache = fast.forward(params, src, tgt, config)
        grads = fast.backward(np.cos(logits), cache)
        config = dataclasses.replace(config, pad_gradient=False)
        others = fast.backward(np.cos(logits), fast.forward(params, src, tgt, config)[1])
        for name in grads:
            same = grads[name] == others[name]
            assert same[1:].all() if name in pads else same.all(), name
        if tie == "none":
            assert not any(others[name][0].any() for name in pads) and grads["target_embedding.W_E"][0].all()
        else:                                                 # what is left is that of the output projection
            Y = cache.reference.parts[-1].X
            np.testing.assert_allclose(others[pads[0]][0], (np.cos(logits)[..., :1] * Y).sum((0, 1)), rtol=1e-12)


class TestScales:
    def test_a_scale_of_the_scores(self) -> None:
        for name in ("t5", "marian"):
            options = VARIANTS[name] | {"attention_scale": None}
            config = toy_config(**options)
            params = toy_params(config)
            other = dataclasses.replace(config, attention_scale=config.head_width**-0.5)
            one, two = (reference.forward(params, SRC, TGT, each)[0] for each in (config, other))
            np.testing.assert_allclose(one, two, rtol=1e-12)
            unscaled = reference.forward(params, SRC, TGT, dataclasses.replace(other, attention_scale=1.0))[0]
            assert np.abs(one - unscaled).max() > 1e-3

    def test_a_scale_of_the_output_is_one_of_its_weights(self) -> None:
        config = toy_config(scale_output=True, tie="none")
        params = toy_params(config)
        plain = params | {"output.W": params["output.W"] * 6**-0.5}
        logits = reference.forward(params, SRC, TGT, config)[0]
        np.testing.assert_allclose(logits, reference.forward(plain, SRC, TGT, toy_config(tie="none"))[0], rtol=1e-12)

    def test_embeddings_without_scale(self) -> None:
        config = toy_config(scale_embedding=False)
        params = toy_params(config)
        names = ("source_embedding.W_E", "target_embedding.W_E")
        plain = params | {name: params[name] / 6**0.5 for name in names}
        config = dataclasses.replace(config, tie="none")
        params["output.W"] = plain["output.W"] = params["target_embedding.W_E"].T
        logits = reference.forward(params, SRC, TGT, config)[0]
        np.testing.assert_allclose(logits, reference.forward(plain, SRC, TGT, toy_config(tie="none"))[0], rtol=1e-12)


class TestDropout:
    def test_of_the_hidden_layer(self) -> None:
        config = toy_config(activation_dropout=0.25, d_ff=400)
        _, cache = reference.forward(toy_params(config), SRC, TGT, config, np.random.default_rng(0))
        c_G = cache.parts[1][0][0][1][1][3]                   # encoder, layers, the first, feed-forward, f, G
        assert c_G.M.shape == (4, 5, 400) and abs((c_G.M == 0).mean() - 0.25) < 0.02
        _, cache = reference.forward(toy_params(config), SRC, TGT, config)
        assert cache.parts[1][0][0][1][1][3].M is None

    def test_after_the_last_norm(self) -> None:
        for is_final in (True, False):
            config = toy_config(dropout=0.25, final_dropout=is_final, final_norm=True, d_model=200)
            _, cache = reference.forward(toy_params(config), SRC, TGT, config, np.random.default_rng(0))
            for i, N in ((1, 5), (3, 3)):
                c_X = cache.parts[i][3]
                assert (c_X is None) is not is_final
                if is_final:
                    assert c_X.M.shape == (4, N, 200) and abs((c_X.M == 0).mean() - 0.25) < 0.03


class TestByReference:
    def test_which_models_are_plain(self) -> None:
        assert toy_config().is_plain and toy_config(activation="gelu", tie="none", norm="pre", bias=False).is_plain
        others: list[dict[str, Any]] = [
            {"activation": "silu"}, {"activation": "gelu_tanh"}, {"tie": "embeddings", "src_vocab": 11}, {"bos_id": 0},
            {"bos_id": 2}, {"norm_type": "rms"}, {"pad_gradient": False}, {"d_head": 3}, {"max_length": 9},
        ]  # fmt: skip
        assert not any(toy_config(**options).is_plain for options in others)
        config = TransformerConfig(3, 4)
        assert [field.name for field in dataclasses.fields(config)][17:19] == ["attention_dropout", "norm_type"]

    @pytest.mark.parametrize("name", VARIANTS)
    def test_weights_by_name(self, name: str) -> None:
        config = toy_config(**VARIANTS[name] | {"dropout": 0.0, "attention_dropout": 0.0, "n_decoder_layers": 2})
        _, cache = toy_model(**VARIANTS[name] | {"dropout": 0.0, "n_decoder_layers": 2}).forward(SRC, TGT)
        assert isinstance(cache, by_reference.Cache)
        weights = cache.attention_weights()
        sizes = {"encoder.{}.self_attention": (5, 5), "decoder.{}.self_attention": (3, 3)}
        depths = {n: getattr(config, f"n_{n[:7]}_layers") for n in sizes}
        shapes = {n.format(i): (4, 2, *size) for n, size in sizes.items() for i in range(depths[n])}
        shapes |= {f"decoder.{i}.cross_attention": (4, 2, 3, 5) for i in range(2)}
        assert {n: A.shape for n, A in weights.items()} == shapes
        for n, A in weights.items():
            dead = 0 if n.startswith("decoder") and "self" in n else 1            # a source of pads alone
            assert np.isclose(A.sum(-1), 1).all((1, 2)).sum() == 4 - dead, n
        assert not np.array_equal(weights["decoder.0.cross_attention"], weights["decoder.1.cross_attention"])

    def test_a_share_of_the_loss(self) -> None:
        """With dropout from the same draws."""
        config = toy_config(**VARIANTS["t5"] | {"dropout": 0.3})
        params, tgt = toy_params(config), np.array([[1, 7, 7, 2], [1, 4, 2, 0], [1, 10, 9, 2], [1, 2, 0, 0]])
        loss, found = fast.loss_and_gradients(params, SRC, tgt, config, 0.1, np.random.default_rng(3), 0.25)
        logits, cache = reference.forward(params, SRC, tgt[:, :-1], config, np.random.default_rng(3))
        whole, c_loss = cross_entropy(logits, tgt[:, 1:], 0.1, ignore_id=0)
        grads = reference.backward(cross_entropy_backward(0.25, c_loss), cache)
        assert loss == whole and isinstance(loss, float)
        blocks = dict(found)
        for union, names in config.side_by_side().items():
            parts = np.split(blocks.pop(union), 3, -1)
            blocks |= dict(zip(names, parts, strict=True))
        assert deviation(blocks, grads) == 0

    def test_a_new_model_draws_its_tables(self) -> None:
        learned = Transformer(toy_config(positions="learned", max_length=2000), rng=0)
        sizes = {"relative_buckets": 2000, "relative_max_distance": 9999}
        relative = Transformer(toy_config(positions="relative", **sizes), rng=0)
        for model, leaf in ((learned, "W_P"), (relative, "W_B")):
            for side in ("encoder", "decoder"):
                table = model.params[f"{side}.positions.{leaf}"]
                assert abs(table.std() - 6**-0.5) < 0.02 and abs(table.mean()) < 0.02
