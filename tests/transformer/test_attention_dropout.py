"""Dropout of the weights of attention, in the reference and in the fast path: masks, gradients, and nothing at 0."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import Transformer, TransformerConfig, check_gradients
from npattn._internal.checks import Array
from npattn._internal.files import load_arrays
from npattn.attention import v7_multi_head
from npattn.decoding import greedy_search
from npattn.layers import dropout
from npattn.transformer import dropped_attention, reference
from npattn.transformer.fast import transformer as fast
from support.transformer_toys import SRC, TGT, toy_config, toy_model, toy_params

#: All pairs of the whole model, with pads and a source of pads alone.
PATHS = pytest.mark.parametrize("path", [reference, fast], ids=["reference", "fast"])
RATES: dict[str, Any] = {"attention_dropout": 0.3, "dropout": 0.2}
SHAPE = (3, 2, 5, 7)                                           # (B, H, N_Q, N_X)


def generator(seed: int = 8) -> np.random.Generator:
    return np.random.default_rng(seed)


def fast_masks(seed: int, **options: Any) -> dict[str, Array]:
    """Return the factors M of every attention of the fast path, by the name of the attention."""
    config = toy_config(**{"attention_dropout": 0.25} | options)
    _, cache = fast.forward(toy_params(config), SRC, TGT, config, generator(seed))
    encoder = {f"encoder.{i}": layer.self_attention.f for i, layer in enumerate(cache.encoder.layers)}
    decoder = {f"decoder.{i}": layer.self_attention.f for i, layer in enumerate(cache.decoder.layers)}
    cross = {f"decoder.{i}.cross": layer.cross_attention.f for i, layer in enumerate(cache.decoder.layers)}
    for found in (encoder | decoder | cross).values():
        np.testing.assert_array_equal(found.D, found.A * found.dropout.M)
    return {name: found.dropout.M for name, found in (encoder | decoder | cross).items()}


class TestPair:
    """`dropped_attention` itself."""

    @pytest.mark.parametrize("biases", [(True, True, True, True), (False, True, False, True), (False,) * 4])
    def test_formula_and_gradients(self, biases: tuple[bool, ...]) -> None:
        """Y = (A ⊙ M) V with A of version 7 and M of the layer dropout; the biases are given one by one."""
        rng = generator()
        X_Q, X, dZ = (rng.normal(size=shape) for shape in ((3, 5, 4), (3, 7, 3), (3, 5, 2)))
        W = [rng.normal(size=shape) for shape in ((4, 6), (3, 6), (3, 8), (8, 2))]
        b = [rng.normal(size=n) if given else None for n, given in zip((6, 6, 8, 2), biases, strict=True)]
        mask = rng.random((3, 1, 1, 7)) < 0.7
        options: dict[str, Any] = {"n_heads": 2, "mask": mask, "p": 0.4, "rng": generator(1)}
        Z, cache = dropped_attention.forward(X_Q, X, *W, *b, **options)
        _, whole = v7_multi_head.forward(X_Q, X, *W, *b, n_heads=2, mask=mask)
        _, c_M = dropout(np.ones(SHAPE), 0.4, generator(1))
        Y = np.concatenate(list(((whole.A * c_M.M) @ whole.V).swapaxes(0, 1)), -1)
        np.testing.assert_allclose(Z, Y @ W[3] + (0 if b[3] is None else b[3]), rtol=1e-12, atol=1e-12)
        grads = dropped_attention.backward(dZ, cache)
        assert [gradient is None for gradient in grads] == [False] * 6 + [not given for given in biases]
        options["rng"] = generator(1)
        pair, args = (dropped_attention.forward, dropped_attention.backward), (X_Q, X, *W, *b)
        check_gradients(*pair, args, options, method="complex-step", rtol=1e-12)

    def test_without_a_mask(self) -> None:
        rng = generator()
        X, W = rng.normal(size=(2, 3, 4)), [rng.normal(size=(4, 4)) for _ in range(4)]
        options: dict[str, Any] = {"n_heads": 2, "p": 0.4}
        free, all_seen = (
            dropped_attention.forward(X, X, *W, *[None] * 4, mask=mask, rng=generator(), **options)[0]
            for mask in (None, np.full((1, 1, 1, 3), True))
        )
        np.testing.assert_array_equal(free, all_seen)


class TestModel:
    @PATHS
    @pytest.mark.parametrize(
        "options",
        [{"attention_dropout": 0.4}, {**RATES, "norm": "pre", "bias": False, "activation": "gelu", "tie": "none"}],
        ids=["alone", "with others"],
    )
    def test_gradients_by_the_complex_step(self, path: Any, options: dict[str, Any]) -> None:
        """Every number of every parameter, with pads. The gradient of b_K is zero with dropout too."""
        config = toy_config(**options)
        args, kwargs = (toy_params(config), SRC, TGT), {"config": config, "rng": generator()}
        report = check_gradients(path.forward, path.backward, args, kwargs, method="complex-step", rtol=1e-12)
        verdicts = {argument.name[len("params['") : -len("']")]: argument.verdict for argument in report.arguments}
        assert verdicts == {name: "zero" if name.endswith("b_K") else "ok" for name in config.shapes()}

    def test_both_paths_draw_the_same_masks(self) -> None:
        config = toy_config(attention_dropout=0.25)
        _, cache = reference.forward(toy_params(config), SRC, TGT, config, generator())
        (_, encoder, _, decoder, _), masks = cache.parts, fast_masks(8)
        for i in range(2):
            for name, place in ((f"encoder.{i}", encoder[0][i][0]), (f"decoder.{i}", decoder[0][i][0]),
                                (f"decoder.{i}.cross", decoder[0][i][1])):  # fmt: skip
                np.testing.assert_array_equal(place[1].Y.dropout.M, masks[name])

    def test_the_masks(self) -> None:
        """The share of zeros is p; each attention, row of the batch, head and query has a mask of its own."""
        size: dict[str, Any] = {"n_heads": 3, "n_encoder_layers": 2, "n_decoder_layers": 2}
        found = [fast_masks(seed, **size) for seed in (8, 8, 9)]
        assert all(set(np.unique(M)) == {0.0, 1 / 0.75} for M in found[0].values())
        assert {name: M.shape for name, M in found[0].items()} == {
            **dict.fromkeys(["encoder.0", "encoder.1"], (4, 3, 5, 5)),
            **dict.fromkeys(["decoder.0", "decoder.1"], (4, 3, 3, 3)),
            **dict.fromkeys(["decoder.0.cross", "decoder.1.cross"], (4, 3, 3, 5)),
        }
        zeros = np.concatenate([M.ravel() == 0 for masks in found[1:] for M in masks.values()])
        assert abs(zeros.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / zeros.size)
        for first, again, other in zip(*(masks.values() for masks in found), strict=True):
            np.testing.assert_array_equal(first, again)
            assert (first != other).any()
        for one, two in (("encoder.0", "encoder.1"), ("decoder.0", "decoder.1"),
                         ("decoder.0.cross", "decoder.1.cross")):  # fmt: skip
            assert (found[0][one] != found[0][two]).any()
        M = found[0]["encoder.0"]
        for axis in range(4):                                 # of rows of the batch, heads, queries, keys
            assert np.unique(M, axis=axis).shape == M.shape

    def test_weights_are_those_before_dropout(self) -> None:
        model, plain = toy_model(attention_dropout=0.4), toy_model()
        _, cache = model.forward(SRC, TGT, generator())
        np.testing.assert_array_equal(
            cache.attention_weights()["encoder.0.self_attention"],
            plain.forward(SRC, TGT)[1].attention_weights()["encoder.0.self_attention"],
        )

    def test_a_training_step_on_packed_rows(self) -> None:
        """The loss differs from that without dropout, repeats with its rng, and has the gradients of both paths."""
        tgt = np.pad(TGT, ((0, 0), (0, 2)))                   # columns of pads alone: they are cut off
        model = toy_model(attention_dropout=0.4)
        loss, grads = model.loss_and_gradients(SRC, tgt, rng=generator())
        again, other = (model.loss_and_gradients(SRC, tgt, rng=generator(seed))[0] for seed in (8, 9))
        assert loss == again != other
        assert loss != model.loss_and_gradients(SRC, tgt)[0]

        def slope(name: str, h: float = 1e-20) -> float:
            params: dict[str, Any] = {n: a.astype(complex) for n, a in model.params.items()}
            params[name][0] += 1j * h
            logits, _ = reference.forward(params, SRC, TGT[:, :2], model.config, generator())
            z = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            wanted = TGT[:, 1:]
            each = 0.9 * np.take_along_axis(z, wanted[..., None], -1)[..., 0] + 0.1 * z.mean(-1)
            return float(-each[wanted != 0].sum().imag / (wanted != 0).sum() / h)

        for name in ("encoder.0.self_attention.W_K", "decoder.1.cross_attention.b_V", "source_embedding.W_E"):
            assert grads[name][0].sum() == pytest.approx(slope(name), rel=1e-11, abs=1e-14), name


class TestNothingIsDropped:
    @PATHS
    def test_without_an_rng(self, path: Any) -> None:
        """The bits are those of a model without the option."""
        found = []
        for options in ({}, {"attention_dropout": 0.4}):
            config = toy_config(**options)
            logits, cache = path.forward(toy_params(config), SRC, TGT, config)
            found.append((logits, *path.backward(np.ones_like(logits), cache).values()))
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)

    @PATHS
    def test_at_zero(self, path: Any) -> None:
        """The rng draws nothing, and the bits are those without one."""
        config, rng = toy_config(), generator()
        logits, cache = path.forward(toy_params(config), SRC, TGT, config, rng)
        assert rng.bit_generator.state == generator().bit_generator.state
        plain, plain_cache = path.forward(toy_params(config), SRC, TGT, config)
        np.testing.assert_array_equal(logits, plain)
        grads, expected = (path.backward(np.ones_like(logits), each) for each in (cache, plain_cache))
        assert all((grads[name] == expected[name]).all() for name in expected)

    def test_the_default_rate_is_0(self) -> None:
        rng = np.random.default_rng(0)
        X, W = rng.normal(size=(3, 4)), [rng.normal(size=(4, 4)) for _ in range(4)]
        options: dict[str, Any] = {"n_heads": 2, "mask": None}
        dropped, _ = dropped_attention.forward(X, X, *W, *[None] * 4, rng=rng, **options)
        assert np.array_equal(dropped, dropped_attention.forward(X, X, *W, *[None] * 4, **options)[0])

    def test_activations_of_the_decoder_are_dropped(self) -> None:
        model = toy_model(attention_dropout=0, dropout=0, activation_dropout=0.5, n_encoder_layers=0)
        assert not np.array_equal(model.forward(SRC, TGT, generator(3))[0], model.forward(SRC, TGT)[0])

    @pytest.mark.parametrize(("rate", "seed"), [(0.0, 8), (0.4, None)])
    def test_no_weight_is_copied(self, rate: float, seed: int | None) -> None:
        model = toy_model(attention_dropout=rate, dropout=0.2)
        _, cache = model.forward(SRC, TGT, None if seed is None else generator(seed))
        for layer in (*cache.encoder.layers, *cache.decoder.layers):
            assert layer.self_attention.f.D is layer.self_attention.f.A
            assert layer.self_attention.f.dropout is None
        assert cache.decoder.layers[0].cross_attention.f.D is cache.decoder.layers[0].cross_attention.f.A

    def test_in_decoding(self) -> None:
        model, plain = toy_model(attention_dropout=0.9), toy_model()
        assert greedy_search(model, SRC, 5) == greedy_search(plain, SRC, 5)


class TestFiles:
    def test_a_file_states_the_rate(self, tmp_path: Path) -> None:
        path = tmp_path / "model.npz"
        toy_model(attention_dropout=0.25).save(path)
        assert load_arrays(path)[1]["config"]["attention_dropout"] == 0.25
        assert Transformer.load(path).config == toy_config(attention_dropout=0.25)

    def test_pickles(self) -> None:
        config = toy_config(**RATES)
        assert pickle.loads(pickle.dumps(config)) == config
        before = pickle.loads(pickle.dumps(toy_config()))
        del before.__dict__["attention_dropout"]              # as in a pickle from before
        assert pickle.loads(pickle.dumps(before)).attention_dropout == 0
        assert TransformerConfig(**dataclasses.asdict(before)) == toy_config()
