"""`Trainer` on a language model: rows of text in shards, with pads and dropout, as for the Transformer."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from npattn import Adam, LanguageModel, Trainer
from npattn.training import trainer as training
from npattn.training.models import steps_of
from npattn.transformer.fast.gradient import computed
from support.language_model_toys import toy_language_model
from support.transformer_toys import deviation, toy_model

# Rows of 4, 2, 1 and 4 real targets.
IDS = np.array([[4, 5, 4, 1, 3], [6, 6, 2, 0, 0], [5, 1, 0, 0, 0], [1, 2, 3, 4, 5]])
PART = {"dropout": 0.3, "attention_dropout": 0.2}


@pytest.fixture(autouse=True)
def every_step_uses_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MIN_OPERATIONS", 0.0)


def trainer(model: LanguageModel | None = None, **options: Any) -> Trainer:
    model = toy_language_model("qwen3") if model is None else model
    return Trainer(model, Adam(model.params, lr=0.01), **{"workers": 1, "keep_memory": False} | options)


def snapshot(it: Trainer) -> tuple[Any, ...]:
    adam = {name: array.tobytes() for name, array in it.optimizer.state_dict().items()}
    return it.model.params.flat.tobytes(), adam, it.state_dict()


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "gemma2"])
@pytest.mark.parametrize("workers", [1, 2, 3, 9])
def test_any_number_of_workers_gives_the_loss_and_gradients_of_the_batch(family: str, workers: int) -> None:
    model = toy_language_model(family)
    loss, grads = model.loss_and_gradients(IDS, smoothing=0.2)
    got_loss, got = trainer(model, workers=workers, smoothing=0.2).loss_and_gradients(IDS)
    assert type(got_loss) is float and got_loss == pytest.approx(loss, rel=1e-12)
    assert deviation(got, grads) < 1e-12


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_of_pads_alone_count_for_nothing(workers: int) -> None:
    for ids in (np.array([[4, 0, 0], [0, 0, 0]]), IDS[:0]):
        loss, grads = trainer(workers=workers).loss_and_gradients(ids)
        assert loss == 0 and not any(gradient.any() for gradient in grads.values())


def test_without_a_pad_every_target_counts() -> None:
    model = toy_language_model("llama", pad_id=None)
    real, tokens = steps_of(model).tokens([IDS])
    assert real.tolist() == tokens.tolist() == [4, 4, 4, 4]
    expected, grads = model.loss_and_gradients(IDS)
    loss, got = trainer(model, workers=3, smoothing=0.0).loss_and_gradients(IDS)
    assert loss == pytest.approx(expected, rel=1e-12) and deviation(got, grads) < 1e-12


@pytest.mark.parametrize("workers", [1, 2])
def test_dropout_of_a_shard_depends_on_seed_step_and_shard_alone(workers: int) -> None:
    """Each shard has the loss of its rows with its own generator, weighted by its share of the targets."""
    model = toy_language_model("geglu", **PART)
    it = trainer(model, workers=workers, rng=3, smoothing=0.0)
    it.steps = 4
    targets = np.array([4, 2, 1, 4])
    shards = [[0, 1, 2, 3]] if workers == 1 else [[0, 2], [1, 3]]   # the longest rows first, back and forth
    expected = sum(
        targets[rows].sum() / 11 * model.loss_and_gradients(IDS[rows], rng=np.random.default_rng([3, 4, i]))[0]
        for i, rows in enumerate(shards)
    )
    assert it.loss_and_gradients(IDS)[0] == pytest.approx(expected, rel=1e-12)
    without = trainer(model, workers=workers, smoothing=0.0)
    assert without.loss_and_gradients(IDS)[0] == pytest.approx(model.loss_and_gradients(IDS)[0], rel=1e-12)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_resumed_training_ends_on_the_same_bits(workers: int) -> None:
    def steps(it: Trainer, n: int) -> list[float]:
        return [it.step(IDS, lr=0.1 / (it.steps + 1)) for _ in range(n)]

    def new() -> Trainer:
        return trainer(toy_language_model("geglu", **PART), workers=workers, rng=5, clip=0.5)

    whole, first, again = new(), new(), new()
    losses = steps(whole, 4)
    assert steps(first, 2) == losses[:2] and losses[3] < losses[0]
    again.model.params.flat[:] = first.model.params.flat
    again.optimizer.load_state_dict(first.optimizer.state_dict())
    again.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert steps(again, 2) == losses[2:] and snapshot(again) == snapshot(whole)


def test_the_gradient_is_clipped_before_the_step() -> None:
    one, other = trainer(clip=1e-3), trainer(clip=None)
    loss, grads = other.model.loss_and_gradients(IDS, smoothing=0.1)
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    assert one.step(IDS) == pytest.approx(loss, rel=1e-12) and norm > 1e-3
    other.optimizer.step({name: gradient * (1e-3 / norm) for name, gradient in grads.items()})
    assert deviation(one.model.params, other.model.params) < 1e-12


def test_a_large_model_gets_no_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trainer(workers=2)
    expected.step(IDS)
    monkeypatch.setattr(training, "MAX_BUFFERED", 0)
    it = trainer(workers=2)
    it.step(IDS)
    assert snapshot(it) == snapshot(expected)


@pytest.mark.parametrize("model", ["text", "pairs"])
def test_a_step_counts_the_operations_of_its_tokens(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six for each target and parameter of a language model; three for each symbol of a Transformer."""
    it = trainer(workers=2) if model == "text" else Trainer(made := toy_model(), Adam(made.params), workers=2)
    batch = (IDS,) if model == "text" else (IDS, np.minimum(IDS, 6))
    operations = it.model.params.flat.size * (6 * 11 if model == "text" else 3 * (15 + 11))
    for least, shards in ((operations, 2), (operations + 1, 1)):
        monkeypatch.setattr(training, "MIN_OPERATIONS", least)
        assert len(it._own_shards(batch)[0]) == shards


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((IDS, IDS), "TypeError: batch: expected ids, got 2 arguments"),
        ((), "TypeError: batch: expected ids, got 0 arguments"),
        ((IDS[0],), "ValueError: ids: expected ids (B, N), got (5,)"),
        ((IDS[:, :1],), "ValueError: ids: expected ids (B, N) with two columns or more, got (4, 1)"),
        ((IDS + 9,), "IndexError: ids: expected ids from 0 to 6, got 15"),
        ((IDS / 2,), "TypeError: ids: expected an integer array, got float64"),
    ],
)
def test_wrong_batches_are_refused_and_nothing_changes(batch: tuple[Any, ...], message: str) -> None:
    it = trainer()
    before = snapshot(it)
    with pytest.raises((TypeError, ValueError, IndexError)) as caught:
        it.step(*batch)
    assert f"{caught.type.__name__}: {caught.value}" == message
    assert snapshot(it) == before


def test_a_transformer_still_wants_pairs() -> None:
    model = toy_model()
    with pytest.raises(TypeError, match=r"^batch: expected src and tgt, got 1 argument$"):
        Trainer(model, Adam(model.params)).step(IDS)


def test_a_share_below_the_smallest_number_raises_no_error() -> None:
    model = LanguageModel(toy_language_model("llama").config, dtype=np.float32)
    with np.errstate(all="raise"):
        _, gradients = steps_of(model).gradients([IDS], 0.0, None, 1e-42)
        assert max(np.abs(computed(gradient)).max() for _, gradient in gradients) < 1e-38
