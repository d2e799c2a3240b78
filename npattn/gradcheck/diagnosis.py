"""From a finding to a row of the report: where the gradient is wrong, and in what way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from npattn.gradcheck.hints import shape_hint, value_hint
from npattn.gradcheck.probes import Probe
from npattn.gradcheck.report import ArgumentReport, Verdict
from npattn.gradcheck.trees import numbers
from npattn.gradcheck.trial import ENTRYWISE, Finding, Trial


def row(trial: Trial, finding: Finding, beside_kink: bool, locate: bool) -> ArgumentReport:
    """Describe one finding; `locate` pays for finding the wrong entry of a large gradient."""
    verdict: Verdict = "kink" if beside_kink and finding.verdict == "ok" else finding.verdict
    probes: Sequence[Probe] = finding.probes
    hint = None
    if verdict == "wrong":
        probes = _located(trial, finding) if locate else probes
        hint = _value_hint(trial, finding.leaf, probes)
    elif verdict == "noisy":
        hint = f"cannot be judged: rounding in forward hides {finding.noise:.0e} of it"
    described = replace(
        _blank(trial, finding.leaf, verdict, hint),
        error=finding.error,
        coverage=finding.coverage,
        noise=finding.noise,
    )
    worst = max(probes, key=lambda probe: probe.error, default=None)
    if worst is None or len(worst.direction) > 1:
        return described
    return replace(described, index=worst.index, analytic=worst.analytic, numeric=worst.numeric.value)


def unlike_row(
    trial: Trial, leaf: int, verdict: Verdict, text: str, described: ArgumentReport | None
) -> ArgumentReport:
    """Describe a gradient whose dtype is not the argument's, or whose shape, which makes all else unknown."""
    if described is not None:
        return replace(described, verdict=verdict, hint=text)
    hint = shape_hint(trial.gradients[leaf].shape, trial.loss.pair.leaves[leaf].shape)
    return _blank(trial, leaf, verdict, f"{text}; {hint}" if hint else text)


def _blank(trial: Trial, leaf: int, verdict: Verdict, hint: str | None) -> ArgumentReport:
    array, name = trial.loss.pair.leaves[leaf], trial.loss.pair.names[leaf]
    unknown = ("nothing", np.inf, None, None, None)
    return ArgumentReport(name, array.shape, str(array.dtype), trial.method, *unknown, verdict, hint)


def _located(trial: Trial, finding: Finding) -> Sequence[Probe]:
    """Replace random directions by entries: all of them, or the one that halving the array leads to."""
    if trial.entrywise:
        return finding.probes
    if trial.gradients[finding.leaf].size <= ENTRYWISE:
        return trial.prober.every_entry(finding.leaf)
    return [*finding.probes, trial.prober.worst_entry(finding.leaf)]


def _value_hint(trial: Trial, leaf: int, probes: Sequence[Probe]) -> str | None:
    gradients, names = trial.gradients, trial.loss.pair.names
    arrays = [*zip(names, trial.loss.values, strict=True), *(("the output", y) for y in numbers(trial.loss.y))]
    axes = [(f"axis {k} of {name}", n) for name, array in arrays for k, n in enumerate(np.shape(array))]
    numeric = np.array([probe.numeric.value for probe in probes])
    if len(probes) != gradients[leaf].size:  # not every entry
        return value_hint(np.array([probe.analytic for probe in probes]), numeric, [], axes)
    others = [(names[i], gradient) for i, gradient in enumerate(gradients) if i != leaf]
    return value_hint(gradients[leaf], numeric.reshape(gradients[leaf].shape), others, axes)
