"""The experiments: their rules are those of the package, and what they show holds for every seed."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
import pytest

from npattn import Adam
from npattn.attention import v2_dot_product, v3_scaled_dot_product
from npattn.layers import cross_entropy

pytest.importorskip("matplotlib")


@pytest.fixture
def adam() -> ModuleType:
    return importlib.import_module("adam")


@pytest.fixture
def norms() -> ModuleType:
    return importlib.import_module("norm_placement")


def test_without_the_scale_dq_is_larger_up_to_64_and_vanishes_beyond_128(monkeypatch: pytest.MonkeyPatch) -> None:
    script = importlib.import_module("why_scale")
    monkeypatch.setattr(script, "WIDTHS", (2, 16, 64, 128, 256))
    monkeypatch.setattr(script, "DRAWS", 1500)
    unscaled, scaled = (script.gradients(v, np.random.default_rng(3)) for v in (v2_dot_product, v3_scaled_dot_product))
    ratio = np.median(unscaled, 0) / np.median(scaled, 0)
    assert ratio[:3].min() > 1.1
    assert 0.5 < ratio[3] < 0.9 and 0.15 < ratio[4] < 0.27
    low, high = np.quantile(unscaled[:, 2], (0.1, 0.9))
    assert low < 3e-3 and high > 3


@pytest.fixture
def parts() -> ModuleType:
    return importlib.import_module("what_if")


@pytest.mark.parametrize(("rule", "beta_1"), [("Adam", 0.9), ("second moment alone", 0.0)])
def test_the_rules_of_adam_are_those_of_the_package(adam: ModuleType, rule: str, beta_1: float) -> None:
    rng = np.random.default_rng(0)
    p, (m, v) = np.ones(7), np.zeros((2, 7))
    params = {"p": p.copy()}
    optimizer = Adam(params, lr=0.1, betas=(beta_1, adam.BETA_2), eps=1e-9)
    for t in range(1, 6):
        g = rng.standard_normal(7) * 10.0 ** np.arange(-3, 4)
        p = p - 0.1 * adam.step(rule, t, g, m, v)
        optimizer.step({"p": g})
        np.testing.assert_allclose(p, params["p"], rtol=1e-12)


def test_the_other_rules(adam: ModuleType) -> None:
    g = np.array([2.0, -0.5])
    for rule, first in (
        ("gradient descent", g), ("momentum", 0.1 * g),
        ("Adam, uncorrected", 0.1 * g / (np.sqrt(0.001) * np.abs(g))),
    ):  # fmt: skip
        np.testing.assert_allclose(adam.step(rule, 1, g, *np.zeros((2, 2))), first, rtol=1e-6)


def test_what_adam_shows_holds_for_every_seed(adam: ModuleType) -> None:
    ends = {}
    for rule, (losses, _) in adam.measure().items():
        final, best = adam.final(losses)
        assert 0 < best < len(adam.RATES) - 1                 # the best rate is inside the grid
        ends[rule] = final[:, best]
    assert (ends["Adam"] < 0.01 * ends["momentum"]).all() and (ends["momentum"] > 1).all()
    assert (ends["Adam"] < 0.5 * ends["second moment alone"]).all()
    assert (ends["Adam, uncorrected"] < ends["Adam"]).sum() > len(adam.SEEDS) / 2      # as "Not shown" admits
    t = np.arange(1, 100)
    factor = (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
    assert (factor[0].round(1), factor.max().round(1), t[factor.argmax()]) == (3.2, 6.6, 12)


def test_adam_is_not_best_on_inputs_of_one_size(adam: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adam, "SMALLEST", 1.0)
    ends = {rule: adam.final(losses) for rule, (losses, _) in adam.measure.__wrapped__().items()}
    momentum, best = ((final[:, k] for final, k in (ends["momentum"], ends["Adam"])))
    assert np.median(momentum) < 1.1 * np.median(best)


def test_the_gradients_of_post_norm_grow_with_the_layer_and_those_of_pre_norm_do_not(norms: ModuleType) -> None:
    for seeds in norms.gradient_norms("pre", 18), norms.gradient_norms("pre", 6):
        assert (seeds.max(1) < 8 * seeds.min(1)).all()
    post = norms.gradient_norms("post", 18)
    assert (post[:, -1] > 100 * post[:, 0]).all()
    assert (norms.gradient_norms("post", 2)[:, -1] < 3 * norms.gradient_norms("post", 2)[:, 0]).all()


@pytest.mark.parametrize("variant", range(5))
def test_the_models_without_a_part_have_right_gradients(
    parts: ModuleType, variant: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size, smaller in {"BATCH": 2, "D": 8, "D_FF": 12}.items():
        monkeypatch.setattr(parts, size, smaller)
    missing = [*parts.VARIANTS.values()][variant]
    rng = np.random.default_rng(variant)
    params, ids = parts.new_parameters(rng), parts.new_batch(rng)
    _, grads = parts.loss_and_gradients(params, ids, missing)
    assert grads.keys() == params.keys()
    for name, p in params.items():
        v = rng.standard_normal(p.shape)
        moved = {other: weights.astype(complex) for other, weights in params.items()} | {name: p + 1e-30j * v}
        logits, _ = parts.forward(moved, ids[:, :-1], missing)
        slope = cross_entropy(logits, ids[:, 1:])[0].imag / 1e-30     # the complex step: exact to rounding
        np.testing.assert_allclose((grads[name] * v).sum(), slope, rtol=1e-10, atol=1e-13, err_msg=name)


def test_each_variant_lacks_one_part(parts: ModuleType) -> None:
    rng = np.random.default_rng(0)
    params, ids = parts.new_parameters(rng), parts.new_batch(rng)
    assert ids.shape == (parts.BATCH, 2 * parts.LENGTH) and (ids[:, : parts.LENGTH] == ids[:, parts.LENGTH :]).all()
    later = ids.copy()
    later[:, -1] = (later[:, -1] + 1) % parts.VOCABULARY
    logits = {}
    for variant, own in parts.VARIANTS.items():
        logits[variant] = parts.forward(params, ids, own)[0]
        reads_ahead = not np.array_equal(logits[variant][:, :-1], parts.forward(params, later, own)[0][:, :-1])
        assert reads_ahead == (variant == "without mask")
    for i, (variant, found) in enumerate(logits.items()):
        assert not any(np.allclose(found, other) for other in [*logits.values()][:i]), variant


@pytest.mark.long
def test_what_the_missing_parts_show_holds(parts: ModuleType) -> None:
    trained, written = ({v: parts.losses(v)[k][:, -5:].mean(1) for v in parts.VARIANTS} for k in (0, 1))
    least = (parts.LENGTH - 1) / (2 * parts.LENGTH - 1) * np.log(parts.VOCABULARY)
    assert (trained["without mask"] < 0.5 * least).all()
    assert all((trained[v] > 0.97 * least).all() for v in parts.VARIANTS if v != "without mask")
    median = {variant: np.median(losses) for variant, losses in written.items()}
    assert median["everything"] < 0.25 < median["without mask"] < median["without positions"]
    assert median["everything"] < median["without √D_Q"]
    assert min(median["without residual"], median["without positions"]) > 1.5


@pytest.mark.long
def test_post_norm_learns_faster_with_the_warm_up_and_pre_norm_needs_none(norms: ModuleType) -> None:
    ends = {key: norms.losses(*key)[:, -norms.POINT :].mean(1) for key in (("pre", 0), ("post", 0), ("post", 100))}
    assert (ends["pre", 0] < 0.3).all()
    assert np.median(ends["post", 100]) < 0.5 * np.median(ends["post", 0])
    assert (ends["post", 0] > 2 * ends["pre", 0]).all()
