"""One trial, step by step: groups of gradients, verdicts, and the comparison of methods."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck.numeric import NotComplexSafe, Slope
from npattn.gradcheck.probes import Probe
from npattn.gradcheck.trial import Finding, InSingle, OnKink, Trial, _agree
from support.gradcheck_pairs import loss_of


def trial_of(gradients, values=None, method="complex-step", rtol=1e-12):
    """Return a trial of the sum of all arguments. The arguments and the true gradients are ones."""
    values = [np.ones(np.shape(g)) for g in gradients] if values is None else values
    loss = loss_of(lambda *xs: sum(x.sum() for x in xs), *values)
    return Trial(loss, [np.array(g, float) for g in gradients], method, rtol, np.random.default_rng(0))


def probe(error=0.0, scale=1.0, leaf=0, displacement=(1.0,)):
    return Probe({leaf: np.array(displacement)}, error * scale, Slope(0.0), scale)


# ---- a trial --------------------------------------------------------------------------------------------------


def test_parts_of_a_trial():
    trial = trial_of([[1.0, -2.0], [0.5]], [[3.0, 4.0], [0.25]], "central-difference", 1e-5)
    assert (trial.method, trial.rtol, trial.entrywise) == ("central-difference", 1e-5, True)
    assert trial.prober.loss is trial.replicas.loss is trial.loss
    assert trial.prober.gradients is trial.replicas.gradients is trial.gradients
    assert trial.prober.rng is trial.replicas.rng and trial.replicas.rng.random() == np.random.default_rng(0).random()
    assert trial.prober.measure == trial.replicas.measure == trial._measure
    assert trial.replicas.near == 1e-5 and trial_of([[1.0]]).replicas.near == 1e-7
    trial.loss.pair.eps = 2.0**-23
    assert Trial(trial.loss, None, "central-difference", 1e-5, trial.prober.rng).replicas.near == 1e-3
    trial.loss.pair.eps = 2.0**-52
    unknown = Trial(trial.loss, None, "complex-step", 1e-12, trial.prober.rng)
    assert [g.tolist() for g in unknown.gradients] == [[0.0, 0.0], [0.0]]


def test_every_entry_is_compared_up_to_a_thousand():
    assert trial_of([np.ones(400), np.ones((20, 30))]).entrywise
    assert not trial_of([np.ones(401), np.ones((20, 30))]).entrywise


def test_the_largest_effect_on_the_loss():
    values = [[3.0, -4.0], [0.25]]
    assert trial_of([[1.0, -2.0], [0.5]], values).effect == 8.0
    assert trial_of([[1.0, -2.0], [40.0]], values).effect == 10.0
    assert trial_of([[1.0, -2.0], [np.inf]], values).effect == 8.0
    assert trial_of([[0.0, 0.1], np.zeros(0)], [[3.0, -4.0], np.zeros(0)]).effect == 1.0  # the loss itself


def test_slopes_are_measured_by_the_method():
    trial = trial_of([[1.0]])
    trial.loss.complex_slope = lambda direction: ("complex", direction)
    trial.loss.central_slope = lambda direction, scale, step: ("central", direction, scale, step)
    assert trial._measure(trial.loss, "d", 2.0) == ("complex", "d")
    trial.method = "central-difference"
    assert trial._measure(trial.loss, "d", 2.0) == ("central", "d", 2.0, 0.0)
    assert trial._measure(trial.loss, "d", 2.0, 0.5) == ("central", "d", 2.0, 0.5)


# ---- groups ---------------------------------------------------------------------------------------------------


def test_up_to_twelve_gradients_are_compared_one_by_one():
    assert trial_of([[1.0], np.zeros(0), [0.0]])._groups([0, 1, 2], 4) == [[0], [2]]
    twelve = [np.ones(100)] * 12
    assert trial_of([*twelve, np.zeros(0)])._groups(range(13), 4) == [[i] for i in range(12)]
    assert trial_of([np.ones(3)] * 13)._groups(range(13), 4) == [[i] for i in range(13)]
    thirteen = trial_of([*twelve, np.ones(100)])
    thirteen.replicas.look_like_noise = lambda leaves: False
    assert len(thirteen._groups(range(13), 4)) == 4


def test_more_than_twelve_gradients_are_grouped_by_effect():
    """The effect is gradient times size. Zeros and noise have groups of their own."""
    gradients = [np.full(100, 1.0 + 0.1 * (i % 2)) for i in range(18)]
    gradients[3], gradients[5] = np.zeros(100), np.zeros(100)
    trial = trial_of(gradients, [np.full(100, 20.0 - i) for i in range(18)])
    trial.replicas.look_like_noise = lambda leaves: leaves in ([7], [8])
    rest = [i for i in range(18) if i not in (3, 5, 7, 8)]
    rest.sort(key=lambda i: (20 - i) * (1 + 0.1 * (i % 2)))
    assert rest != sorted(rest, reverse=True)
    expected = [[3, 5], [7, 8], rest[:4], rest[4:8], rest[8:11], rest[11:]]
    assert trial._groups(range(18), 4) == expected
    only_zeros = trial_of([np.zeros(100)] * 13)
    assert only_zeros._groups(range(13), 4) == [list(range(13))]


def test_there_is_a_finding_for_every_gradient_in_order():
    trial = trial_of([[1.0, 1.0], np.zeros(0), [2.0]])
    found = trial.findings([0, 1, 2])
    assert [(f.leaf, f.verdict, f.coverage) for f in found] == [
        (0, "ok", "2 entries"), (1, "ok", "no entries"), (2, "wrong", "1 entries"),
    ]  # fmt: skip
    assert found[1] == Finding(1, "ok", 0.0, 0.0, "no entries", ()) and found[1].worst is None
    assert [f.leaf for f in trial.findings([2, 0])] == [0, 2]
    limits = []
    trial._groups = lambda leaves, limit: limits.append(limit) or [[2], [0]]
    assert [f.leaf for f in trial.findings([0, 2])] == [0, 2] and limits == [12]


def test_worst_probe():
    worst = probe(3.0)
    assert Finding(0, "ok", probes=(probe(1.0), worst, probe(2.0))).worst is worst


# ---- the verdict on a group -----------------------------------------------------------------------------------


@pytest.fixture
def judged():
    """Judge a group of large gradients by given verdicts. Return leaf, verdict, error, noise, coverage, probes."""

    def judge(group, verdicts, looks_like_noise=False):
        trial = trial_of([np.ones(600), np.ones(601)])
        shared = Probe({0: np.ones(600), 1: np.ones(601)}, 0.0, Slope(0.0), 1.0)
        probes = {(0, 1): [shared, probe(0.25, leaf=1)], (0,): [probe(0.5)], (1,): [probe(0.75, leaf=1)]}
        trial.prober = type("", (), {"samples": lambda self, group, known: iter(probes[tuple(group)])})()
        script = {tuple(probes[key]): verdict for key, verdict in verdicts.items()}
        trial._verdict = lambda found: script[tuple(found)]
        trial._error = lambda found, verdict: (len(found), verdict)
        trial.replicas.look_like_noise = lambda leaves: leaves == [0, 1] and looks_like_noise
        return [(f.leaf, f.verdict, f.error, f.noise, f.coverage, len(f.probes)) for f in trial._judge(group)]

    Probe.__hash__ = object.__hash__
    yield judge
    Probe.__hash__ = HASH


HASH = Probe.__hash__
ALONE = "3 directions, 2 entries"


@pytest.mark.parametrize(
    ("verdict", "noise", "is_noise"), [("ok", 0.0, False), ("ok", 1e-10, False), ("zero", 9.0, True)]
)
def test_a_group_without_errors_is_judged_at_once(judged, verdict, noise, is_noise):
    coverage = "3 directions of 2 arguments"
    assert judged([0, 1], {(0, 1): (verdict, noise)}, is_noise) == [
        (0, verdict, (1, verdict), noise, coverage, 1), (1, verdict, (2, verdict), noise, coverage, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "noise", "is_noise"),
    [("ok", 1.1e-10, False), ("ok", 1.1e-10, True), ("zero", 0.0, False), ("wrong", 0.0, True), ("noisy", 0.0, True)],
)
def test_a_group_with_an_error_or_noise_is_judged_one_by_one(judged, verdict, noise, is_noise):
    verdicts = {(0, 1): (verdict, noise), (0,): ("ok", 1e-3), (1,): ("wrong", 0.0)}
    assert judged([0, 1], verdicts, is_noise) == [
        (0, "ok", (1, "ok"), 1e-3, ALONE, 1), (1, "wrong", (1, "wrong"), 0.0, ALONE, 1),
    ]  # fmt: skip


def test_the_verdict_on_probes():
    trial = trial_of([[1.0]], rtol=1e-3)
    calls = []
    trial.replicas.judge = lambda failing, references: calls.append((failing, references)) or ("noisy", 0.5)
    trial._reference = lambda direction: float(direction[0][0]) * 10
    assert trial._verdict([probe(1e-3), probe(0.0, scale=0.0)]) == ("ok", 0.0)
    assert trial._verdict([probe(0.0, scale=0.0)]) == ("zero", 0.0) and not calls
    probes = [probe(error, displacement=(error,)) for error in (0.1, 1e-4, 0.5, 0.3, 0.2, 0.4)]
    assert trial._verdict(probes) == ("noisy", 0.5)
    [(failing, references)] = calls
    assert [probe.error for probe in failing] == [0.5, 0.4, 0.3, 0.2] and references == [5.0, 4.0, 3.0, 2.0]


def test_the_error_is_relative_to_the_gradient_or_to_the_reference_slope():
    trial = trial_of([[1.0]])
    trial._reference = lambda direction: 8 * float(direction[0][0])
    probes = [probe(0.5, scale=2.0), probe(3.0, scale=0.25)]
    assert trial._error(probes, "ok") == trial._error(probes, "wrong") == 3.0
    assert trial._error(probes, "zero") == 0.125


def test_reference_slope_of_a_direction():
    trial = trial_of([[1.0, -2.0], [0.5]], [[3.0, -4.0], [0.25]])
    assert trial._reference({0: np.array([3.0, 4.0])}) == 8 / 4 * 5
    assert trial._reference({0: np.array([3.0, 0.0]), 1: np.array([0.25])}) == 10.0
    trial.effect = 0.0
    assert trial._reference({0: np.array([3.0, 4.0])}) == 1.0


# ---- comparing the methods ------------------------------------------------------------------------------------


@pytest.fixture
def trial_with_slopes():
    """Make a trial of three gradients with given kinks and given slopes by each of the three ways."""

    def make(by_complex, rough, central, kinks=()):
        trial = trial_of([[1.0], [1.0], [1.0]])
        pick = lambda slopes: lambda direction, *scale: Slope(slopes[next(iter(direction))])  # noqa: E731
        trial.loss.complex_slope, trial.loss.rough_slope = pick(by_complex), pick(rough)
        trial.loss.central_slope = pick(central)
        trial.loss.has_kink = lambda direction, nearby=False: len(direction) == 1 and next(iter(direction)) in kinks
        return trial

    return make


def test_compare_methods(trial_with_slopes):
    trial_with_slopes([1, 2, 3], [1, 2, 3], [9, 9, 9], kinks=[0, 1, 2]).compare_methods([0, 1, 2], check_kinks=True)
    trial_with_slopes([1, 2, 3], [9, 9, 9], [1, 2, 3]).compare_methods([0, 1, 2], check_kinks=True)
    with pytest.raises(NotComplexSafe, match=r"^complex step and central differences disagree along xs\[1\]$"):
        trial_with_slopes([1, 2, 3], [1, 9, 3], [1, 9, 3]).compare_methods([0, 1, 2], check_kinks=True)
    with pytest.raises(OnKink) as error:
        trial_with_slopes([1, 2, 3], [9, 2, 9], [9, 2, 9], kinks=[0, 1, 2]).compare_methods([0, 1, 2], check_kinks=True)
    assert error.value.leaves == {0, 2} and error.value.args == ([0, 2],)
    trial_with_slopes([1, 2, 3], [9, 2, 3], [1, 2, 3], kinks=[0]).compare_methods([0, 1, 2], check_kinks=False)
    with pytest.raises(NotComplexSafe):
        trial_with_slopes([1, 2, 3], [9, 2, 3], [9, 2, 3], kinks=[0]).compare_methods([0, 1, 2], check_kinks=False)
    trial_with_slopes([1, 2, 3], [1, 9, 3], [1, 9, 3]).compare_methods([0, 2], check_kinks=True)


def test_compare_methods_on_groups(trial_with_slopes):
    trial, limits = trial_with_slopes([1, 2, 3], [9, 2, 3], [9, 2, 3], kinks=[1, 2]), []
    trial._groups = lambda leaves, limit: limits.append((leaves, limit)) or [[0, 1, 2]]
    with pytest.raises(OnKink) as error:
        trial.compare_methods([0, 1, 2], check_kinks=True)
    assert error.value.leaves == {1, 2} and limits == [([0, 1, 2], 4)]
    trial.loss.has_kink = lambda direction: False
    trial.loss.is_output_real = True
    with pytest.raises(NotComplexSafe) as error:
        trial.compare_methods([0, 1, 2], check_kinks=True)
    assert str(error.value) == (
        "complex step and central differences disagree along xs[0], xs[1], xs[2]; its output is real for complex input"
    )


def test_directions_of_the_comparison_of_methods_are_not_measured_again():
    trial = trial_of([np.ones(600), np.ones(601)])
    calls, complex_slope = [], trial.loss.complex_slope
    trial.loss.complex_slope = lambda direction: calls.append(direction) or complex_slope(direction)
    trial.compare_methods([0, 1], check_kinks=True)
    assert len(calls) == 2
    found = trial.findings([0, 1])
    assert len(calls) == 2 * 5 and [f.coverage for f in found] == [ALONE] * 2
    for finding, direction in zip(found, calls, strict=False):
        assert len(finding.probes) == 5 and finding.probes[0].direction is direction
    assert len({id(probe.direction) for finding in found for probe in finding.probes}) == 10


def test_confirm(trial_with_slopes):
    trial = trial_with_slopes([1], [1], [5.0], kinks=[0])
    finding = Finding(2, "wrong", probes=(probe(0.5), Probe({0: np.ones(1)}, 3.0, Slope(1.0), 2.0)))
    with pytest.raises(OnKink) as error:
        trial.confirm(finding, check_kinks=True)
    assert error.value.leaves == {2}
    with pytest.raises(NotComplexSafe, match=r"along xs\[2\]$"):
        trial.confirm(finding, check_kinks=False)
    trial.method = "central-difference"
    trial.confirm(finding, check_kinks=False)
    trial.loss.has_kink = lambda direction, nearby: False
    trial.confirm(finding, check_kinks=True)
    trial.method, scales = "complex-step", []
    trial.loss.central_slope = lambda direction, scale: scales.append(scale) or Slope(1 + 1.9e-6)
    trial.confirm(finding, check_kinks=True)  # the gap is below 1e-6 of the scale
    assert scales == [2.0]
    trial.loss.has_kink = trial.loss.central_slope = None  # must not be called
    trial.confirm(Finding(2, "ok"), check_kinks=True)
    broken = Finding(2, "wrong", probes=(probe(np.inf),))
    trial.confirm(broken, check_kinks=True)


# ---- comparing all --------------------------------------------------------------------------------------------


def scripted(verdicts, method="complex-step"):
    """Return a trial with given findings, and the calls of its steps."""
    trial, calls = trial_of([[1.0]], method=method), []
    trial.findings = lambda leaves: [Finding(i, *verdict) for i, verdict in enumerate(verdicts)]
    trial.confirm = lambda finding, check_kinks: calls.append((finding.leaf, check_kinks))
    trial.compare_methods = lambda leaves, check_kinks: calls.append((leaves, check_kinks))
    return trial, calls


VERDICTS = [("wrong", 0.1), ("noisy", 0.4), ("ok", 0.9), ("wrong", np.inf), ("wrong", 0.2), ("noisy", 0.3)]


@pytest.mark.parametrize("check_kinks", [True, False])
def test_the_four_worst_wrong_or_noisy_gradients_are_measured_again(check_kinks):
    trial, calls = scripted(VERDICTS)
    assert [f.leaf for f in trial.compare([0, 2], check_kinks)] == [0, 1, 2, 3, 4, 5]
    assert calls == [([0, 2], check_kinks), *((leaf, check_kinks) for leaf in (3, 1, 5, 4))]
    trial, calls = scripted(VERDICTS, "central-difference")
    trial.compare([0, 2], check_kinks)
    assert calls == [(leaf, check_kinks) for leaf in (3, 1, 5, 4)]


def test_single_precision_is_recognised_before_and_after_the_comparison(monkeypatch):
    narrow = {"is_single": False, "output_is_single": False, "rounds_like_single": False}
    for name in narrow:
        monkeypatch.setattr(f"npattn.gradcheck.precision.{name}", lambda *_, name=name: narrow[name])
    quiet, noisy = [("ok", 0.0, 1e-9)], [("ok", 0.0, 1.1e-9)]
    cases = [  # what is narrow, the findings, and the methods by which it is found
        ("is_single", quiet, {"complex-step", "central-difference"}),
        ("output_is_single", quiet, {"central-difference"}),
        ("rounds_like_single", quiet, set()),
        ("rounds_like_single", noisy, {"central-difference"}),
        ("rounds_like_single", [("wrong", 1.0)], {"central-difference"}),
    ]
    for name, verdicts, methods in cases:
        narrow[name] = True
        for method in ("complex-step", "central-difference"):
            for eps in (2.0**-52, 2.0**-23):
                trial, _ = scripted(verdicts, method)
                trial.loss.pair.eps = eps
                if method in methods and eps < 1e-10:
                    with pytest.raises(InSingle):
                        trial.compare([0], check_kinks=True)
                else:
                    assert len(trial.compare([0], check_kinks=True)) == 1
        narrow[name] = False


def test_a_search_confirms_the_four_worst():
    trial, calls = scripted([("wrong", 0.1)] * 6)
    trial.gradients[0][0] = 2.0
    assert len(trial.search([0], far=True)) == 6 and calls == [(leaf, True) for leaf in range(4)]


def test_slopes_agree_to_a_millionth_or_within_the_uncertainty():
    assert _agree(Slope(1.0), Slope(1 + 0.99e-6)) and not _agree(Slope(1.0), Slope(1 + 1.01e-6))
    assert _agree(Slope(-3.0), Slope(-3 - 2.9e-6)) and not _agree(Slope(-3.0), Slope(-3 - 3.1e-6))
    assert _agree(Slope(0.0), Slope(0.9e-6), 1.0) and not _agree(Slope(0.0), Slope(1.1e-6), 1.0)
    assert not _agree(Slope(0.0), Slope(0.9e-6)) and _agree(Slope(0.0), Slope(0.0))
    assert _agree(Slope(1.0), Slope(1.99, 0.1)) and not _agree(Slope(1.0), Slope(2.01, 0.1))
    assert _agree(Slope(1.0), Slope(np.nan, np.inf)) and not _agree(Slope(1.0), Slope(np.nan))
