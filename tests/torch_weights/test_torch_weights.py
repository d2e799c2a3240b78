"""Weights go to PyTorch and back bit for bit. A state that does not fit changes nothing."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import Transformer, TransformerConfig
from npattn._internal.checks import Array
from npattn.torch_weights import dump_multi_head, dump_transformer, load_multi_head, load_transformer
from support.golden_numbers import core, read, read_transformers

MULTI_HEAD = read("multi_head")
TRANSFORMERS = read_transformers()
DTYPES = st.sampled_from([np.float32, np.float64])
SEEDS = st.integers(0, 2**32 - 1)


def assert_same(got: Any, want: Any) -> None:
    """Same names, shapes, dtypes and bits."""
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert (got[name].shape, got[name].dtype) == (array.shape, array.dtype), name
        assert got[name].tobytes() == array.tobytes(), name


def draw_model(seed: int, dtype: Any, **choices: Any) -> Transformer:
    sizes = {"d_model": 6, "n_heads": 2, "d_ff": 7, "n_encoder_layers": 1, "n_decoder_layers": 2}
    config = TransformerConfig(9, 8, **{**sizes, "final_norm": True, **choices})
    model = Transformer(config, dtype=dtype)
    model.params.flat[:] = np.random.default_rng(seed).normal(size=model.params.flat.shape)
    return model


def draw_multi_head(rng: np.random.Generator, E: int, D_K: int, D_V: int, bias: bool, dtype: Any) -> dict[str, Array]:
    shapes: dict[str, tuple[int, ...]] = {"W_Q": (E, E), "W_K": (D_K, E), "W_V": (D_V, E), "W_O": (E, E)}
    shapes |= {name: (E,) for name in ("b_Q", "b_K", "b_V", "b_O") if bias}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


class Tensor:
    """Like a tensor of PyTorch: an array for `np.asarray`, or an error if NumPy cannot read the tensor."""

    def __init__(self, array: Array | None) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.array is None:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self.array


class TestTransformer:
    @pytest.mark.parametrize("case", TRANSFORMERS)
    def test_state_of_pytorch_comes_back_bit_for_bit(self, case: str) -> None:
        state = core(TRANSFORMERS[case]["state"])
        model = Transformer(TRANSFORMERS[case]["config"], dtype=np.float64)
        load_transformer(model, state)
        assert_same(dump_transformer(model), state)

    @given(
        seed=SEEDS,
        dtype=DTYPES,
        layers=st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 11])),
        bias=st.booleans(),
        final_norm=st.booleans(),
        norm=st.sampled_from(["pre", "post"]),
        tie=st.sampled_from(["none", "output"]),
    )
    def test_model_comes_back_bit_for_bit(
        self, seed: int, dtype: Any, layers: tuple[int, int], **choices: Any
    ) -> None:
        choices |= {"n_encoder_layers": layers[0], "n_decoder_layers": layers[1]}
        model, other = draw_model(seed, dtype, **choices), draw_model(seed + 1, dtype, **choices)
        embeddings = {name: array.copy() for name, array in other.params.items() if name[:3] not in ("enc", "dec")}
        load_transformer(other, dump_transformer(model))
        outside = set(embeddings)
        assert outside == {"source_embedding.W_E", "target_embedding.W_E"} | {"output.W"} & set(other.params)
        assert_same({name: other.params[name] for name in outside}, embeddings)
        assert_same(*({n: a for n, a in m.params.items() if n not in outside} for m in (other, model)))

    @pytest.mark.parametrize(
        "choices", [{"norm_type": "rms"}, {"activation": "silu", "gated": True}, {"positions": "relative"}]
    )
    def test_a_model_that_nn_transformer_cannot_be(self, choices: dict[str, Any]) -> None:
        model, state = draw_model(0, np.float32, **choices), dump_transformer(draw_model(0, np.float32))
        for call in (lambda: dump_transformer(model), lambda: load_transformer(model, state)):
            with pytest.raises(ValueError, match=r"^model: expected one that nn\.Transformer can be, got Transformer"):
                call()

    def test_dump_is_a_contiguous_copy(self) -> None:
        model = draw_model(0, np.float32)
        before = model.params.copy()
        for array in dump_transformer(model).values():
            assert array.flags.c_contiguous and array.flags.owndata and array.flags.writeable
            array[...] = 7
        assert_same(model.params, before)

    def test_load_copies_and_does_not_change_the_state(self) -> None:
        model, state = draw_model(0, np.float32), dump_transformer(draw_model(1, np.float32))
        kept = {name: array.copy() for name, array in state.items()}
        load_transformer(model, state)
        assert_same(state, kept)
        before = model.params.copy()
        for array in state.values():
            array[...] = 7
        assert_same(model.params, before)

    def test_accepts_values_for_asarray_in_any_order_and_layout(self) -> None:
        model, source = draw_model(0, np.float64), draw_model(1, np.float64)
        state = {name: Tensor(np.asfortranarray(a)) for name, a in reversed(dump_transformer(source).items())}
        load_transformer(model, state)
        assert_same(dump_transformer(model), dump_transformer(source))

    def test_widens_and_never_narrows(self) -> None:
        narrow, wide = draw_model(0, np.float32), draw_model(1, np.float64)
        load_transformer(wide, dump_transformer(narrow))
        assert_same(dump_transformer(wide), {n: a.astype(np.float64) for n, a in dump_transformer(narrow).items()})
        with pytest.raises(ValueError, match=r"'encoder.norm.weight': expected float32 \(6,\), got float64 \(6,\)"):
            load_transformer(narrow, dump_transformer(wide))

    def test_lists_every_difference_and_changes_nothing(self) -> None:
        model = draw_model(0, np.float64)
        state = dump_transformer(draw_model(1, np.float64))
        del state["decoder.layers.1.norm3.bias"], state["encoder.norm.weight"]
        state["encoder.layers.1.norm1.weight"] = np.ones(6)
        state["decoder.layers.0.multihead_attn.in_proj_weight"] = np.zeros((12, 6))
        state["encoder.layers.0.linear1.weight"] = np.zeros((6, 7))
        message = (
            "state: missing 'decoder.layers.1.norm3.bias'; missing 'encoder.norm.weight'; "
            "unexpected 'encoder.layers.1.norm1.weight'; "
            "'encoder.layers.0.linear1.weight': expected float64 (7, 6), got float64 (6, 7); "
            "'decoder.layers.0.multihead_attn.in_proj_weight': expected float64 (18, 6), got float64 (12, 6)"
        )
        self.assert_refused(model, state, ValueError, message)

    def test_the_message_for_a_model_without_final_norms(self) -> None:
        model, state = draw_model(0, np.float64, final_norm=None), dump_transformer(draw_model(1, np.float64))
        self.assert_refused(model, state, ValueError, "unexpected 'decoder.norm.weight'")
        self.assert_refused(model, state, ValueError, "(this model has no final norms; those of nn.Tr")

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (Tensor(None), "expected an array, got Tensor: Can't call numpy()"),
            (np.zeros(6, int), "expected a floating array, got int64"),
            (np.zeros(6, complex), "expected a floating array, got complex128"),
            (None, "expected a floating array, got object"),
        ],
    )
    def test_refuses_values_that_are_no_floating_arrays(self, wrong: Any, message: str) -> None:
        state = dump_transformer(draw_model(1, np.float64)) | {"decoder.norm.bias": wrong}
        self.assert_refused(draw_model(0, np.float64), state, TypeError, f"state: 'decoder.norm.bias': {message}")

    @pytest.mark.parametrize("model", [None, {"encoder.norm.gamma": np.ones(6)}])
    def test_refuses_another_object_than_a_model(self, model: Any) -> None:
        message = f"^model: expected a Transformer, got {type(model).__name__}$"
        with pytest.raises(TypeError, match=message):
            dump_transformer(model)
        with pytest.raises(TypeError, match=message):
            load_transformer(model, dump_transformer(draw_model(1, np.float64)))

    def test_refuses_a_list(self) -> None:
        message = "state: expected a mapping of names to arrays, got list"
        self.assert_refused(draw_model(0, np.float64), [np.zeros(3)], TypeError, message)

    @staticmethod
    def assert_refused(model: Transformer, state: Any, kind: type[Exception], message: str) -> None:
        before = model.params.copy()
        with pytest.raises(kind, match=re.escape(message)):
            load_transformer(model, state)
        assert_same(model.params, before)


class TestMultiHead:
    @pytest.mark.parametrize("case", MULTI_HEAD)
    def test_state_of_pytorch_comes_back_bit_for_bit(self, case: str) -> None:
        state = MULTI_HEAD[case]["state"]
        assert_same(dump_multi_head(load_multi_head(state), packed="in_proj_weight" in state), state)

    @given(seed=SEEDS, dtype=DTYPES, E=st.integers(1, 9), bias=st.booleans(), packed=st.booleans())
    def test_parameters_come_back_bit_for_bit(
        self, seed: int, dtype: Any, E: int, bias: bool, packed: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        D_K, D_V = (E, E) if packed else (E + 1, E + 2)
        params = draw_multi_head(rng, E, D_K, D_V, bias, dtype)
        state = dump_multi_head(params, packed)
        if packed:
            assert state["in_proj_weight"].shape == (3 * E, E)
        else:
            assert state["k_proj_weight"].shape == (E, D_K) and state["v_proj_weight"].shape == (E, D_V)
        back = load_multi_head(state)
        assert list(back) == list(params)
        assert_same(back, params)

    def test_results_are_contiguous_copies(self) -> None:
        params = draw_multi_head(np.random.default_rng(0), 5, 5, 5, True, np.float64)
        for packed in (True, False):
            state = dump_multi_head(params, packed)
            for given_, got in ((params, state), (state, load_multi_head(state))):
                assert not any(np.shares_memory(a, b) for a in given_.values() for b in got.values())
                assert all(array.flags.c_contiguous and array.flags.writeable for array in got.values())

    def test_accepts_values_for_asarray(self) -> None:
        state = MULTI_HEAD["v7_multi_head.self"]["state"]
        assert_same(load_multi_head({name: Tensor(a) for name, a in state.items()}), load_multi_head(state))
        lists = {"in_proj_weight": [[1.0], [2.0], [3.0]], "out_proj.weight": [[4.0]]}
        assert load_multi_head(lists)["W_V"] == 3.0

    def test_lists_every_difference(self) -> None:
        state = dict(MULTI_HEAD["v7_multi_head.separate"]["state"])
        del state["q_proj_weight"], state["out_proj.bias"]
        state |= {"extra": np.ones(3), "k_proj_weight": np.ones((7, 6)), "out_proj.weight": np.ones((6, 5))}
        message = (
            "state: missing 'q_proj_weight'; missing 'out_proj.bias'; unexpected 'extra'; "
            "'k_proj_weight': expected float64 (6, 6), got float64 (7, 6); "
            "'out_proj.weight': expected float64 (6, 6), got float64 (6, 5)"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            load_multi_head(state)

    @pytest.mark.parametrize("state", [{}, {"out_proj.weight": np.ones(3)}, {"in_proj_weight": np.ones((4, 5))}])
    def test_refuses_fragments(self, state: dict[str, Array]) -> None:
        with pytest.raises(ValueError, match=r"state: missing '(in|out)_proj"):
            load_multi_head(state)

    def test_refuses_learned_keys_and_values(self) -> None:
        extra = {"bias_k": np.ones((1, 1, 6)), "bias_v": np.ones((1, 1, 6))}
        with pytest.raises(ValueError, match=r"expected add_bias_kv=False, got bias_k and bias_v"):
            load_multi_head(MULTI_HEAD["v7_multi_head.plain"]["state"] | extra)

    def test_refuses_to_pack_keys_of_another_width(self) -> None:
        params = draw_multi_head(np.random.default_rng(0), 4, 5, 4, True, np.float32)
        message = r"'W_K': expected float32 \(4, 4\), got float32 \(5, 4\) \(.* need packed=False\)"
        with pytest.raises(ValueError, match=message):
            dump_multi_head(params)

    def test_refuses_some_biases_and_mixed_dtypes(self) -> None:
        params = draw_multi_head(np.random.default_rng(0), 4, 4, 4, True, np.float32)
        del params["b_K"]
        params["W_V"] = params["W_V"].astype(np.float64)
        with pytest.raises(ValueError, match=r"missing 'b_K'; 'W_V': expected float32 \(4, 4\), got float64"):
            dump_multi_head(params)
