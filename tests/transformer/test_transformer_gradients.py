"""The gradients of the whole model, for every option: by both methods, as a composition, and where they are zero."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import TransformerConfig, check_gradients
from npattn._internal.checks import Array, Params
from npattn.layers import cross_entropy, cross_entropy_backward
from npattn.transformer.fast import transformer as fast
from support.transformer_toys import OPTIONS, SRC, TGT, VARIANTS, deviation, toy_config, toy_model, toy_params

#: Variants are left to the long tests here: test_reference takes the complex step of every number of theirs.
every_option = pytest.mark.parametrize("options", [
    pytest.param(OPTIONS[name], id=name, marks=[pytest.mark.long] if name in VARIANTS else []) for name in OPTIONS
])  # fmt: skip


def run(config: TransformerConfig, params: Params, dlogits: Array, src: Array = SRC, tgt: Array = TGT) -> Any:
    """Return the logits, and the gradients for the cotangent `dlogits`."""
    logits, cache = fast.forward(params, src, tgt, config, seeded(config))
    return logits, fast.backward(dlogits, cache)


def cotangent(*shape: int, seed: int = 4) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def seeded(config: TransformerConfig) -> np.random.Generator | None:
    return np.random.default_rng(8) if config.dropout else None


class Slopes:
    """Slopes of Σ dlogits · logits. The batch has pads, repeated ids and a source of pads alone."""

    def __init__(self, config: TransformerConfig) -> None:
        self.config, self.params, self.dlogits = config, toy_params(config), cotangent(4, 3, 11)
        _, self.grads = run(config, self.params, self.dlogits)
        self.largest = max(float(np.abs(gradient).max()) for gradient in self.grads.values())

    def direction(self, names: list[str], rng: np.random.Generator) -> dict[str, Array]:
        """Return a random step for every number, scaled so that the largest entry of each gradient counts as 1.

        The gradient of b_K is zero in mathematics and rounding noise in numbers. Its scale is the largest entry of all.
        """
        scales = {n: self.largest if n.endswith("b_K") else np.abs(self.grads[n]).max() for n in names}
        return {n: rng.choice([-1.0, 1.0], self.params[n].shape) / scales[n] for n in names}

    def analytic(self, direction: Params) -> float:
        return sum(float((self.grads[name] * step).sum()) for name, step in direction.items())

    def by_complex_step(self, direction: Params) -> float:
        params = {name: array.astype(np.complex128) for name, array in self.params.items()}
        for name, step in direction.items():
            params[name] += 1e-20j * step
        return float(self.terms(params).imag.sum()) / 1e-20

    def by_central_difference(self, direction: Params, h: float) -> float:
        h /= max(float(np.abs(step).max()) for step in direction.values())

        def difference(t: float) -> float:
            right, left = ({n: self.params[n] + u * step for n, step in direction.items()} for u in (t, -t))
            return float((self.terms(self.params | right) - self.terms(self.params | left)).sum()) / (2 * t)

        return (4 * difference(h / 2) - difference(h)) / 3    # Richardson: no h² in the error

    def terms(self, params: Params) -> Array:
        return self.dlogits * fast.forward(params, SRC, TGT, self.config, seeded(self.config))[0]


class TestNumerically:
    @every_option
    def test_layer_by_layer(self, options: dict[str, Any]) -> None:
        """One random direction for each layer moves every parameter of the layer."""
        slopes, rng = Slopes(toy_config(**options)), np.random.default_rng(6)
        assert slopes.grads.keys() == slopes.config.shapes().keys()
        layers: dict[str, list[str]] = {}
        for name in slopes.grads:
            layers.setdefault(re.sub(r"(\.\d+)?\.\D.*", r"\1", name), []).append(name)
        for layer, names in layers.items():
            direction = slopes.direction(names, rng)
            slope = slopes.analytic(direction)
            assert slopes.by_complex_step(direction) == pytest.approx(slope, rel=0, abs=1e-12), layer
            central = [slopes.by_central_difference(direction, h) for h in (1e-4, 1e-5)]
            assert min(abs(found - slope) for found in central) < 1e-7, layer   # one step may cross a kink of relu

    @pytest.mark.parametrize("name", ["paper", "pre", "dropout", "many others"])
    def test_by_the_checker(self, name: str) -> None:
        config = toy_config(**OPTIONS[name])
        kwargs = {"config": config, "rng": seeded(config)}
        args = (toy_params(config), SRC, TGT)
        report = check_gradients(
            fast.forward, fast.backward, args, kwargs, method="complex-step", rtol=1e-12
        )
        verdicts = {argument.name[len("params['") : -len("']")]: argument.verdict for argument in report.arguments}
        assert verdicts == {name: "zero" if name.endswith("b_K") else "ok" for name in config.shapes()}

    def test_by_the_checker_with_central_differences(self) -> None:
        config = toy_config(**OPTIONS["many"] | {"n_encoder_layers": 1, "n_decoder_layers": 1, "d_ff": 64})
        kwargs = {"config": config, "rng": seeded(config)}
        args = (toy_params(config), SRC, TGT)
        check_gradients(fast.forward, fast.backward, args, kwargs, method="central-difference", rtol=1e-7)


class TestComposition:
    @every_option
    def test_loss_and_gradients(self, options: dict[str, Any]) -> None:
        """The numbers are those of forward, cross_entropy and backward on the whole batch with its pads."""
        model = toy_model(**options | {"dropout": 0.0})
        tgt = np.array([[1, 7, 7, 2], [1, 4, 2, 0], [1, 10, 9, 2], [1, 2, 0, 0]])
        logits, cache = fast.forward(model.params, SRC, tgt[:, :-1], model.config)
        loss, c_loss = cross_entropy(logits, tgt[:, 1:], 0.2, ignore_id=0)
        grads = fast.backward(cross_entropy_backward(1.0, c_loss), cache)
        got_loss, got = model.loss_and_gradients(SRC, tgt, smoothing=0.2)
        assert type(got_loss) is float
        assert got_loss == pytest.approx(float(loss), rel=1e-14)
        assert got.keys() == grads.keys()
        assert deviation(got, grads) < 1e-12

    def test_a_pad_in_the_middle(self) -> None:
        """No query attends to it, it does not count in the mean, and later tokens do count."""
        model = toy_model(dropout=0.0)
        tgt = np.array([[1, 0, 7, 2], [1, 4, 0, 0], [1, 10, 0, 2], [0, 0, 5, 0]])
        logits, cache = fast.forward(model.params, SRC, tgt[:, :-1], model.config)
        loss, c_loss = cross_entropy(logits, tgt[:, 1:], 0.2, ignore_id=0)
        grads = fast.backward(cross_entropy_backward(1.0, c_loss), cache)
        got_loss, got = model.loss_and_gradients(SRC, tgt, smoothing=0.2)
        assert got_loss == pytest.approx(float(loss), rel=1e-14)
        assert deviation(got, grads) < 1e-12

    def test_dropout_repeats_with_its_generator(self) -> None:
        model = toy_model(dropout=0.4)
        losses = [model.loss_and_gradients(SRC, TGT, rng=np.random.default_rng(seed))[0] for seed in (3, 3, 4)]
        assert losses[0] == losses[1] != losses[2] != model.loss_and_gradients(SRC, TGT)[0]

    def test_the_loss_by_hand(self) -> None:
        """The mean over the real tokens of ℓ = −Σ q log p, with q = (1 − ε) onehot + ε/V."""
        model = toy_model()
        tgt = np.array([[1, 7, 7, 2], [1, 4, 2, 0], [1, 10, 9, 2], [1, 2, 0, 0]])
        logits, _ = model.forward(SRC, tgt[:, :-1])
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        q = 0.7 * np.eye(11)[tgt[:, 1:]] + 0.3 / 11
        real = tgt[:, 1:] != 0
        expected = -(q * log_p).sum(-1)[real].sum() / 9
        assert real.sum() == 9
        assert model.loss_and_gradients(SRC, tgt, smoothing=0.3)[0] == pytest.approx(expected, rel=1e-13)

    def test_smoothing_is_a_tenth_by_default(self) -> None:
        model = toy_model()
        default, _ = model.loss_and_gradients(SRC, TGT)
        assert default == model.loss_and_gradients(SRC, TGT, smoothing=0.1)[0]
        assert default != model.loss_and_gradients(SRC, TGT, smoothing=0.0)[0]

    def test_backward_of_the_model_fills_a_buffer_of_its_own(self) -> None:
        model = toy_model()
        dlogits = cotangent(4, 3, 11)
        _, cache = model.forward(SRC, TGT)
        grads = model.backward(dlogits, cache)
        assert grads.shapes == model.params.shapes
        assert not np.shares_memory(grads.flat, model.params.flat)
        assert deviation(grads, fast.backward(dlogits, cache)) == 0

    @pytest.mark.parametrize("tie", ["output", "all"])
    def test_a_tied_embedding_gets_the_sum_of_its_uses(self, tie: Any) -> None:
        """An untied model with equal tables is the same function. Its gradients add up to that of the tied table."""
        tied = toy_config(tie=tie, src_vocab=11)
        untied = toy_config(tie="none", src_vocab=11)
        params = toy_params(tied)
        table = params[tied.target_embedding]
        apart = {name: params[name] for name in untied.shapes() if name in params} | {
            "source_embedding.W_E": params[tied.source_embedding], "target_embedding.W_E": table, "output.W": table.T
        }  # fmt: skip
        dlogits = cotangent(4, 3, 11)
        logits, grads = run(tied, params, dlogits)
        same, uses = run(untied, apart, dlogits)
        np.testing.assert_allclose(logits, same, rtol=1e-13, atol=1e-13)
        total = uses.pop("target_embedding.W_E") + uses.pop("output.W").T
        if tie == "all":
            total = total + uses.pop("source_embedding.W_E")
        assert deviation(grads, uses | {tied.target_embedding: total}) < 1e-13


class TestZeros:
    @every_option
    def test_unread_ids_get_no_gradient(self, options: dict[str, Any]) -> None:
        config = toy_config(**options | {"tie": "none"})
        _, grads = run(config, toy_params(config), cotangent(4, 3, 11))
        assert not grads["source_embedding.W_E"][[1, 2]].any()   # SRC holds 0 and 3 … 8
        assert grads["source_embedding.W_E"][3:9].any(1).all()
        assert not grads["target_embedding.W_E"][[2, 3, 5, 6, 8]].any()

    @every_option
    def test_pads_get_no_gradient(self, options: dict[str, Any]) -> None:
        """The logits at pads have no part in the loss, so it depends neither on source pads nor on target pads."""
        config = toy_config(**options | {"tie": "none"})
        dlogits = cotangent(4, 3, 11) * (TGT != 0)[..., None]
        _, grads = run(config, toy_params(config), dlogits)
        assert not grads["source_embedding.W_E"][0].any()
        assert not grads["target_embedding.W_E"][0].any()

    @given(st.integers(0, 2), st.sampled_from(list(OPTIONS)))
    def test_no_gradient_from_the_future(self, i: int, name: str) -> None:
        """The logits at position i give the tokens after i exactly zero gradient."""
        config = toy_config(**OPTIONS[name] | {"tie": "none", "dropout": 0.0})
        tgt = np.array([[1, 7, 4], [1, 8, 5], [1, 9, 6], [1, 10, 3]])
        dlogits = np.zeros((4, 3, 11))
        dlogits[:, i] = cotangent(4, 11)
        _, grads = run(config, toy_params(config), dlogits, tgt=tgt)
        seen = grads["target_embedding.W_E"].any(1)
        assert not seen[tgt[:, i + 1 :]].any()
        assert seen[tgt[:, : i + 1]].all()

    def test_a_row_without_cotangent_adds_nothing(self) -> None:
        config = toy_config(**OPTIONS["many others"] | {"dropout": 0.0})
        dlogits = cotangent(4, 3, 11)
        dlogits[2] = 0
        _, grads = run(config, toy_params(config), dlogits)
        rest = np.array([0, 1, 3])
        _, expected = run(config, toy_params(config), dlogits[rest], SRC[rest], TGT[rest])
        assert deviation(grads, expected) < 1e-13
