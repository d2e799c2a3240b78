"""Every planted fault is found, for twenty seeds of the arguments and from the shell, and right layers pass."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from npattn.cli import main
from npattn.gradcheck import GradientError, check_gradients
from support.planted_faults import FAULTS, LAYERS, Layer

SEEDS = range(20)
QUICK = (0, 1)
FIRST = len(LAYERS) * 5  # after them come the faults that one layer has


def is_found(fault, seed):
    try:
        check_gradients(fault.forward, fault.backward, fault.draw(np.random.default_rng(seed)))
    except GradientError as error:
        return not error.report.ok
    return False


def test_there_are_enough_faults_and_layers():
    assert len(FAULTS) >= 200 and len({fault.name for fault in FAULTS}) == len(FAULTS) and len(LAYERS) >= 30


def test_faults_that_one_layer_has_are_found():
    assert [fault.name for fault in FAULTS[FIRST:] if not all(is_found(fault, seed) for seed in QUICK)] == []


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_every_fault_is_found(seed):
    assert [fault.name for fault in FAULTS if not is_found(fault, seed)] == []


def missed_by_the_command(numbers, seed):
    missed = []
    for number in numbers:
        name = f"support.planted_faults:F{number}"
        with contextlib.redirect_stdout(io.StringIO()) as out:
            argv = [f"{name}.forward", f"{name}.backward", "--args", f"{name}.draw", "--seed", str(seed)]
            status = main(["check", *argv])
        first = out.getvalue().partition("argument")[0]
        if status != 1 or not ("not right for" in first or "the numbers are right, but" in " ".join(first.split())):
            missed.append(FAULTS[number].name)
    return missed


def test_the_command_finds_faults_that_one_layer_has():
    assert missed_by_the_command(range(FIRST, len(FAULTS), 3), 0) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_the_command_finds_every_fault(seed):
    assert missed_by_the_command(range(len(FAULTS)), seed) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_arguments_and_the_check_may_have_the_same_seed(seed):
    """The cotangent of a check used to be the X of a user with the same seed: XᵀX is symmetric and hid the fault."""
    X = np.random.default_rng(seed).standard_normal((4, 4))
    backward = lambda dY, c: (dY @ c[1].T, dY.T @ c[0])  # noqa: E731
    for rng in (seed, 0, np.random.default_rng(seed)):
        with pytest.raises(GradientError, match="transposed"):
            check_gradients(LAYERS["square"].forward, backward, (X, X.copy()), rng=rng)


# ---- right layers ----------------------------------------------------------------------------------------------


def in_float32(layer: Layer) -> Layer:
    """The layer as code that casts to float32, computes, and casts back."""

    def forward(*args):
        y, cache = layer.forward(*(x.astype(np.float32) for x in args))
        return np.asarray(y, float), cache

    def backward(dy, cache):
        return tuple(np.asarray(g, np.float32).astype(float) for g in layer.backward(np.float32(dy), cache))

    return Layer(forward, backward, layer.shapes)


def for_float32_only(layer: Layer) -> Layer:
    """The layer as a binding to C code that takes nothing but float32."""

    def forward(*args):
        if any(x.dtype != np.float32 for x in args):
            raise TypeError("expected float32")
        y, cache = layer.forward(*args)
        return np.asarray(y, np.float32), cache

    def backward(dy, cache):
        return tuple(np.asarray(g, np.float32) for g in layer.backward(dy, cache))

    return Layer(forward, backward, layer.shapes)


def false_alarms(seeds):
    alarms = []
    for name, layer in LAYERS.items():
        for seed in seeds:
            kind = (lambda layer: layer, in_float32, for_float32_only)[seed % 3]
            pair = kind(layer)
            args = pair.draw(np.random.default_rng(seed))
            if kind is for_float32_only:
                args = tuple(x.astype(np.float32) for x in args)
            try:
                check_gradients(pair.forward, pair.backward, args)
            except GradientError as error:
                alarms.append(f"{name}, seed {seed}: {error}")
    return alarms


def test_right_layers_pass_in_float64_and_float32():
    assert false_alarms(range(3)) == []


@pytest.mark.long
@pytest.mark.parametrize("first", range(3, 63, 20))
def test_two_thousand_right_layers_pass(first):
    assert false_alarms(range(first, first + 20)) == []


@pytest.mark.parametrize("name", LAYERS)
def test_an_error_of_a_fiftieth_is_found_in_float32(name):
    pair = in_float32(LAYERS[name])
    wrong = lambda dy, cache: (1.02 * pair.backward(dy, cache)[0], *pair.backward(dy, cache)[1:])  # noqa: E731
    with pytest.raises(GradientError):
        check_gradients(pair.forward, wrong, pair.draw(np.random.default_rng(1)))
