"""Right calls of every public function, which tests spoil. `RIGHT` maps a public name to a function that makes one.

Arrays that a function changes in place are made anew for every call. They are then its result.
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import npattn
from npattn import hf_weights, layers, optim, tasks, torch_weights
from npattn._internal.checks import Array
from support.calls import cotangent
from support.language_model_toys import FAMILIES, IDS, toy_language_model
from support.language_model_toys import SIZES as LANGUAGE_MODEL_SIZES
from support.right_calls import Maker, Right, pairs
from support.transformer_toys import SIZES, SRC, TGT, VARIANTS, toy_model

FOLDER = tempfile.TemporaryDirectory()
FILES = Path(FOLDER.name)
atexit.register(FOLDER.cleanup)


def named(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {"W": rng.normal(size=(3, 4)), "b": rng.normal(size=4).astype(np.float32)}


def adam(seed: int) -> Right:
    def one_step(params: Any, **options: Any) -> Any:
        adam = npattn.Adam(params, **options)
        adam.step({name: np.asarray(np.cos(array)) for name, array in params.items()})
        return params

    options = {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1, "decay": optim.is_matrix}
    return Right(one_step, {"params": named(seed), **options}, writes=("params",))


def adam_step(seed: int) -> Right:
    def step(**arguments: Any) -> Any:
        params = named(seed)
        npattn.Adam(params, lr=0.1).step(**arguments)
        return params

    also = {"grads": ("gradients", "gradient")}
    return Right(step, {"grads": named(seed + 1), "lr": 0.5, "pool": None}, also=also)


def adam_load(seed: int) -> Right:
    def load(state: Any) -> Any:
        params = named(seed)
        adam = npattn.Adam(params, lr=0.1)
        adam.load_state_dict(state)
        adam.step(named(seed + 1))
        return params

    before = npattn.Adam(named(seed))
    before.step(named(seed + 2))
    return Right(load, {"state": before.state_dict()}, also={"state": ("optimiser state",)}, takes=("state t: as",))


def clip(seed: int) -> Right:
    options = {"max_norm": 0.5, "in_place": bool(seed % 2), "pool": None}
    writes = ("grads",) if options["in_place"] else ()
    also = {"grads": ("gradients", "gradient")}
    return Right(npattn.clip_gradients, {"grads": named(seed), **options}, also=also, writes=writes)


def plain(function: Callable[..., Any], **arguments: Any) -> Maker:
    return lambda seed: Right(function, arguments)


def search(function: Callable[..., Any], **options: Any) -> Maker:
    errors = (TypeError, ValueError, IndexError, FloatingPointError)
    takes = "bad_words_ids", "ensemble ()"                    # no words and other sequences of ids, and no models
    more: dict[str, Any] = {"errors": errors, "takes": takes}
    return lambda seed: Right(function, {"model": toy_model(seed % 3), "src": SRC, **options}, **more)


def method(name: str, **arguments: Any) -> Maker:
    """A method of a small Transformer."""
    def make(seed: int) -> Right:
        return Right(getattr(toy_model(seed % 3), name), arguments)

    return make


def model_backward(seed: int) -> Right:
    model = toy_model(seed % 3)
    logits, cache = model.forward(SRC, TGT)
    return Right(lambda **arguments: dict(model.backward(**arguments)), {"dlogits": cotangent(logits), "cache": cache})


def language_model(name: str, **arguments: Any) -> Maker:
    """A method of a small language model."""
    def make(seed: int) -> Right:
        return Right(getattr(toy_language_model("gemma2", seed % 3), name), arguments)

    return make


def language_model_backward(seed: int) -> Right:
    model = toy_language_model("gemma2", seed % 3)
    logits, cache = model.forward(IDS)
    return Right(lambda **arguments: dict(model.backward(**arguments)), {"dlogits": cotangent(logits), "cache": cache})


def language_model_from_arrays(seed: int) -> Right:
    toy = toy_language_model("llama")
    arguments = {"config": toy.config, "arrays": dict(toy.params), "origin": "arrays"}
    return Right(lambda **given: npattn.LanguageModel.from_arrays(**given).params.flat, arguments, takes=("origin",))


def saved_language_model(path: Any) -> Any:
    toy_language_model("llama").save(path)
    return npattn.LanguageModel.load(path).params.flat


def load_language_model(seed: int) -> Right:
    config, state = hf_weights.dump_language_model(toy_language_model("llama"))
    return Right(
        lambda **given: hf_weights.load_language_model(**given).params.flat, {"config": config, "state": state},
        takes=("state", "config"), also={"config": ("bos_id", "d_head", "d_model", "vocab", "architectures")},
    )


MARIAN = toy_model(**VARIANTS["marian"], pad_gradient=False, max_length=24)


def load_hf_transformer(seed: int) -> Right:
    config, state = hf_weights.dump_transformer(MARIAN)
    optional = ("activation_dropout", "activation_function", "architectures", "attention_dropout", "d_model", "dropout")
    return Right(
        lambda **given: hf_weights.load_transformer(**given).params.flat, {"config": config, "state": state},
        takes=("state", "config"), also={"config": optional},
    )


def trained(call: Callable[[npattn.Trainer, dict[str, Any]], Any], **arguments: Any) -> Maker:
    def run(**given: Any) -> Any:
        model = toy_model(0, dropout=0.1)
        trainer = npattn.Trainer(model, npattn.Adam(model.params), workers=1, keep_memory=False, rng=0)
        return call(trainer, given), model.params.flat

    errors = (TypeError, ValueError, IndexError, FloatingPointError)
    return lambda seed: Right(run, arguments, errors=errors)


def trainer(seed: int) -> Right:
    model = toy_model(0, dropout=0.1)
    options = {"smoothing": 0.1, "clip": 1.0, "workers": 1, "rng": 3, "keep_memory": False, "comm": None}

    def run(**given: Any) -> Any:
        return npattn.Trainer(**given).loss_and_gradients(SRC, TGT)[0]

    return Right(run, {"model": model, "optimizer": npattn.Adam(model.params), **options})


def set_parameter(value: Any) -> Any:
    params = npattn.Parameters({"W": (3, 4)})
    params["W"] = value
    return params.flat


def parameters(**arguments: Any) -> Any:
    return dict(npattn.Parameters(**arguments))


def model(**arguments: Any) -> Any:
    return npattn.Transformer(**arguments).params.flat


def from_arrays(seed: int) -> Right:
    toy = toy_model()
    arguments = {"config": toy.config, "arrays": dict(toy.params), "origin": "arrays"}
    return Right(lambda **given: npattn.Transformer.from_arrays(**given).params.flat, arguments, takes=("origin",))


def gradients(seed: int) -> Right:
    errors = (TypeError, ValueError, IndexError, npattn.GradientError)
    X, W = np.random.default_rng(seed).normal(size=(2, 3, 3))
    arguments = {
        "forward": lambda X, W, b=None, **more: layers.linear(X, W, b), "backward": layers.linear_backward,
        "args": (X, W), "kwargs": {"b": None}, "method": "auto", "rtol": 1e-6, "rng": 0,
    }  # fmt: skip
    also = {"args": ("X", "W", "b"), "kwargs": ("b",)}
    check = npattn.check_gradients
    return Right(lambda **given: check(**given).ok, arguments, also=also, errors=errors, takes=("kwargs",))


def torch_state(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return torch_weights.dump_multi_head({f"W_{w}": rng.normal(size=(4, 4)) for w in "QKVO"})


def load_transformer(seed: int) -> Right:
    def load(**arguments: Any) -> Any:
        torch_weights.load_transformer(**arguments)
        return arguments["model"].params.flat

    toy = toy_model(final_norm=True)
    return Right(load, {"model": toy, "state": torch_weights.dump_transformer(toy)}, takes=("state",))


def saved(function: Callable[..., Any], suffix: str = ".npz", **arguments: Any) -> Maker:
    """A function that writes a file; its result is the file."""
    def run(path: Any, **given: Any) -> Any:
        function(path, **given)
        return Path(path).read_bytes()

    errors = (TypeError, ValueError, IndexError, OSError)
    given = {"path": FILES / f"saved{suffix}", **arguments}
    return lambda seed: Right(run, given, errors=errors, takes=("state",))


def loaded(function: Callable[[Any], Any]) -> Maker:
    def make(seed: int) -> Right:
        path = FILES / "model.npz"
        toy_model().save(path)
        return Right(function, {"path": path}, errors=(TypeError, ValueError, IndexError, OSError))

    return make


def tsv(seed: int) -> Right:
    PAIRS_FILE.write_text("a\tb\nc d\te\nf\tg\n", encoding="utf-8")
    arguments = {"path": PAIRS_FILE, "unit": "words", "target_unit": None}
    return Right(lambda **given: tasks.load_tsv(**given).train, arguments, errors=FILE_ERRORS)


WORDS, PAIRS_FILE = tasks.Vocabulary("ab"), FILES / "pairs.tsv"
FILE_ERRORS = (TypeError, ValueError, IndexError, OSError)
SEEDED = {"config": toy_model().config, "rng": 0, "dtype": np.float32}
RIGHT: dict[str, Maker] = pairs() | {
    "npattn.causal_mask": plain(npattn.causal_mask, N_Q=3, N_X=4, offset=1),
    "npattn.padding_mask": lambda seed: Right(
        npattn.padding_mask, {"lengths_or_ids": SRC, "N_X": None, "pad_id": 0},
        also={"lengths_or_ids": ("ids", "lengths")},
    ),
    "npattn.padding_mask of lengths": lambda seed: Right(
        npattn.padding_mask, {"lengths_or_ids": np.array([2, 0, 3]), "N_X": 4}, also={"lengths_or_ids": ("lengths",)}
    ),
    "npattn.layers.alibi_bias": plain(layers.alibi_bias, n_heads=3, N_Q=2, N_X=4, offset=1),
    "npattn.layers.rotary_frequencies": lambda seed: Right(
        layers.rotary_frequencies, takes=("turns None",),
        arguments={"rotary_width": 8, "base": 100.0, "scaling": "yarn", "s": 4.0, "original_length": 64, "length": 100,
                   "turns": (1.0, 8.0), "truncate": False, "factor": 1.2},
    ),
    "npattn.sinusoidal_positions": plain(npattn.sinusoidal_positions, N=3, D=4),
    "npattn.Adam": adam,
    "npattn.Adam.step": adam_step,
    "npattn.Adam.load_state_dict": adam_load,
    "npattn.clip_gradients": clip,
    "npattn.noam_rate": plain(npattn.noam_rate, step=3, d_model=64, warmup=40),
    "npattn.optim.linear_rate": plain(optim.linear_rate, step=3, total_steps=9, peak=0.5, warmup=4),
    "npattn.optim.cosine_rate": plain(optim.cosine_rate, step=6, total_steps=9, peak=0.5, warmup=4),
    "npattn.optim.is_matrix": lambda seed: Right(
        optim.is_matrix, {"name": "W", "parameter": np.ones((2, 3))},
        takes=("name", "parameter objects", "parameter as"),
    ),
    "npattn.Parameters": lambda seed: Right(
        parameters, {"shapes": {"W": (2, 3), "V": (2, 1)}, "dtype": "float64", "side_by_side": None},
        takes=("shapes W: (", "shapes V: ("),
    ),
    "npattn.Parameters.__setitem__": lambda seed: Right(
        set_parameter, {"value": named(seed)["W"].astype(np.float32)}, also={"value": ("W",)}, takes=("value as",)
    ),
    "npattn.TransformerConfig": plain(npattn.TransformerConfig, **SIZES, norm="pre", final_norm=True, tie="none",
                                      bias=True, activation="gelu", pad_id=0, bos_id=1, eos_id=2, norm_eps=1e-3),
    "npattn.Transformer": plain(model, **SEEDED),
    "npattn.Transformer.forward": method("forward", src=SRC, tgt=TGT, rng=None),
    "npattn.Transformer.backward": model_backward,
    "npattn.Transformer.loss_and_gradients": method("loss_and_gradients", src=SRC, tgt=TGT, smoothing=0.1, rng=None),
    "npattn.Transformer.save": saved(toy_model().save),
    "npattn.Transformer.load": loaded(lambda path: npattn.Transformer.load(path).params.flat),
    "npattn.Transformer.from_arrays": from_arrays,
    "npattn.LanguageModelConfig": lambda seed: Right(
        npattn.LanguageModelConfig, LANGUAGE_MODEL_SIZES | FAMILIES["gemma3"],
        takes=("layer_types", "rotary_sliding None", "rotary_sliding {}"),
    ),
    "npattn.LanguageModelConfig.frequencies": lambda seed: Right(
        npattn.LanguageModelConfig(**LANGUAGE_MODEL_SIZES).frequencies, {"layer_type": "full_attention", "length": 3}
    ),
    "npattn.LanguageModel": plain(
        lambda **given: npattn.LanguageModel(**given).params.flat, config=toy_language_model("gpt2").config, rng=0,
        dtype=np.float32,
    ),
    "npattn.LanguageModel.forward": language_model("forward", ids=IDS, rng=None),
    "npattn.LanguageModel.backward": language_model_backward,
    "npattn.LanguageModel.loss_and_gradients": language_model("loss_and_gradients", ids=IDS, smoothing=0.1, rng=None),
    "npattn.generate": lambda seed: Right(
        npattn.generate, errors=(TypeError, ValueError, IndexError, FloatingPointError),
        takes=("stop_id", "ids tuple", "ids list"),
        arguments={"model": toy_language_model("mistral", n_layers=1, layer_types=("sliding_attention",)),
                   "ids": IDS[:, :2], "max_new": 2, "temperature": 0.5,
                   "top_k": 3, "top_p": 0.9, "stop_id": 2, "rng": 3},
    ),
    "npattn.LanguageModel.save": saved(toy_language_model("llama").save),
    "npattn.LanguageModel.load": loaded(saved_language_model),
    "npattn.LanguageModel.from_arrays": language_model_from_arrays,
    "npattn.hf_weights.load_language_model": load_language_model,
    "npattn.hf_weights.dump_language_model": plain(
        hf_weights.dump_language_model, model=toy_language_model("llama")
    ),
    "npattn.hf_weights.dump_gradients": lambda seed: Right(
        hf_weights.dump_gradients,
        {"model": toy_language_model("llama"), "grads": dict(toy_language_model("llama", seed).params)},
    ),
    "npattn.hf_weights.load_transformer": load_hf_transformer,
    "npattn.hf_weights.dump_transformer": plain(hf_weights.dump_transformer, model=MARIAN),
    "npattn.Trainer": trainer,
    "npattn.Trainer.step": trained(
        lambda it, given: it.step(given["src"], given["tgt"], lr=given["lr"]), src=SRC, tgt=TGT, lr=0.1
    ),
    "npattn.Trainer.loss_and_gradients": trained(
        lambda it, given: it.loss_and_gradients(*given.values())[0], src=SRC, tgt=TGT
    ),
    "npattn.Trainer.load_state_dict": trained(
        lambda it, given: (it.load_state_dict(**given), it.step(SRC, TGT))[1], state={"seed": 3, "steps": 4}
    ),
    "npattn.greedy_search": search(
        npattn.greedy_search, max_len=3, workers=1, bad_words_ids=[[4, 5], [3]], forced_bos_id=4,
        ensemble=[toy_model(7)],
    ),
    "npattn.beam_search": search(
        npattn.beam_search, beam=2, max_len=3, length_penalty=0.6, workers=1, normalisation="power",
        early_stopping=False, ending="open", bad_words_ids=[[4, 5], [3]], forced_bos_id=4,
        ensemble=[toy_model(7)],
    ),
    "npattn.check_gradients": gradients,
    "npattn.torch_weights.load_transformer": load_transformer,
    "npattn.torch_weights.dump_transformer": plain(torch_weights.dump_transformer, model=toy_model(final_norm=True)),
    "npattn.torch_weights.load_multi_head": lambda seed: Right(
        torch_weights.load_multi_head, {"state": torch_state(seed)}, takes=("state",)
    ),
    "npattn.torch_weights.dump_multi_head": lambda seed: Right(
        torch_weights.dump_multi_head,
        {"params": torch_weights.load_multi_head(torch_state(seed)), "packed": True}, takes=("params",),
    ),
    "npattn.torch_weights.save_state": saved(torch_weights.save_state, state=torch_state(0)),
    "npattn.torch_weights.load_state": loaded(torch_weights.load_state),
    "npattn.tasks.load_tsv": tsv,
    "npattn.tasks.load_task": lambda seed: Right(
        lambda name: tasks.load_task(name).name, {"name": PAIRS_FILE}, also={"name": ("task",)}, errors=FILE_ERRORS
    ),
    "npattn.tasks.Codec": plain(
        lambda **given: tasks.Codec(**given).to_json(), source_vocabulary=WORDS, target_vocabulary=WORDS,
        source_unit="words", target_unit="characters", lowercase=True, max_target_length=3,
    ),
    "npattn.tasks.BucketedBatches": plain(
        lambda **given: tasks.BucketedBatches(**given)[1], pairs=[tasks.Pair([4] * n, [1, 5, 2]) for n in (3, 1, 2)],
        batch_size=2, seed=0, pool=2,
    ),
    "npattn.tasks.prediction_batches": plain(
        lambda batch_size: list(tasks.prediction_batches([[4, 5], [6]], batch_size)), batch_size=2
    ),
}  # fmt: skip
