"""The fast path equals the reference in logits, loss and every gradient, for every option.

The gradients of the reference are checked by the complex step. Planted faults show that these tests can fail.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import GradientError, TransformerConfig, check_gradients
from npattn._internal.checks import Array, Params
from npattn.attention import dot_product
from npattn.layers import cross_entropy, cross_entropy_backward
from npattn.transformer import reference, variants
from npattn.transformer.fast import attention, encoder_decoder, layers, packing
from npattn.transformer.fast import transformer as fast
from npattn.transformer.fast.gradient import computed
from npattn.transformer.parameters import Blocks
from support.calls import arrays, cotangent, examples
from support.layouts import freeze
from support.transformer_toys import OPTIONS, PAPER, SRC, TGT, VARIANTS, LoopTransformer, toy_config, toy_params

CHOICES = {
    "norm": ("post", "pre"), "final_norm": (None, True, False), "tie": ("output", "all", "none"), "bias": (True, False),
    "activation": ("relu", "gelu"),
}  # fmt: skip
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
each_combination = pytest.mark.parametrize("options", COMBINATIONS, ids=lambda o: "-".join(map(str, o.values())))

#: Sizes of a batch and of the model that hypothesis draws.
DRAWN = st.fixed_dictionaries({
    "seed": st.integers(0, 2**32), "B": st.integers(1, 4), "N_S": st.integers(1, 5), "N_T": st.integers(2, 5),
    "n_heads": st.sampled_from([1, 2, 3]), "n_encoder_layers": st.integers(0, 2), "n_decoder_layers": st.integers(1, 2),
})  # fmt: skip
SMOOTHING = 0.1


def config_of(options: dict[str, Any], drawn: dict[str, Any], **more: Any) -> TransformerConfig:
    depths = {name: drawn[name] for name in ("n_heads", "n_encoder_layers", "n_decoder_layers")}
    return toy_config(**options, **depths, **more, src_vocab=8, tgt_vocab=8)


def batch(drawn: dict[str, Any], pads: bool) -> tuple[Array, Array]:
    """Draw ids with repeats; with `pads`, rows of any length from 0, and the first source of pads alone."""
    rng = np.random.default_rng(drawn["seed"])
    src, tgt = (rng.integers(3, 8, (drawn["B"], drawn[length])) for length in ("N_S", "N_T"))
    tgt[:, 0] = 1
    if pads:
        for ids in (src, tgt):
            ids[np.arange(ids.shape[1]) >= rng.integers(0, ids.shape[1] + 1, (len(ids), 1))] = 0
        src[0] = 0
    return src, tgt


def assert_equal(got: Params, expected: Params) -> None:
    """Equal to 1e-12 of the largest entry among the gradients of the same attention, feed-forward, norm or embedding.

    A gradient by itself may be too small a measure. That of b_K is zero in mathematics and rounding noise in numbers.
    That of W_Q of a cross-attention can nearly vanish by cancellation. Their rounding errors are as large as those of
    their neighbours W_V and W_O.
    """
    assert got.keys() == expected.keys()
    largest: dict[str, float] = defaultdict(float)
    for name, gradient in expected.items():
        part = name.rpartition(".")[0]
        largest[part] = max(largest[part], np.abs(gradient).max(initial=0))
    for name, gradient in expected.items():
        assert got[name].shape == gradient.shape, name
        assert np.abs(got[name] - gradient).max(initial=0) <= 1e-12 * largest[name.rpartition(".")[0]], name


def compare(config: TransformerConfig, params: Params, src: Array, tgt: Array, seed: int = 0) -> None:
    """Compare logits, loss and every gradient of the fast path with those of the reference."""

    def rng() -> np.random.Generator | None:
        return np.random.default_rng(seed) if config.dropout or config.attention_dropout else None

    logits, cache = reference.forward(params, src, tgt, config, rng())
    fast_logits, fast_cache = fast.forward(params, src, tgt, config, rng())
    assert_equal({"logits": fast_logits}, {"logits": logits})
    dlogits = cotangent(logits)
    assert_equal(fast.backward(dlogits, fast_cache), reference.backward(dlogits, cache))

    logits, cache = reference.forward(params, src, tgt[:, :-1], config, rng())
    loss, c_loss = cross_entropy(logits, tgt[:, 1:], SMOOTHING, ignore_id=config.pad_id)
    fast_loss, gradients = fast.loss_and_gradients(params, src, tgt, config, SMOOTHING, rng())
    assert fast_loss == pytest.approx(float(loss), rel=1e-12)
    blocks: dict[str, Array] = {}
    for name, gradient in gradients:
        blocks[name] = blocks.get(name, 0.0) + computed(gradient)
    expected = reference.backward(cross_entropy_backward(1.0, c_loss), cache)
    assert_equal(Blocks(config.shapes(), config.side_by_side(), blocks), expected)


class TestFastPath:
    @each_combination
    @given(drawn=DRAWN)
    @examples(2)
    def test_with_pads(self, options: dict[str, Any], drawn: dict[str, Any]) -> None:
        config = config_of(options, drawn)
        compare(config, toy_params(config, drawn["seed"]), *batch(drawn, pads=True))

    @each_combination
    @given(drawn=DRAWN)
    @examples(2)
    def test_with_dropout(self, options: dict[str, Any], drawn: dict[str, Any]) -> None:
        """The batch has no pads: a pad without a row takes no random numbers, so its mask would be another."""
        config = config_of(options, drawn, dropout=0.3, attention_dropout=0.2)
        compare(config, toy_params(config, drawn["seed"]), *batch(drawn, pads=False), drawn["seed"])

    @pytest.mark.parametrize("attention_dropout", [0.0, 0.3])
    def test_a_pad_between_tokens(self, attention_dropout: float) -> None:
        """With pads too: weights have random numbers at every place of the batch."""
        config = toy_config(attention_dropout=attention_dropout)
        compare(config, toy_params(config), SRC, np.array([[1, 0, 7, 2], [1, 4, 0, 0], [1, 10, 0, 2], [0, 0, 5, 0]]))

    @pytest.mark.parametrize("kind", ["source", "target"])
    def test_pads_alone(self, kind: str) -> None:
        config = toy_config()
        src, tgt = SRC * (kind != "source"), TGT * (kind != "target")
        compare(config, toy_params(config), src, tgt)

    @pytest.mark.parametrize(("B", "N_S", "N_T"), [(0, 5, 3), (4, 0, 3)])
    def test_empty_axes(self, B: int, N_S: int, N_T: int) -> None:
        config = toy_config()
        compare(config, toy_params(config), np.full((B, N_S), 4), np.full((B, N_T), 5))


class TestReference:
    @given(st.sampled_from(PAPER), st.integers(0, 2**32))
    def test_logits_equal_loops_over_positions_and_heads(self, name: str, seed: int) -> None:
        config, rng = toy_config(**OPTIONS[name] | {"dropout": 0.0}), np.random.default_rng(seed)
        params = toy_params(config, seed)
        src, tgt = rng.integers(3, config.src_vocab, (2, 4)), rng.integers(3, 11, (2, 3))
        logits, _ = reference.forward(params, src, tgt, config)
        for b in range(2):
            expected = LoopTransformer(params, config).logits(src[b].tolist(), tgt[b].tolist())
            np.testing.assert_allclose(logits[b], expected, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("name", ["paper", "pre", "no encoder layer", "many", "many others", *VARIANTS])
    def test_gradients_by_the_complex_step(self, name: str) -> None:
        """Every number of every parameter. The gradient of b_K is zero."""
        config = toy_config(**OPTIONS[name])
        kwargs = {"config": config, "rng": np.random.default_rng(8) if config.dropout else None}
        args = (toy_params(config), SRC, TGT)
        report = check_gradients(reference.forward, reference.backward, args, kwargs, method="complex-step", rtol=1e-12)
        verdicts = {argument.name[len("params['") : -len("']")]: argument.verdict for argument in report.arguments}
        assert verdicts == {name: "zero" if name.endswith("b_K") else "ok" for name in config.shapes()}

    def test_parts_that_do_not_read_M_return_dM_0(self) -> None:
        config = toy_config()
        _, cache = reference.forward(toy_params(config), SRC, TGT, config)
        (layers, *_), dX = cache.parts[1], np.ones((4, 5, 6))
        (_, c_attention, *_), (_, c_feed_forward, *_) = layers[0]
        assert reference.encoder_layer_backward(dX, layers[0])[1] == 0
        assert reference.self_attention_backward(dX, c_attention)[1] == 0
        assert reference.feed_forward_backward(dX, c_feed_forward)[1] == 0

    @pytest.mark.parametrize("name", ["paper", "many", "many others"])
    def test_float32_stays_float32(self, name: str) -> None:
        config, rng = toy_config(**OPTIONS[name], attention_dropout=0.3), np.random.default_rng(0)
        logits, cache = reference.forward(toy_params(config, dtype=np.float32), SRC, TGT, config, rng)
        grads = reference.backward(np.ones_like(logits), cache)
        assert {array.dtype for array in (logits, *grads.values())} == {np.dtype(np.float32)}

    @pytest.mark.parametrize("name", ["paper", "many", "many others"])
    def test_is_pure(self, name: str) -> None:
        """Inputs, dlogits and cache may be read-only and stay as they were. Two backward calls give the same bits."""
        config = toy_config(**OPTIONS[name])
        params, src, tgt = toy_params(config), SRC.copy(), TGT.copy()
        freeze((params, src, tgt))
        logits, cache = reference.forward(params, src, tgt, config, np.random.default_rng(0))
        held = [array.tobytes() for array in arrays((params, src, tgt, cache))]
        dlogits = cotangent(logits)
        freeze((dlogits, cache))
        first, second = reference.backward(dlogits, cache), reference.backward(dlogits, cache)
        assert first.keys() == second.keys() == params.keys()
        for name, gradient in first.items():
            np.testing.assert_array_equal(gradient, second[name])
            assert gradient.shape == params[name].shape
        assert [array.tobytes() for array in arrays((params, src, tgt, cache))] == held

    @pytest.mark.parametrize(
        ("src", "tgt", "error", "message"),
        [
            (SRC.tolist(), TGT, TypeError, "src: expected an integer array, got list"),
            (SRC, TGT * 1.0, TypeError, "tgt: expected an integer array, got float64"),
            (SRC + 1, TGT, IndexError, "src: expected ids from 0 to 8, got 9"),
            (SRC, TGT - 1, IndexError, "tgt: expected ids from 0 to 10, got -1"),
            (SRC[0], TGT, ValueError, "src: expected ids (B, N), got (5,)"),
            (SRC, TGT[:3], ValueError, "tgt: expected (B=4, N_T), got (3, 3)"),
        ],
    )
    def test_wrong_ids(self, src: Any, tgt: Any, error: type[Exception], message: str) -> None:
        config = toy_config()
        for forward in (reference.forward, fast.forward):
            with pytest.raises(error) as caught:
                forward(toy_params(config), src, tgt, config)
            assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("dlogits", "error", "message"),
        [
            (np.ones((4, 3, 10)), ValueError, "dlogits: expected (4, 3, 11) like the output, got (4, 3, 10)"),
            (np.ones((3, 11)), ValueError, "dlogits: expected (4, 3, 11) like the output, got (3, 11)"),
            (
                np.ones((4, 3, 11), np.float32), TypeError,
                "dlogits: expected an array of float64 like the output, got float32",
            ),
        ],
    )  # fmt: skip
    def test_wrong_dlogits(self, dlogits: Any, error: type[Exception], message: str) -> None:
        config = toy_config()
        _, cache = reference.forward(toy_params(config), SRC, TGT, config)
        with pytest.raises(error) as caught:
            reference.backward(dlogits, cache)
        assert str(caught.value) == message

    def test_a_wrong_cache(self) -> None:
        with pytest.raises(TypeError) as caught:
            reference.backward(np.ones((4, 3, 11)), None)  # type: ignore[arg-type]
        wanted = "a npattn.transformer.reference.Cache, got NoneType"
        assert str(caught.value) == f"cache: expected what forward returned, {wanted}"

    def test_a_wrong_parameter(self) -> None:
        config = toy_config()
        params = toy_params(config) | {"decoder.1.feed_forward.W_1": np.ones((7, 8))}
        with pytest.raises(ValueError, match=r"^W: expected \(D_in=6, D_out\), got \(7, 8\)$"):
            reference.forward(params, SRC, TGT, config)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda params: None, "params: expected a mapping of names to NumPy arrays, got NoneType"),
            (lambda params: params | {"output.W": [1.0]}, "params: 'output.W': expected a NumPy array, got list"),
            (lambda params: params | {"X": np.ones(1)}, "params: unexpected 'X'"),
            (lambda params: {n: a for n, a in params.items() if n != "encoder.1.norm_2.beta"},
             "params: missing 'encoder.1.norm_2.beta'"),
        ],
    )  # fmt: skip
    def test_parameters_of_another_model(self, change: Any, message: str) -> None:
        config = toy_config(tie="none")
        with pytest.raises((TypeError, ValueError)) as caught:
            reference.forward(change(toy_params(config)), SRC, TGT, config)
        assert str(caught.value) == message


Part = Callable[..., Any]
Fault = tuple[Any, str, Callable[[Part], Part]]


def result(change: Part) -> Callable[[Part], Part]:
    """Return a fault that changes the tuple that a function returns."""
    return lambda part: lambda *args: change(*part(*args))


def every_other_dM(part: Part) -> Part:
    """Return the backward of a decoder layer or its cross-attention with dM = 0 in every other call."""
    calls = itertools.count()
    return result(lambda dX, dM, grads: (dX, dM * (next(calls) % 2), grads))(part)


def without_residual_sum(part: Part) -> Part:
    """Return a `sub_layer_backward` of post-norm that forgets the use of X in R."""

    def changed(dY: Array, cache: Any, f_backward: Part) -> Any:
        dX, *rest = part(dY, cache, f_backward)
        return dX - reference.normalise_backward(dY, cache[3])[0], *rest

    return changed


def of_queries_alone(part: Part) -> Part:
    """Return a `self_attention_backward` of the reference that forgets what comes through keys and values."""
    return lambda dZ, cache: (reference.attention_backward(dZ, cache)[0], *part(dZ, cache)[1:])


def no_positions(part: Part) -> Part:
    return lambda N, D, *dtype: part(N, D, *dtype) * 0


def without_sqrt_width(part: Part) -> Part:
    return lambda dX, cache: part(dX, cache) / np.sqrt(dX.shape[-1])


def without_sqrt_width_first(part: Part) -> Part:
    return result(lambda dW_E, more: (dW_E / np.sqrt(dW_E.shape[-1]), more))(part)


#: Faults of a backward: the module, the name of the function in it, and what replaces the function.
BACKWARD: dict[str, Fault] = {
    "embedding without √D_X": (reference, "embed_backward", without_sqrt_width_first),
    "one use of dM": (reference, "decoder_layer_backward", every_other_dM),
    "no residual sum": (reference, "sub_layer_backward", without_residual_sum),
    "self-attention of queries alone": (reference, "self_attention_backward", of_queries_alone),
    "no dropout mask": (reference, "dropout_backward", lambda part: lambda dY, cache: dY.copy()),
    "tied embedding without its use as output": (
        reference, "linear_backward", result(lambda dX, dW, db: (dX, dW * (dW.shape[1] != 11), db)),
    ),
    "fast: embedding without √D_X": (fast, "embed_backward", without_sqrt_width),
    "fast: one use of dM": (layers, "cross_attention_backward", every_other_dM),
    "fast: no residual sum": (layers, "sub_layer_backward", without_residual_sum),
    "fast: no dropout mask": (encoder_decoder, "dropout_backward", lambda part: lambda dY, cache: dY.copy()),
    "no mask of the weights, dropout": (dot_product, "dropout_backward", lambda part: lambda dY, cache: dY.copy()),
    "fast: no mask of the weights, dropout": (attention, "dropout_backward", lambda part: lambda dY, cache: dY.copy()),
    "fast: tied embedding without its use as output": (fast, "weight_gradient", lambda part: lambda *a: part(*a) * 0),
    "fast: one gradient too large by a factor of 1 + 1e-9": (
        layers, "cross_attention_backward", result(lambda dX, *rest: (dX * (1 + 1e-9), *rest)),
    ),
}  # fmt: skip

#: Faults of a forward, likewise.
FORWARD: dict[str, Fault] = {
    "no sequence mask": (reference, "causal_mask", lambda part: lambda N: part(N, offset=N)),
    "no pad mask": (reference, "padding_mask", lambda part: lambda ids, pad_id: part(ids, pad_id=99)),
    "no positions": (variants, "sinusoidal_positions", no_positions),
    "fast: a sequence mask off by one": (packing, "causal_mask", lambda part: lambda N: part(N, offset=1)),
    "fast: no positions": (encoder_decoder, "positions", no_positions),
    "fast: scores that are not scaled": (attention, "sqrt_width", lambda part: lambda Q: 1.0),
}


class TestPlantedFaults:
    @pytest.mark.parametrize("name", [*BACKWARD, *FORWARD])
    def test_the_comparison_fails(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        module, attribute, fault = (BACKWARD | FORWARD)[name]
        monkeypatch.setattr(module, attribute, fault(getattr(module, attribute)))
        config, src, tgt = toy_config(), SRC, TGT
        if "dropout" in name:                                 # then there must be no pads
            config = toy_config(dropout=0.3, attention_dropout=0.3)
            src, tgt = np.full((2, 3), 4), np.array([[1, 5, 5], [1, 7, 4]])
        with pytest.raises(AssertionError):
            compare(config, toy_params(config), src, tgt)

    @pytest.mark.long
    @pytest.mark.parametrize("name", [name for name, (module, *_) in BACKWARD.items() if module is reference])
    def test_the_checker_fails(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        module, attribute, fault = BACKWARD[name]
        monkeypatch.setattr(module, attribute, fault(getattr(module, attribute)))
        config = toy_config(n_encoder_layers=0, bias=False, dropout=0.3 if "dropout" in name else 0.0)
        kwargs = {"config": config, "rng": np.random.default_rng(0) if config.dropout else None}
        with pytest.raises(GradientError):
            check_gradients(reference.forward, reference.backward, (toy_params(config), SRC[:1], TGT[:1]), kwargs)
