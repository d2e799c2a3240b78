"""From a finding to a row of the report: where a gradient is wrong, and in what way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from npattn.gradcheck.hints import Known, shape_hint, value_hint
from npattn.gradcheck.probes import Probe
from npattn.gradcheck.report import ArgumentReport, Verdict
from npattn.gradcheck.trees import Tree, leaves, numbers, ravel
from npattn.gradcheck.trial import ENTRYWISE, Finding, Trial

Block: TypeAlias = tuple[Any, ...]  # an index into a gradient


def row(trial: Trial, finding: Finding, beside_kink: bool, locate: bool) -> ArgumentReport:
    """Return the row of one finding. `locate` searches a large wrong gradient for its wrong entry, which takes time."""
    hint, pair = None, trial.loss.pair
    function = pair.varying.get(pair.names[finding.leaf])
    varies = f"two calls of {function} with the same arguments give different numbers" if function else None
    if beside_kink and finding.verdict == "ok":
        finding = replace(finding, verdict="kink")
    if finding.verdict == "wrong":
        finding, block = _located(trial, finding) if locate else (finding, None)
        hint = _value_hint(trial, finding, block) or varies
    elif finding.verdict == "noisy":
        hint = f"cannot be judged: {varies or f'rounding in forward hides {finding.noise:.0e} of it'}"
    return _row(trial, finding, hint)


def mismatch_row(trial: Trial, leaf: int, verdict: Verdict, text: str, found: ArgumentReport | None) -> ArgumentReport:
    """Return the row of a gradient with the wrong dtype, or with the wrong shape, of which nothing else is known."""
    if found is not None:
        return replace(found, verdict=verdict, hint=text)
    hint = shape_hint(trial.gradients[leaf].shape, trial.loss.pair.leaves[leaf].shape)
    unknown = Finding(leaf, verdict, error=np.inf, coverage="nothing")
    return _row(trial, unknown, f"{text}; {hint}" if hint else text)


def _row(trial: Trial, finding: Finding, hint: str | None) -> ArgumentReport:
    array, name, worst = trial.loss.pair.leaves[finding.leaf], trial.loss.pair.names[finding.leaf], finding.worst
    is_alone = worst is not None and len(worst.direction) == 1  # its direction moves no other argument
    slopes = (worst.index, worst.analytic, worst.numeric.value) if worst and is_alone else (None, None, None)
    found = (finding.coverage, finding.error, *slopes, finding.verdict, hint, finding.noise)
    return ArgumentReport(name, array.shape, str(array.dtype), trial.method, *found)


def _located(trial: Trial, finding: Finding) -> tuple[Finding, Block | None]:
    """Return probes of single entries, and the block that they fill.

    They are all entries of a small gradient, and a block of a large one around a wrong entry, found by halving.
    """
    gradient = trial.gradients[finding.leaf]
    if trial.entrywise:
        return finding, (...,)
    if gradient.size <= ENTRYWISE:
        return replace(finding, probes=tuple(trial.prober.every_entry(finding.leaf))), (...,)
    worst = trial.prober.worst_entry(finding.leaf)
    if worst.error <= trial.rtol or worst.index is None or not np.isfinite(worst.analytic):
        return replace(finding, probes=(*finding.probes, worst)), None
    probes, block = trial.prober.block(finding.leaf, worst.index)
    return replace(finding, probes=tuple(probes)), block


def _value_hint(trial: Trial, finding: Finding, block: Block | None) -> str | None:
    leaf, loss = finding.leaf, trial.loss
    gradient, names = trial.gradients[leaf], loss.pair.names
    arrays = [*zip(names, loss.values, strict=True), *(("the output", y) for y in numbers(loss.y))]
    axes = [(f"axis {k} of {name}", n) for name, array in arrays for k, n in enumerate(np.shape(array))]
    numeric = np.array([probe.numeric.value for probe in finding.probes])
    if block is None:                                         # some directions: only factors show
        return value_hint(np.array([probe.analytic for probe in finding.probes]), numeric, [], axes, Known(False))
    part = gradient[block]
    others = [(names[i], g[block]) for i, g in enumerate(trial.gradients) if i != leaf and g.shape == gradient.shape]
    has_its_shape = isinstance(loss.y, np.ndarray) and loss.y.shape == gradient.shape
    cotangent = loss.cotangent.reshape(gradient.shape) if has_its_shape else None
    is_whole = part.shape == gradient.shape
    known = Known(
        is_whole,
        has_indices=any(map(_has_integers, loss.pair.args)),
        is_diagonal=cotangent is not None and finding.worst is not None and _is_diagonal(trial, leaf, finding.worst),
        cotangent=None if cotangent is None else cotangent[block],
        output=None if cotangent is None or not is_whole else np.asarray(loss.y),
        arguments=list(zip(names, loss.values, strict=True)) if is_whole else (),
        left_over=loss.pair.left_over[names[leaf]][block] if names[leaf] in loss.pair.left_over else None,
    )
    hint = value_hint(part, numeric.reshape(part.shape), others, axes, known)
    wrong = [probe for probe in finding.probes if probe.error > trial.rtol]
    if hint or is_whole or 2 * len(wrong) > part.size:
        return hint
    factor = f", this one by a factor of {wrong[0].analytic / wrong[0].numeric.value:.6g}" if len(wrong) == 1 else ""
    return f"wrong in {len(wrong)} of {part.size} entries compared{factor}"


def _is_diagonal(trial: Trial, leaf: int, worst: Probe) -> bool:
    """Whether backward multiplies the cotangent number by number, although the worst entry moves several outputs."""
    loss = trial.loss
    doubled = loss.cotangent * np.where(np.arange(loss.cotangent.size) % 2, 2.0, 1.0)
    other = loss.pair.gradients(loss.y, loss.cache, doubled)[leaf]
    factors = (doubled / loss.cotangent).reshape(trial.gradients[leaf].shape)
    if other is None or not np.allclose(other, factors * trial.gradients[leaf], rtol=1e-9, atol=0):
        return False
    moved = list(loss.values)
    moved[leaf] = moved[leaf] + 1e-3 * loss.sizes[leaf] * worst.direction[leaf]
    return bool(np.count_nonzero(loss.pair.output(moved) != ravel(loss.y)) > 1)


def _has_integers(tree: Tree) -> bool:
    return any(isinstance(leaf, np.ndarray) and leaf.dtype.kind in "iu" for _, leaf in leaves(tree))
