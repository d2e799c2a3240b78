"""A typed program that uses every public name. mypy checks it in .ci/run; test_house.py sees that none is missing.

It is not run. A misspelt name must be an error for a type checker, and stay one: `warn_unused_ignores` makes the last
line an error as soon as it is none any more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import npattn
from npattn.attention import v7_multi_head


def attend(rng: np.random.Generator) -> float:
    """Attention, whole and in tiles, with masks; a version; positions."""
    Q, K, V = rng.normal(size=(2, 4, 8)), rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 5, 3))
    mask = npattn.causal_mask(4, 5) & npattn.padding_mask(np.array([5, 3]))[:, 0]
    Y, cache = npattn.scaled_dot_product_attention(Q, K, V, mask, scale=0.5)
    dQ, dK, dV, dbias = npattn.scaled_dot_product_attention_backward(Y, cache)
    tiled, tiled_cache = npattn.tiled_attention(Q, K, V, mask, tile=2, workers=1)
    npattn.tiled_attention_backward(tiled, tiled_cache)
    Z, _ = v7_multi_head.forward(Q[0], K[0], *rng.normal(size=(4, 8, 8)), n_heads=2)
    A = npattn.layers.softmax(Z + npattn.sinusoidal_positions(4, 8))
    assert dbias is None and len(npattn.attention.VERSIONS) == 7
    return float(A.sum() + dQ.sum() + dK.sum() + dV.sum())


def check() -> str:
    """The gradient checker."""
    try:
        report: npattn.GradientReport = npattn.check_gradients(
            npattn.layers.relu, npattn.layers.relu_backward, (np.ones(3),)
        )
        npattn.check_layer(object(), np.ones(3), rtol=0.1)
    except npattn.GradientError as error:
        report = error.report
    except TypeError:
        report = npattn.GradientReport("object", "complex-step", 0.1, ())
    return f"{npattn.__version__} {report.max_error:.1e} {npattn.gradcheck.GradientReport.__name__}"


def judge() -> str:
    """The conformance kit."""
    kit = npattn.conformance
    report: kit.Report = kit.judge(npattn.scaled_dot_product_attention, only=("causal",), dtype="float32")
    kit.cases("softmax")[0].check(npattn.layers.softmax, npattn.layers.softmax_backward)
    return f"{report.ok} {report.counts} {report}"


def study() -> float:
    """Every number of a forward and its backward."""
    npattn.explore("v4", switches={"no_sqrt_D": True}).save("v4.html")
    found = npattn.trace(npattn.attention.v4_multiple_queries, (np.ones((2, 3)), np.ones((4, 3))), np.ones((2, 3)))
    for name, value in found.items():
        print(name, value.array, value.gradient, [line.code for line in value.lines])
    return found.derivative("E", (0, 1)) + float(found.derivative("A").sum()) + max(found.errors().values())


def train(path: Path) -> list[list[int]]:
    """A model, an optimiser, a trainer, a file and the two searches."""
    config = npattn.TransformerConfig(12, 12, d_model=32, n_heads=4, d_ff=64, norm="pre")
    model = npattn.Transformer(config, rng=0, dtype=np.float32)
    parameters: npattn.Parameters = model.params
    optimizer = npattn.Adam(parameters, lr=npattn.noam_rate(1, config.d_model, 100))
    trainer = npattn.Trainer(model, optimizer, clip=1.0)
    src, tgt = np.array([[4, 5, 6]]), np.array([[1, 5, 2]])
    try:
        loss: float = trainer.step(src, tgt)
    except npattn.RanksDiffer:
        loss = float("nan")
    loss, grads = model.loss_and_gradients(src, tgt)
    clipped, norm = npattn.clip_gradients(grads, 1.0)
    optimizer.step(clipped, lr=npattn.optim.linear_rate(1, 10, 1e-3, 2) if norm > loss else None)
    model.save(path)
    try:
        model = npattn.Transformer.load(path)
    except npattn.CheckpointError:
        state = npattn.torch_weights.dump_transformer(model)
        npattn.torch_weights.load_transformer(model, state)
    best: npattn.Hypothesis = npattn.beam_search(model, src, beam=2)[0][0]
    return [best.ids, *npattn.greedy_search(model, src, max_len=3)]


def exchange(path: Path) -> npattn.LanguageModel:
    """A language model, its file, and its weights under Hugging Face's names."""
    config = npattn.LanguageModelConfig(
        9, d_model=8, n_layers=1, n_heads=2, rotary=npattn.language_model.RotarySettings(scaling="linear", s=2.0)
    )
    model = npattn.LanguageModel(config, rng=0)
    loss, grads = model.loss_and_gradients(np.array([[4, 5, 6]]), smoothing=0.1)
    loss += npattn.Trainer(model, npattn.Adam(model.params)).step(np.array([[4, 5, 6]]), lr=1e-3)
    logits, cache = model.forward(np.array([[4, 5, 6]]))
    model.backward(loss * logits, cache).flat[:] = 0
    texts: list[list[int]] = npattn.generate(model, [np.array([4]), np.array([5, 6])], 3, top_p=0.9, stop_id=2, rng=0)
    assert len(texts) == 2
    model.save(path)
    named = npattn.hf_weights.dump_gradients(npattn.LanguageModel.load(path), grads)
    settings, state = npattn.hf_weights.dump_language_model(model)
    npattn.hf_weights.save_folder(path.parent, model)
    assert named.keys() == state.keys() and npattn.hf_weights.load_folder(path.parent).config == config
    return npattn.hf_weights.load_language_model(settings, state)


def translate(settings: dict[str, Any], state: dict[str, Any]) -> list[list[int]]:
    """An encoder–decoder of Hugging Face, and its search as `generate` does it."""
    model = npattn.hf_weights.load_transformer(settings, state)
    src = np.array([[4, 5, 6]])
    loss, grads = model.loss_and_gradients(src, src, 0.0)
    assert npattn.hf_weights.dump_gradients(model, grads).keys() == npattn.hf_weights.dump_transformer(model)[1].keys()
    found: list[list[npattn.Hypothesis]] = npattn.beam_search(
        model, src, 4, 9, loss, normalisation="power", early_stopping=False, ending="forced", bad_words_ids=[[4]],
        ensemble=[model],
    )
    return [found[0][0].ids, *npattn.greedy_search(model, src, 9, bad_words_ids=[], forced_bos_id=3)]


def use(task: str) -> bool:
    """Tasks, runs, pictures, memory."""
    items = npattn.tasks.load_task(task).test
    model, codec, _ = npattn.load_model("g2p")
    texts: list[str] = npattn.runs.predict(model, codec, [item.source for item in items])
    held_out: list[bytes] = npattn.tasks.load_task("text", files=[task]).parts[2]
    written = npattn.runs.load_text_model(task)
    texts.append(written.decode(written.encode(str(len(held_out)))))
    npattn.plot.attention_map(np.eye(2), ["a", "b"])
    shapes = npattn.transformer.TransformerConfig(5, 5).shapes()
    return npattn.keep_memory() and npattn.return_memory() and len(texts) == len(shapes)


def pronounce(model: npattn.TrainedModel, words: set[str]) -> list[str]:
    """A trained model: a text, a list, any iterable; scores; attention."""
    sound: str = model("knight", beam=2, unknown="error")
    sounds: list[str] = model(["quick", "brown"], max_length=9)
    found: list[npattn.runs.Prediction] = model("read", n_best=2)
    weights = model.attention_weights("knight")
    steps: list[npattn.runs.Step] = model.probabilities("knight")
    assert weights and steps[0].probabilities[steps[0].symbol] <= 1 and found[0].score <= 0
    together = model(words, workers=1, ensemble=[model])
    return [sound, *sounds, *together, *(best[0].text for best in model(words, n_best=1))]


def misspelt() -> None:
    npattn.chek_gradients(1)  # type: ignore[attr-defined]
