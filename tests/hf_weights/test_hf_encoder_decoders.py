"""Small random T5, Marian and BART of `transformers`: golden numbers, weights that come and go, what does not fit."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import Transformer, TransformerConfig, beam_search, greedy_search
from npattn._internal.checks import Array
from npattn.hf_weights import dump_gradients, dump_transformer, load_transformer
from npattn.hf_weights.encoder_decoder_configs import read_config
from npattn.hf_weights.encoder_decoders import is_sinusoidal, load_and_forget
from npattn.transformer.variants import sinusoids_in_halves
from support.transformer_toys import toy_model

GOLDEN = Path(__file__).parents[1] / "golden" / "encoder_decoders.npz"
CASES = ("t5", "t5-gated", "marian", "marian-two", "bart")
each_case = pytest.mark.parametrize("case", CASES)


@functools.cache
def golden() -> dict[str, dict[str, Any]]:
    """Return case → name → numbers; `state`, `grad` and `found` are mappings of names to arrays."""
    cases: dict[str, dict[str, Any]] = {}
    with np.load(GOLDEN) as archive:
        for key in archive.files:
            case, kind, *name = key.split("/")
            found = cases.setdefault(case, {"state": {}, "grad": {}, "found": {}})
            if name:
                found[kind][name[0]] = archive[key] / 64 if kind == "state" else archive[key]
            else:
                found[kind] = archive[key].astype(int) if archive[key].dtype == np.int8 else archive[key]
    return cases


def given(case: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return copies of the configuration and the state of a case."""
    return json.loads(str(golden()[case]["config"])), dict(golden()[case]["state"])


def loaded(case: str, **options: Any) -> Transformer:
    config, state = given(case)
    return load_transformer(config | options, state)


def wrong_by(case: str, model: Transformer) -> float:
    """Return the largest difference of the logits at real tokens, relative to the largest logit."""
    wanted, tgt = golden()[case], golden()[case]["tgt"][:, :-1]
    ended = np.cumsum(tgt == model.config.eos_id, 1) > (tgt[:, :1] == model.config.eos_id)
    logits, _ = model.forward(wanted["src"], tgt)
    assert (~ended).sum() == 18 and logits.shape == wanted["logits"].shape
    return float(np.abs(logits - wanted["logits"])[~ended].max() / np.abs(wanted["logits"]).max())


class TestGolden:
    @each_case
    def test_logits_loss_and_every_gradient(self, case: str) -> None:
        wanted, model = golden()[case], loaded(case)
        assert wrong_by(case, model) < 1e-12
        loss, grads = model.loss_and_gradients(wanted["src"], wanted["tgt"], 0.0)
        assert abs(loss - wanted["loss"]) < 1e-12
        named = dump_gradients(model, grads)
        assert named.keys() - wanted["grad"].keys() == (set() if case.startswith("t5") else {"final_logits_bias"})
        largest = max(float(np.abs(theirs).max()) for theirs in wanted["grad"].values())
        for name, theirs in wanted["grad"].items():
            assert np.abs(named[name] - theirs).max() < 1e-10 * max(float(np.abs(theirs).max()), 1e-4 * largest), name

    @pytest.mark.parametrize(("case", "key", "value"), [
        ("t5", "relative_attention_max_distance", 9), ("t5", "layer_norm_epsilon", 0.1),
        ("t5", "feed_forward_proj", "silu"), ("t5", "scale_decoder_outputs", False),
        ("t5-gated", "feed_forward_proj", "gated-gelu_new"), ("t5-gated", "feed_forward_proj", "gated-silu"),
        ("marian", "activation_function", "gelu"), ("marian", "scale_embedding", False),
        ("bart", "activation_function", "gelu_new"), ("bart", "scale_embedding", True),
    ])  # fmt: skip
    def test_each_setting_matters(self, case: str, key: str, value: Any) -> None:
        same = case == "t5-gated" and value == "gated-gelu_new"
        more = {"dense_act_fn": None} if key == "feed_forward_proj" else {}
        assert golden()[case]["config"] != value
        assert (wrong_by(case, loaded(case, **{key: value}, **more)) < 1e-12) is same


def searched(model: Transformer, sources: Array, settings: dict[str, Any]) -> list[list[list[int]]]:
    """Return the targets that our searches find for each source with the settings of `generate`; 10 tokens at most."""
    forced = model.config.positions != "relative"             # Marian and BART have a forced_eos_token_id
    max_len = 9 if forced else 10
    options: dict[str, Any] = {
        "bad_words_ids": settings.get("bad_words_ids", []), "forced_bos_id": settings.get("forced_bos_token_id"),
    }  # fmt: skip
    if settings["num_beams"] == 1:
        return [[target] for target in greedy_search(model, sources, max_len, **options)]
    found = beam_search(
        model, sources, settings["num_beams"], max_len, settings["length_penalty"], normalisation="power",
        early_stopping=settings.get("early_stopping", False), ending="forced" if forced else "open", **options,
    )  # fmt: skip
    return [[each.ids for each in hypotheses[: settings.get("num_return_sequences", 1)]] for hypotheses in found]


class TestGenerate:
    @each_case
    def test_the_ids_of_generate(self, case: str) -> None:
        """50 sources, every setting of `searches`: the same ids, in the same order where there are several for each."""
        wanted, model = golden()[case], loaded(case)
        eos = model.config.eos_id
        for i, settings in enumerate(json.loads(str(wanted["searches"]))):
            ids = wanted["found"][str(i)][:, 1:].tolist()     # without the start token
            theirs = [row[: row.index(eos)] if eos in row else row for row in ids]
            ours = searched(model, wanted["sources"], settings)
            assert len(ours) == 50 and [each for found in ours for each in found] == theirs, settings


class TestComeAndGo:
    @each_case
    def test_without_a_bit_lost(self, case: str) -> None:
        (config, state), model = given(case), loaded(case)
        dumped_config, dumped = dump_transformer(model)
        config["activation_function"] = {"swish": "silu"}.get(config.get("activation_function"), "gelu")
        same = (config.keys() & dumped_config.keys()) - CHANGED
        assert {key: config[key] for key in same} == {key: dumped_config[key] for key in same} and len(same) > 12
        assert dumped_config["dtype"] == "float64" and dumped.keys() == state.keys()
        for name, array in state.items():
            assert np.array_equal(dumped[name], array) and dumped[name].flags.c_contiguous, name
            assert not np.shares_memory(dumped[name], model.params.flat)
        twin = load_transformer(json.loads(json.dumps(dumped_config)), dumped)
        assert twin.config == model.config and twin.params == model.params

    @each_case
    def test_every_key_of_a_config_is_written(self, case: str) -> None:
        """A model whose choices all differ from what its family has by default."""
        model = loaded(case)
        other = {"dropout": 0.25, "n_encoder_layers": 0, "n_decoder_layers": 1, "norm_eps": 1e-5}
        if case.startswith("t5"):
            other |= {"attention_dropout": 0.25, "activation_dropout": 0.25, "norm_eps": 0.5, "activation": "silu",
                      "relative_buckets": 9, "relative_max_distance": 33}
        else:
            other |= {"attention_dropout": 0.5, "activation_dropout": 0.125, "activation": "gelu_tanh"}
        config = dataclasses.replace(model.config, **other)
        found, state = dump_transformer(Transformer(config, rng=3))
        assert load_transformer(found, state).config == config and found["dtype"] == "float32"

    @pytest.mark.parametrize("case", ["t5", "marian", "marian-two", "bart"])
    def test_a_state_with_every_name_of_a_tied_weight(self, case: str) -> None:
        config, state = given(case)
        prefix = "" if case == "t5" else "model."
        shared = state.get(f"{prefix}shared.weight")
        if shared is None:
            state["lm_head.weight"] = state["model.decoder.embed_tokens.weight"]
        else:
            names = (f"{prefix}encoder.embed_tokens.weight", f"{prefix}decoder.embed_tokens.weight", "lm_head.weight")
            state |= dict.fromkeys(names, shared)
        assert load_transformer(config, state).params == loaded(case).params
        if shared is not None:                                # a file may keep one name, and any of them
            for name in (f"{prefix}shared.weight", "lm_head.weight", f"{prefix}encoder.embed_tokens.weight"):
                del state[name]
            assert load_transformer(config, state).params == loaded(case).params

    def test_a_file_of_the_body_alone_has_no_prefix_and_no_bias(self) -> None:
        config, state = given("bart")
        state["lm_head.weight"] = state["model.shared.weight"]
        whole = load_transformer(config, {name.removeprefix("model."): array for name, array in state.items()})
        assert whole.params == loaded("bart").params
        del state["final_logits_bias"]
        model = load_transformer(config, {name.removeprefix("model."): array for name, array in state.items()})
        assert not model.params["output.b"].any()
        twin = loaded("bart")
        twin.params["output.b"][:] = 0
        assert model.params == twin.params

    def test_what_older_files_hold_beside_the_weights(self) -> None:
        config, state = given("bart")
        state |= {"encoder.version": np.zeros(1), "model.decoder.version": np.zeros(1)}
        assert load_transformer(config, state).params == loaded("bart").params
        config, state = given("t5")
        state["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = np.zeros((6, 2))
        assert load_transformer(config, state).params == loaded("t5").params

    def test_the_table_of_positions_of_marian(self) -> None:
        config, state = given("marian")
        angle = np.arange(24)[:, None] / 10000 ** (np.arange(4) / 4)
        table = np.concatenate([np.sin(angle), np.cos(angle)], 1)
        state |= {f"model.{side}.embed_positions.weight": table for side in ("encoder", "decoder")}
        assert load_transformer(config, state).params == loaded("marian").params
        for dtype, eps in ((np.float16, 2.0**-10), (np.float32, 2.0**-23), (np.float64, 2.0**-23)):
            assert is_sinusoidal(table.astype(dtype), 8) and is_sinusoidal(table.astype(dtype) + dtype(eps / 2), 8)
            assert not is_sinusoidal(table.astype(dtype) + dtype(1.5 * eps), 8)
        upper = (table.astype(np.float32).view("<u4") >> 16).astype("<u2")
        assert is_sinusoidal(upper.view("V2"), 8) and not is_sinusoidal((upper + np.uint16(9)).view("V2"), 8)
        assert not is_sinusoidal(sinusoids_in_halves(5, 6), 8) and is_sinusoidal(sinusoids_in_halves(5, 6), 6)
        edge = sinusoids_in_halves(5, 6).astype(float)
        edge[0, 0] = 2.0**-23                                 # sin 0
        assert not is_sinusoidal(edge, 6)
        for wrong in (table + 1e-5, table[:, ::-1], table[:, 0]):
            with pytest.raises(ValueError) as caught:
                load_transformer(config, state | {"model.decoder.embed_positions.weight": wrong})
            assert str(caught.value) == (
                "state: 'model.decoder.embed_positions.weight': expected the sines and cosines of positions, got others"
            )

    def test_what_was_read_is_forgotten(self) -> None:
        calls: list[int] = []
        load_and_forget(*given("t5"), lambda: calls.append(1))
        assert len(calls) > 40

    def test_float16_becomes_float32(self) -> None:
        config, state = given("t5-gated")
        model = load_transformer(config, {name: array.astype(np.float16) for name, array in state.items()})
        assert model.params.flat.dtype == np.float32 and model.params == loaded("t5-gated").params


class TestChoices:
    """Every field that a family has, and what is there when a configuration does not say."""

    def test_t5(self) -> None:
        config, state = given("t5")
        rates = {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1, "final_dropout": True}
        wanted = TransformerConfig(
            13, 13, 8, 2, 7, 2, 2, **rates, norm="pre", norm_type="rms", norm_eps=1e-6, bias=False, tie="all",
            pad_id=0, bos_id=0, eos_id=1, d_head=3, positions="relative", relative_buckets=6, relative_max_distance=7,
            attention_scale=1.0, scale_embedding=False, scale_output=True,
        )  # fmt: skip
        assert load_transformer(config, state).config == wanted
        short = {key: config[key] for key in ("model_type", "vocab_size", "d_model", "d_ff", "num_layers", "num_heads")}
        found = read_config(short, own_output=False)
        assert found == dataclasses.replace(wanted, d_head=64, relative_buckets=32, relative_max_distance=128)
        assert read_config(short | {"num_decoder_layers": 5, "feed_forward_proj": "gated-silu"}, True) == (
            dataclasses.replace(found, n_decoder_layers=5, gated=True, activation="silu", tie="embeddings")
        )

    def test_marian_and_bart(self) -> None:
        wanted = TransformerConfig(
            13, 13, 8, 2, 7, 2, 1, activation="silu", tie="all", pad_id=12, bos_id=12, eos_id=0, max_length=24,
            positions="sinusoidal_halves", output_bias=True, pad_gradient=False,
        )  # fmt: skip
        assert loaded("marian").config == wanted
        assert loaded("marian-two").config == dataclasses.replace(wanted, tgt_vocab=15, tie="output")
        sides = ("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads")
        config, _ = given("marian")
        names = ("model_type", "d_model", *sides, "encoder_ffn_dim", "decoder_ffn_dim")
        short = {key: config[key] for key in names} | {"vocab_size": 58101}
        assert read_config(short, False) == dataclasses.replace(
            wanted, src_vocab=58101, tgt_vocab=58101, pad_id=58100, bos_id=58100, activation="gelu", max_length=1024,
            scale_embedding=False,
        )  # fmt: skip
        wanted = dataclasses.replace(
            wanted, n_encoder_layers=1, n_decoder_layers=2, activation="gelu", pad_id=1, bos_id=2, eos_id=2,
            positions="learned", position_offset=2, embedding_norm=True, scale_embedding=False,
        )  # fmt: skip
        assert loaded("bart").config == wanted
        short |= {"model_type": "bart", "vocab_size": 13, "encoder_layers": 1, "decoder_layers": 2}
        assert read_config(short, False) == dataclasses.replace(wanted, max_length=1024)


CHANGED = {"architectures", "dtype", "tie_word_embeddings", "transformers_version"}


class TestErrors:
    @pytest.mark.parametrize(("case", "options", "message"), [
        ("t5", {"model_type": "mt5"}, "model_type: expected one of t5, marian, bart, got 'mt5'"),
        ("t5", {"model_type": ["t5"]}, "model_type: expected one of t5, marian, bart, got ['t5']"),
        ("t5", {"is_decoder": True}, "is_decoder: expected False, got True"),
        ("t5", {"is_encoder_decoder": False}, "is_encoder_decoder: expected True, got False"),
        ("t5", {"tie_encoder_decoder": True}, "tie_encoder_decoder: expected False, got True"),
        ("t5", {"attention_type": "local"}, "attention_type: not supported for t5, got 'local'"),
        ("t5", {"feed_forward_proj": "glued-gelu"}, "feed_forward_proj: expected φ or gated-φ, got 'glued-gelu'"),
        ("t5", {"feed_forward_proj": "mish", "dense_act_fn": None},
         "activation: expected one of silu, swish, gelu, gelu_pytorch_tanh, gelu_new, relu, got 'mish'"),
        ("t5", {"dense_act_fn": "gelu"}, "dense_act_fn: expected relu, as feed_forward_proj says, got 'gelu'"),
        ("t5-gated", {"is_gated_act": False}, "is_gated_act: expected True, as feed_forward_proj says, got False"),
        ("marian", {"normalize_before": True}, "normalize_before: expected False, got True"),
        ("marian", {"normalize_embedding": True}, "normalize_embedding: expected False, got True"),
        ("marian", {"static_position_embeddings": False}, "static_position_embeddings: expected True, got False"),
        ("marian", {"encoder_layerdrop": 0.1}, "encoder_layerdrop: expected 0.0, got 0.1"),
        ("marian", {"tie_word_embeddings": False}, "tie_word_embeddings: expected True, got False"),
        ("marian", {"decoder_ffn_dim": 9}, "decoder_ffn_dim: expected encoder_ffn_dim=7, got 9"),
        ("bart", {"decoder_attention_heads": 4}, "decoder_attention_heads: expected encoder_attention_heads=2, got 4"),
        ("bart", {"normalize_embedding": False}, "normalize_embedding: expected True, got False"),
        ("bart", {"extra_pos_embeddings": 3}, "extra_pos_embeddings: expected 2, got 3"),
        ("bart", {"static_position_embeddings": True}, "static_position_embeddings: expected False, got True"),
    ])  # fmt: skip
    def test_a_setting_that_is_not_supported_is_named(self, case: str, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError) as caught:
            loaded(case, **options)
        assert str(caught.value) == f"config: {message}"

    def test_a_missing_key(self) -> None:
        config, state = given("bart")
        del config["encoder_layers"]
        with pytest.raises(ValueError, match=r"^config: missing encoder_layers$"):
            load_transformer(config, state)

    @pytest.mark.parametrize(("given_config", "given_state", "message"), [
        ([], {}, "config: expected a mapping, a parsed config.json, got list"),
        ({"model_type": "t5"}, [], "state: expected a mapping of names to arrays, got list"),
        (given("bart")[0] | {"encoder_ffn_dim": "7"}, {}, "config: encoder_ffn_dim: expected an integer, got '7'"),
        (given("bart")[0] | {"decoder_attention_heads": 2.0}, {},
         "config: decoder_attention_heads: expected an integer, got 2.0"),
        (given("marian")[0] | {"share_encoder_decoder_embeddings": 1}, {},
         "config: share_encoder_decoder_embeddings: expected True or False, got 1"),
    ])
    def test_types(self, given_config: Any, given_state: Any, message: str) -> None:
        with pytest.raises(TypeError) as caught:
            load_transformer(given_config, given_state)
        assert str(caught.value) == message

    def test_a_tied_weight_with_other_numbers(self) -> None:
        config, state = given("bart")
        state["lm_head.weight"] = state["model.shared.weight"] + 1
        message = "state: 'lm_head.weight': expected the numbers of 'model.shared.weight', to which it is tied"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            load_transformer(config, state)

    def test_names_and_shapes(self) -> None:
        config, state = given("t5")
        state["encoder.final_layer_norm.bias"] = state.pop("encoder.final_layer_norm.weight")[:3]
        with pytest.raises(ValueError) as caught:
            load_transformer(config, state)
        assert str(caught.value) == (
            "state: missing 'encoder.final_layer_norm.weight'; unexpected 'encoder.final_layer_norm.bias'"
        )

    @pytest.mark.parametrize("shape", [(2, 13), (13, 1), (1, 1, 13), (1, 12)])
    def test_a_bias_of_another_shape(self, shape: tuple[int, ...]) -> None:
        config, state = given("bart")
        with pytest.raises(ValueError, match=r"^state: 'final_logits_bias': expected float64 \(13,\), got float64"):
            load_transformer(config, state | {"final_logits_bias": np.zeros(shape)})

    def test_a_model_that_no_family_has(self) -> None:
        with pytest.raises(ValueError) as caught:
            dump_transformer(toy_model())
        assert str(caught.value) == (
            "model: MarianMTModel of Hugging Face has no positions='sinusoidal', max_length=None, output_bias=False, "
            "pad_gradient=True"
        )
        with pytest.raises(TypeError, match=r"^model: expected a Transformer, got str$"):
            dump_transformer("model")  # type: ignore[arg-type]
