"""Make the numbers of PyTorch for test_golden.py: attention.npz, layers.npz, multi_head.npz and transformer.npz.

    pip install torch==2.13.0 numpy
    python tests/golden/make_golden.py

Each file holds cases. A case has inputs, an output, a random gradient of the output, and the gradient of every input,
in float64. Different axes have different sizes, parameters differ from their initial values, and ids repeat. Every
query has a key, because PyTorch returns NaN without one. Entries are named `<function>.<case>/<kind>/<name>`, with the
kinds

    argument    a differentiated input, in the order of npattn's arguments; `gradient` has the same name
    option      another input: masks, ids, numbers
    output      `value`, and in multi_head.npz the `weights` of every head
    cotangent   `value`, the gradient of the output
    state       in multi_head.npz: weights under PyTorch's names; `state_gradient` has the same name

In transformer.npz the weights of a case are one vector, and so are the gradients: hundreds of entries would take more
space than their numbers. See `transformer`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_reference as reference
from torch import nn

Arrays = dict[str, np.ndarray]
RNG = np.random.default_rng(20170612)
SIZES = {"B": 2, "H": 3, "N_Q": 4, "N_X": 5, "D_Q": 6, "D_X": 7, "D_V": 8, "D_E": 9, "V": 10, "1": 1}

#: The arguments of each version, and the axes of its scores.
VERSIONS = {
    "v1_feed_forward": ("q(B,D_Q) X(B,N_X,D_X) W_Q(D_Q,D_E) W_X(D_X,D_E) w(D_E)", "B,N_X"),
    "v2_dot_product": ("q(B,D_Q) X(B,N_X,D_Q)", "B,N_X"),
    "v3_scaled_dot_product": ("q(B,D_Q) X(B,N_X,D_Q)", "B,N_X"),
    "v4_multiple_queries": ("Q(B,N_Q,D_Q) X(B,N_X,D_Q)", "B,N_Q,N_X"),
    "v5_cross_attention": ("Q(B,N_Q,D_Q) X(B,N_X,D_X) W_K(D_X,D_Q) W_V(D_X,D_V)", "B,N_Q,N_X"),
    "v6_self_attention": ("X(B,N_X,D_X) W_Q(D_X,D_Q) W_K(D_X,D_Q) W_V(D_X,D_V)", "B,N_X,N_X"),
}
TRANSFORMERS = {
    "paper": {"norm": "post", "final_norm": False, "bias": True, "activation": "relu", "tie": "all"},
    "post_norm": {"norm": "post", "final_norm": True, "bias": True, "activation": "gelu", "tie": "output"},
    "post_norm_no_bias": {"norm": "post", "final_norm": True, "bias": False, "activation": "relu", "tie": "none"},
    "pre_norm": {"norm": "pre", "final_norm": True, "bias": True, "activation": "relu", "tie": "output"},
    "pre_norm_no_bias": {"norm": "pre", "final_norm": True, "bias": False, "activation": "gelu", "tie": "all"},
}
TRANSFORMER_SIZES = {
    "src_vocab": 11, "tgt_vocab": 9, "d_model": 6, "n_heads": 3, "d_ff": 7, "n_encoder_layers": 2,
    "n_decoder_layers": 2, "dropout": 0.0,
}  # fmt: skip


def main() -> None:
    torch.set_default_dtype(torch.float64)
    files = {"attention": attention(), "layers": layers(), "multi_head": multi_heads(), "transformer": transformers()}
    for name, made in files.items():
        np.savez_compressed(Path(__file__).with_name(f"{name}.npz"), **made)


def normal(size: Sequence[int]) -> np.ndarray:
    """Return normal numbers in steps of 1/64: numbers with few digits make small files."""
    return np.round(RNG.normal(size=size) * 64) / 64


def draw(arguments: str) -> Arrays:
    """Return normal numbers for arguments written as `name(axis,axis)`."""
    return {name: normal(shape(axes)) for name, axes in re.findall(r"(\w+)\(([^)]*)\)", arguments)}


def draw_mask(axes: str) -> np.ndarray:
    """Return a random mask in which every query may attend to at least one key."""
    mask = RNG.random(shape(axes)) < 0.6
    mask[..., 1] = True
    return mask


def shape(axes: str) -> list[int]:
    return [SIZES[axis] for axis in axes.split(",")]


def record(case: str, arguments: Arrays, **options: Any) -> Arrays:
    """Run the function of torch_reference in the name of the case, forward and backward."""
    function: Callable[..., torch.Tensor] = getattr(reference, case.partition(".")[0])
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arguments.items()}
    given = {name: torch.tensor(o) if isinstance(o, np.ndarray) else o for name, o in options.items()}
    output = function(**tensors, **given)
    made = {f"option/{name}": np.asarray(option) for name, option in options.items()}
    made |= {f"argument/{name}": array for name, array in arguments.items()} | differentiate(output)
    made |= {f"gradient/{name}": tensor.grad.numpy() for name, tensor in tensors.items()}
    return {f"{case}/{key}": array for key, array in made.items()}


def differentiate(output: torch.Tensor) -> Arrays:
    """Differentiate with a random cotangent, and return the output and the cotangent."""
    cotangent = normal(output.shape)
    output.backward(torch.tensor(cotangent))
    return {"output/value": output.detach().numpy(), "cotangent/value": np.asarray(cotangent)}


def attention() -> Arrays:
    made = {}
    for version, (arguments, scores) in VERSIONS.items():
        made |= record(f"{version}.single", draw(arguments.replace("B,", "")))
        made |= record(f"{version}.masked", draw(arguments), mask=draw_mask(scores))
    name, QKV = "scaled_dot_product_attention", "Q(H,N_Q,D_Q) K(H,N_X,D_Q) V(H,N_X,D_V)"
    batch = QKV.replace("(", "(B,")
    made |= record(f"{name}.mask", draw(batch), mask=draw_mask("B,1,N_Q,N_X"))
    made |= record(f"{name}.bias", draw(f"{QKV} bias(H,N_Q,N_X)"))
    made |= record(f"{name}.bias_and_mask", draw(f"{batch} bias(H,1,N_X)"), mask=draw_mask("B,1,N_Q,N_X"))
    made |= record(f"{name}.scale", draw(QKV), scale=0.7)
    made |= record(f"{name}.causal", draw(QKV), causal=True)
    return made


def layers() -> Arrays:
    logits, targets = "logits(B,N_Q,V)", RNG.integers(1, SIZES["V"], shape("B,N_Q"))
    targets[0, 2:] = 0
    kinks = draw("X(B,N_X,D_X)")
    kinks["X"][0, :, 1] = 0
    tails = {"X": np.linspace(-12, 12, 97).reshape(1, 97)}
    rows = draw("X(B,N_X,D_X) gamma(D_X) beta(D_X)")
    made = record("linear.bias", draw("X(B,N_X,D_X) W(D_X,D_V) b(D_V)"))
    made |= record("linear.no_bias", draw("X(N_X,D_X) W(D_X,D_V)"))
    made |= record("softmax.plain", draw("E(B,N_Q,N_X)"))
    made |= record("softmax.mask", draw("E(B,N_Q,N_X)"), mask=draw_mask("B,1,N_X"))
    made |= record("layer_norm.beta", rows)
    made |= record("layer_norm.no_beta", draw("X(N_X,D_X) gamma(D_X)"), eps=0.5)
    made |= record("relu.kinks", kinks)
    made |= record("gelu.plain", draw("X(B,N_X,D_X)"))
    made |= record("gelu.tails", tails)
    made |= record("embedding.repeats", draw("W_E(V,D_X)"), ids=np.array([[3, 0, 3, 9], [5, 3, 5, 1]]))
    made |= record("cross_entropy.plain", draw(logits), targets=targets)
    made |= record("cross_entropy.smoothed", draw(logits), targets=targets, smoothing=0.1)
    made |= record("cross_entropy.pads", draw(logits), targets=targets, smoothing=0.1, ignore_id=0)
    made |= record("cross_entropy.confident", {"logits": 40 * draw(logits)["logits"]}, targets=targets, ignore_id=0)
    return made


def multi_heads() -> Arrays:
    """Record nn.MultiheadAttention with its own masks: True = may not attend."""
    pads = np.arange(SIZES["N_X"]) >= np.array([[5], [3]])
    order = np.triu(np.full(shape("N_X,N_X"), True), 1)
    per_head = ~draw_mask("B,H,N_Q,N_X").reshape(-1, *shape("N_Q,N_X"))
    self_attention, cross_attention = draw("X(B,N_X,D_Q)"), draw("X_Q(B,N_Q,D_Q) X(B,N_X,D_Q)")
    made = multi_head("self", self_attention, bias=True, key_padding_mask=pads, attn_mask=order)
    made |= multi_head("cross", cross_attention, bias=False, attn_mask=per_head)
    made |= multi_head("plain", cross_attention, bias=True)
    made |= multi_head("separate", draw("X_Q(B,N_Q,D_Q) X(B,N_X,D_X)"), bias=True, key_padding_mask=pads)
    made |= multi_head("separate_no_bias", draw("X_Q(B,N_Q,D_Q) X(B,N_X,D_X)"), bias=False)
    return made


def multi_head(case: str, arguments: Arrays, bias: bool, **masks: np.ndarray) -> Arrays:
    width = arguments["X"].shape[-1]
    module = nn.MultiheadAttention(SIZES["D_Q"], SIZES["H"], bias=bias, batch_first=True, kdim=width, vdim=width)
    for parameter in module.parameters():
        parameter.data = torch.tensor(normal(parameter.shape))
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arguments.items()}
    X = tensors["X"]
    Z, A = module(tensors.get("X_Q", X), X, X, average_attn_weights=False,
                  **{name: torch.tensor(mask) for name, mask in masks.items()})  # fmt: skip
    made = {f"option/{name}": mask for name, mask in masks.items()} | {"option/n_heads": np.asarray(SIZES["H"])}
    made |= {f"argument/{name}": array for name, array in arguments.items()} | differentiate(Z)
    made |= {f"gradient/{name}": tensor.grad.numpy() for name, tensor in tensors.items()}
    made |= {f"state/{name}": tensor.numpy() for name, tensor in module.state_dict().items()}
    made |= {f"state_gradient/{name}": p.grad.numpy() for name, p in module.named_parameters()}
    made["output/weights"] = A.detach().numpy()
    return {f"v7_multi_head.{case}/{key}": array for key, array in made.items()}


def transformers() -> Arrays:
    made = {}
    for case, choices in TRANSFORMERS.items():
        config = TRANSFORMER_SIZES | choices | ({"src_vocab": 9} if choices["tie"] == "all" else {})
        made |= {f"{case}/{key}": array for key, array in transformer(config).items()}
    return made


def transformer(config: dict[str, Any]) -> Arrays:
    """Record a model. `state` and both gradients are vectors; `layout` has names and shapes of their parts, in order.

    `gradients` belong to the `logits` with a random `cotangent`, `loss_gradients` to the smoothed `loss`. The decoder
    reads `tgt` without the last column, and its targets are `tgt` without the first column.
    """
    model = reference.Transformer(config)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        gamma = "norm" in name and name.endswith("weight")
        parameter.data = torch.tensor(normal(parameter.shape) / 2 + gamma)
    src = np.array([[7, 3, 7, 8, 2], [5, 6, 2, 0, 0], [4, 7, 4, 2, 0]])
    tgt = np.array([[1, 4, 8, 8, 2], [1, 8, 2, 0, 0], [1, 3, 4, 2, 0]])
    logits = model(torch.tensor(src), torch.tensor(tgt[:, :-1]))
    loss = reference.cross_entropy(logits, torch.tensor(tgt[:, 1:]), smoothing=0.1, ignore_id=0)
    cotangent = normal(logits.shape)
    both = {"gradients": (logits, torch.tensor(cotangent)), "loss_gradients": (loss, torch.tensor(1.0))}
    made = {n: flat(torch.autograd.grad(Y, parameters.values(), dY, retain_graph=True)) for n, (Y, dY) in both.items()}
    layout = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    return made | {
        "config": np.asarray(json.dumps(config)),
        "layout": np.asarray(json.dumps(layout)),
        "state": flat(parameters.values()),
        "src": src,
        "tgt": tgt,
        "logits": logits.detach().numpy(),
        "cotangent": cotangent,
        "loss": loss.detach().numpy(),
    }


def flat(tensors: Any) -> np.ndarray:
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors])


if __name__ == "__main__":
    main()
