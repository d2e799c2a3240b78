"""The gradients of a whole Transformer, with a thousand hidden units and so a thousand kinks nearby."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck import check_gradients
from npattn.transformer.fast import transformer as functions
from support.gradcheck_pairs import failing_report
from support.transformer_toys import toy_model


class Counted:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.function(*args, **kwargs)


def relu_transformer(seed, is_new=False):
    """Return a model with 1,152 hidden units: almost every step moves one of them across its kink."""
    model = toy_model(seed, d_ff=64, n_encoder_layers=1, n_decoder_layers=1)
    params = {name: array.copy() for name, array in model.params.items()}
    if is_new:  # as at the start of training: every bias is 0
        params |= {name: np.zeros_like(a) for name, a in params.items() if name.split(".")[-1][:2] in ("b_", "be")}
    rng = np.random.default_rng(seed)
    src, tgt = rng.integers(3, 9, (3, 5)), rng.integers(3, 11, (3, 4))
    return functions.backward, (params, src, tgt), {"config": model.config}


@pytest.mark.parametrize(("method", "most_calls"), [("auto", 130), ("central-difference", 1000)])
@pytest.mark.parametrize(("seed", "is_new"), [(0, False), (1, True)])
def test_a_transformer_of_relu(seed, is_new, method, most_calls):
    """Kinks nearby cause no error, the gradients of key biases are zero, and forward is called few times."""
    backward, args, kwargs = relu_transformer(seed, is_new)
    forward = Counted(functions.forward)
    report = check_gradients(forward, backward, args, kwargs, method=method, rng=seed)
    for argument in report.arguments:
        assert argument.verdict == ("zero" if argument.name.endswith("b_K']") else "ok"), str(report)
    assert report.method == ("complex-step" if method == "auto" else method)
    assert forward.calls <= most_calls


@pytest.mark.parametrize(
    ("name", "method"),
    [("encoder.0.feed_forward.b_1", "auto"), ("decoder.0.norm_3.gamma", "central-difference")],
)
def test_a_wrong_transformer_of_relu(name, method):
    backward, args, kwargs = relu_transformer(2)

    def wrong(dlogits, cache):
        grads = backward(dlogits, cache)
        return grads | {name: grads[name] * (1 + 1e-5)}

    report = failing_report(functions.forward, wrong, args, kwargs=kwargs, method=method)
    assert [a.name for a in report.arguments if not a.ok] == [f"params['{name}']"]
