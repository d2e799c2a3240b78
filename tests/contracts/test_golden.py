"""npattn agrees with PyTorch 2.13.0 in float64: versions, layers and whole models, outputs and every gradient.

The numbers are in golden/*.npz, beside the script that made them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import npattn
from npattn._internal.checks import Array
from npattn.attention import v7_multi_head
from npattn.torch_weights import load_multi_head
from support.golden_numbers import AGREEMENT, errors, model_of, names_of_modern_cases, read, read_transformers

FUNCTIONS = read("attention") | read("layers")
MULTI_HEAD = read("multi_head")
TRANSFORMERS = read_transformers()


def assert_agree(got: dict[str, Array], want: dict[str, Array], within: float = AGREEMENT) -> None:
    too_far = {name: error for name, error in errors(got, want).items() if not error <= within}
    assert not too_far


def pair(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the function of this name and its backward. The cache of softmax is its output."""
    if hasattr(npattn.attention, name):
        version = getattr(npattn.attention, name)
        return version.forward, version.backward
    home = npattn if hasattr(npattn, name) else npattn.layers
    forward, backward = getattr(home, name), getattr(home, f"{name}_backward")
    return (lambda **given: (forward(**given),) * 2) if name == "softmax" else forward, backward


def test_every_version_and_layer_has_golden_numbers() -> None:
    seen = {case.partition(".")[0] for case in FUNCTIONS | MULTI_HEAD}
    versions = {version.module.__name__.rpartition(".")[2] for version in npattn.attention.VERSIONS}
    layers = {name.removesuffix("_backward") for name in npattn.layers.__all__ if name.endswith("_backward")}
    elsewhere = names_of_modern_cases() - seen                # test_modern_golden.py tests them
    assert seen == versions | layers - {"dropout"} - elsewhere | {"scaled_dot_product_attention"}   # dropout is random


@pytest.mark.parametrize("case", FUNCTIONS)
def test_version_or_layer(case: str) -> None:
    golden = FUNCTIONS[case]
    forward, backward = pair(case.partition(".")[0])
    output, cache = forward(**golden["argument"], **golden["option"])
    assert_agree({"value": output}, golden["output"])
    gradients = backward(golden["cotangent"]["value"], cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    given = [gradient for gradient in gradients if gradient is not None]   # None for an argument that was None
    assert_agree(dict(zip(golden["argument"], given, strict=True)), golden["gradient"])


@pytest.mark.parametrize("case", MULTI_HEAD)
def test_multi_head(case: str) -> None:
    golden = MULTI_HEAD[case]
    params = load_multi_head(golden["state"])
    X = golden["argument"]["X"]
    X_Q = golden["argument"].get("X_Q", X)
    n_heads = golden["option"]["n_heads"]
    mask = attendable(golden["option"], (len(X), n_heads, X_Q.shape[1], X.shape[1]))
    Z, cache = v7_multi_head.forward(X_Q, X, **params, n_heads=n_heads, mask=mask)
    assert_agree({"value": Z, "weights": cache.A}, golden["output"])
    dX_Q, dX, *rest = v7_multi_head.backward(golden["cotangent"]["value"], cache)
    inputs = {"X_Q": dX_Q, "X": dX} if "X_Q" in golden["argument"] else {"X": dX_Q + dX}
    assert_agree(inputs, golden["gradient"])
    gradients = dict(zip(params, (d for d in rest if d is not None), strict=True))
    assert_agree(gradients, load_multi_head(golden["state_gradient"]))


def attendable(masks: dict[str, Any], scores: tuple[int, ...]) -> Array | None:
    """Return the mask of npattn for the two masks of nn.MultiheadAttention, in which True = ignore."""
    pads, order = masks.get("key_padding_mask"), masks.get("attn_mask")
    if pads is None and order is None:
        return None
    ignored = np.zeros(scores, bool)
    if pads is not None:
        ignored |= pads[:, None, None, :]
    if order is not None:
        ignored |= order.reshape(scores) if order.ndim == 3 else order   # (B·H, N_Q, N_X) or (N_Q, N_X)
    return ~ignored


@pytest.mark.parametrize("case", TRANSFORMERS)
class TestTransformer:
    def test_logits_and_every_gradient(self, case: str) -> None:
        golden = TRANSFORMERS[case]
        model = model_of(golden["config"], golden["state"])
        logits, cache = model.forward(golden["src"], golden["tgt"][:, :-1])
        assert_agree({"logits": logits}, {"logits": golden["logits"]})
        gradients = model.backward(golden["cotangent"], cache)
        assert_agree(dict(gradients), dict(model_of(golden["config"], golden["gradients"]).params))

    def test_smoothed_loss_and_every_gradient(self, case: str) -> None:
        golden = TRANSFORMERS[case]
        model = model_of(golden["config"], golden["state"])
        loss, gradients = model.loss_and_gradients(golden["src"], golden["tgt"], smoothing=0.1)
        assert_agree({"loss": np.asarray(loss)}, {"loss": golden["loss"]})
        assert_agree(dict(gradients), dict(model_of(golden["config"], golden["loss_gradients"]).params))

    def test_single_precision(self, case: str) -> None:
        golden = TRANSFORMERS[case]
        model = model_of(golden["config"], golden["state"], np.float32)
        # The float32 logits of PyTorch differ from these numbers by up to 4.1e-6.
        logits, _ = model.forward(golden["src"], golden["tgt"][:, :-1])
        assert_agree({"logits": logits}, {"logits": golden["logits"].astype(np.float32)}, within=1e-5)
