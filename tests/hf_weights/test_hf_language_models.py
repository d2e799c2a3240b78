"""Small random models of `transformers`: golden numbers, weights that come and go, and states that do not fit."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import LanguageModel
from npattn._internal.checks import Array
from npattn.hf_weights import dump_gradients, dump_language_model, load_language_model
from support.language_model_toys import FAMILIES, toy_language_model

GOLDEN = Path(__file__).parents[1] / "golden" / "language_models.npz"
CASES = (
    "llama", "llama-linear", "llama-dynamic", "llama-yarn", "llama-yarn-mscale", "llama-llama3", "mistral", "qwen3",
    "olmo2", "gemma2", "gemma3", "gpt2",
)  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES)


@functools.cache
def golden() -> dict[str, dict[str, Any]]:
    """Return case → name → numbers; `state` and `grad` are mappings of names to arrays."""
    cases: dict[str, dict[str, Any]] = {}
    with np.load(GOLDEN) as archive:
        for key in archive.files:
            case, kind, *name = key.split("/")
            found = cases.setdefault(case, {"state": {}, "grad": {}})
            if kind == "state":
                found[kind][name[0]] = archive[key] / 64
            elif kind == "grad":
                found[kind][name[0]] = archive[key]
            else:
                found[kind] = archive[key]
    return cases


def given(case: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return copies of the configuration and the state of a case."""
    return json.loads(str(golden()[case]["config"])), dict(golden()[case]["state"])


def loaded(case: str) -> LanguageModel:
    return load_language_model(*given(case))


def difference(ours: Any, theirs: Any) -> float:
    """Return the largest difference, relative to the largest number."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


class TestGolden:
    @each_case
    def test_logits_loss_and_every_gradient(self, case: str) -> None:
        wanted, model = golden()[case], loaded(case)
        ids = wanted["ids"].astype(int)
        assert difference(model.forward(ids[:, :-1])[0], wanted["logits"]) < 1e-12
        loss, grads = model.loss_and_gradients(ids)
        assert abs(loss - wanted["loss"]) < 1e-12
        named = dump_gradients(model, grads)
        assert named.keys() == wanted["grad"].keys()
        largest = max(float(np.abs(theirs).max()) for theirs in wanted["grad"].values())
        for name, theirs in wanted["grad"].items():
            assert np.abs(named[name] - theirs).max() < 1e-10 * max(float(np.abs(theirs).max()), 1e-4 * largest), name

    @pytest.mark.parametrize("case", [case for case in CASES if case.startswith("llama-")])
    def test_the_scaling_matters(self, case: str) -> None:
        config, state = given(case)
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": config["rope_parameters"]["rope_theta"]}
        model = load_language_model(config, state)
        assert difference(model.forward(golden()[case]["ids"][:, :-1].astype(int))[0], golden()[case]["logits"]) > 1e-3

    @pytest.mark.parametrize(("case", "key", "value"), [
        ("mistral", "sliding_window", 4), ("qwen3", "sliding_window", 3), ("qwen3", "max_window_layers", 0),
        ("olmo2", "rms_norm_eps", 1e-6), ("gemma2", "query_pre_attn_scalar", 6), ("gemma2", "sliding_window", 4),
        ("gemma2", "attn_logit_softcapping", 0.9), ("gemma2", "final_logit_softcapping", None),
        ("gemma3", "sliding_window", 2), ("gemma3", "hidden_activation", "gelu"), ("gpt2", "scale_attn_weights", False),
        ("gpt2", "activation_function", "gelu"), ("llama", "rms_norm_eps", 0.1), ("llama", "hidden_act", "relu"),
    ])  # fmt: skip
    def test_each_setting_matters(self, case: str, key: str, value: Any) -> None:
        config, state = given(case)
        assert config[key] != value
        config |= {key: value, "layer_types": None} if "window" in key else {key: value}
        if case == "llama" and key == "hidden_act":           # a gate has no relu here
            with pytest.raises(ValueError, match=r'^gated: expected False for activation="relu", got True$'):
                load_language_model(config, state)
            return
        if case == "gemma3":
            config |= {"layer_types": ["sliding_attention", "full_attention"]}
        model = load_language_model(config, state)
        assert difference(model.forward(golden()[case]["ids"][:, :-1].astype(int))[0], golden()[case]["logits"]) > 1e-6


class TestComeAndGo:
    @each_case
    def test_without_a_bit_lost(self, case: str) -> None:
        (config, state), model = given(case), loaded(case)
        dumped_config, dumped = dump_language_model(model)
        assert dumped_config["model_type"] == config["model_type"]
        assert dumped_config["architectures"] == config["architectures"] or config["architectures"] is None
        assert dumped_config["dtype"] == "float64"
        assert dumped.keys() == state.keys()
        for name, array in state.items():
            assert np.array_equal(dumped[name], array) and dumped[name].flags.c_contiguous, name
            assert not np.shares_memory(dumped[name], model.params.flat)
        twin = load_language_model(json.loads(json.dumps(dumped_config)), dumped)
        assert twin.config == model.config and twin.params == model.params

    @pytest.mark.parametrize("family", FAMILIES)
    def test_random_bits(self, family: str) -> None:
        if family == "gpt2":
            model = toy_language_model(family, d_model=8, d_head=2, dropout=0.25, attention_dropout=0.5, eos_id=(2, 3))
        else:
            scale = {"attention_scale": 5**-0.5} if family.startswith("gemma") else {}
            model = toy_language_model(family, bos_id=1, eos_id=(2, 3), **scale)
        config, state = dump_language_model(model)
        assert config["eos_token_id"] == [2, 3]
        twin = load_language_model(config, state)
        assert twin.config == model.config and twin.params == model.params

    @pytest.mark.parametrize(("dtypes", "wanted"), [
        (("float16",), "float32"), (("float32",), "float32"), (("float64",), "float64"),
        (("float16", "float32"), "float32"), (("float32", "float64"), "float64"),
    ])  # fmt: skip
    def test_the_widest_dtype(self, dtypes: tuple[str, ...], wanted: str) -> None:
        config, state = given("qwen3")
        narrow = {name: a.astype(dtypes[i % len(dtypes)]) for i, (name, a) in enumerate(state.items())}
        model = load_language_model(config, narrow)
        assert model.params.flat.dtype == wanted              # multiples of 1/64 fit into float16
        assert all(np.array_equal(a, state[name]) for name, a in dump_language_model(model)[1].items())

    def test_lists_are_arrays(self) -> None:
        config, state = given("qwen3")
        assert load_language_model(config, {n: a.tolist() for n, a in state.items()}).params == loaded("qwen3").params

    def test_a_body_alone_and_old_buffers(self) -> None:
        config, state = given("gpt2")
        bare = {name.removeprefix("transformer."): array for name, array in state.items()}
        bare |= {"h.0.attn.bias": np.ones((1, 1, 9, 9), bool), "h.1.attn.masked_bias": np.array(-1e4)}
        assert load_language_model(config, bare).params == loaded("gpt2").params
        config, state = given("llama")
        state["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(3)
        assert load_language_model(config, state).params == loaded("llama").params
        config["tie_word_embeddings"] = True
        bare = {name.removeprefix("model."): array for name, array in state.items()}
        bare["lm_head.weight"] = bare["embed_tokens.weight"].copy()
        assert load_language_model(config, bare).config.tie


class TestStates:
    @pytest.mark.parametrize("case", ["qwen3", "gpt2"])
    def test_a_tied_weight_must_be_the_embedding(self, case: str) -> None:
        config, state = given(case)
        name = "transformer.wte.weight" if case == "gpt2" else "model.embed_tokens.weight"
        state["lm_head.weight"] = state[name].copy()
        assert load_language_model(config, state).params == loaded(case).params
        state["lm_head.weight"][0, 0] += 1
        message = f"state: 'lm_head.weight': expected the numbers of '{name}', as tie_word_embeddings is true"
        with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
            load_language_model(config, state)
        del state[name]
        with pytest.raises(ValueError, match=rf"^state: missing '{name}'$"):
            load_language_model(config, state)

    def test_names_and_shapes(self) -> None:
        config, state = given("llama")
        state["model.layers.0.self_attn.sinks"] = np.ones(4)
        state["model.norm.weight"] = np.ones(3)
        del state["lm_head.weight"]
        message = (
            "state: missing 'lm_head.weight'; unexpected 'model.layers.0.self_attn.sinks'; 'model.norm.weight': "
            "expected float64 (12,), got float64 (3,)"
        )
        with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
            load_language_model(config, state)

    def test_shapes_of_stacks(self) -> None:
        config, state = given("gpt2")
        state["transformer.h.1.attn.c_attn.weight"] = np.ones((36, 12))
        with pytest.raises(ValueError, match=r"expected float64 \(12, 36\), got float64 \(36, 12\)$"):
            load_language_model(config, state)

    def test_what_is_no_state(self) -> None:
        config, state = given("llama")
        with pytest.raises(TypeError, match=r"^state: expected a mapping of names to arrays, got list$"):
            load_language_model(config, [])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^state: 'model.norm.weight': expected a floating array, got int64$"):
            load_language_model(config, state | {"model.norm.weight": np.ones(12, int)})
        with pytest.raises(ValueError, match=r"^state: missing 'model.layers.0.self_attn.q_proj.weight'; "):
            load_language_model(config, {})


    @pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="it is float64 here")
    def test_no_wider_dtype(self) -> None:
        config, state = given("llama")
        wide = {name: array.astype(np.longdouble) for name, array in state.items()}
        with pytest.raises(TypeError, match=r"^state: expected no wider dtype than float64, got float\d+$"):
            load_language_model(config, wide)


class TestDumps:
    def test_choices_that_no_family_has(self) -> None:
        for options, message in (
            ({"pairing": "neighbours"}, "LlamaForCausalLM of Hugging Face has no pairing='neighbours'"),
            ({"dropout": 0.5, "gated": False}, "LlamaForCausalLM of Hugging Face has no gated=False, dropout=0.5"),
            ({"layer_types": ("sliding_attention", "full_attention"), "window": 2},
             "LlamaForCausalLM of Hugging Face has no layer_types=('sliding_attention', 'full_attention'), window=2"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=rf"^model: {re.escape(message)}$"):
                dump_language_model(toy_language_model("llama", **options))

    def test_gradients_that_do_not_fit(self) -> None:
        model = loaded("llama")
        grads = dict(model.params)
        with pytest.raises(ValueError, match=r"^grads: missing 'output.W'$"):
            dump_gradients(model, {name: array for name, array in grads.items() if name != "output.W"})
        with pytest.raises(ValueError, match=r"^grads: 'norm.gamma': expected float64 \(12,\), got float32 \(12,\)$"):
            dump_gradients(model, grads | {"norm.gamma": np.ones(12, np.float32)})

        with pytest.raises(TypeError, match=r"^grads: expected a mapping of names to NumPy arrays, got list$"):
            dump_gradients(model, [])  # type: ignore[arg-type]

    def test_what_is_no_model(self) -> None:
        for call in (dump_language_model, lambda model: dump_gradients(model, {})):
            with pytest.raises(TypeError, match=r"^model: expected a LanguageModel, got int$"):
                call(3)
