"""Make modern_experts.npz for test_modern_golden.py: the router and the experts of mixture_of_experts.

    pip install torch==2.13.0 transformers==5.24.0 numpy
    python tests/golden/make_modern_experts.py

The modules are those of transformers, made to compute in float64 throughout, and differentiated by autograd. The weight
of each router is the identity, so its input is the logits. Cases and kinds are those of make_modern.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

torch.set_default_dtype(torch.float64)
torch.float32 = torch.float = torch.float64                   # transformers computes some steps in "float32"
torch.Tensor.float = torch.Tensor.double

from make_golden import Arrays, normal  # noqa: E402
from transformers import DeepseekV2Config, DeepseekV3Config, GptOssConfig, Qwen3NextConfig  # noqa: E402
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter  # noqa: E402
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Experts, DeepseekV3TopkRouter  # noqa: E402
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts, GptOssTopKRouter  # noqa: E402
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextTopKRouter  # noqa: E402

N, E, K, D, F = 6, 8, 3, 5, 4


def main() -> None:
    made = routers() | experts()
    np.savez_compressed(Path(__file__).with_name("modern_experts.npz"), **made)


def record(case: str, function: Any, arguments: Arrays, **options: Any) -> Arrays:
    """Run a function of tensors forward and backward, with a random cotangent."""
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arguments.items()}
    given = {name: torch.tensor(o) if isinstance(o, np.ndarray) else o for name, o in options.items()}
    value = function(**tensors, **given)
    cotangent = normal(value.shape)
    value.backward(torch.tensor(cotangent))
    made = {f"option/{name}": np.asarray(option) for name, option in options.items()}
    made |= {f"argument/{name}": array for name, array in arguments.items()}
    made |= {"output/value": value.detach().numpy(), "cotangent/value": cotangent}
    made |= {f"gradient/{name}": tensor.grad.numpy() for name, tensor in tensors.items()}
    return {f"{case}/{key}": array for key, array in made.items()}


def routers() -> Arrays:
    logits = {"logits": 2 * normal((N, E))}
    options = {"n_chosen": K, "score": "sigmoid", "scale": 2.5}
    groups = {"n_groups": 4, "n_chosen_groups": 2, "correction": normal((E,)) / 2}
    return (
        record("route.gpt_oss", gpt_oss, logits, n_chosen=K)
        | record("route.qwen3_next", qwen3_next, logits, n_chosen=K)
        | record("route.deepseek_v2", deepseek_v2, logits, n_chosen=K, renormalise=False, scale=1.5)
        | record("route.deepseek_v3", deepseek_v3, logits, **options, **groups)
        | record("route.sigmoid", deepseek_v3, logits, renormalise=False, **options, **groups)
    )


def gpt_oss(logits: Tensor, n_chosen: int) -> Tensor:
    config = GptOssConfig(hidden_size=E, num_local_experts=E, num_experts_per_tok=n_chosen)
    return by_identity(GptOssTopKRouter(config), logits)


def qwen3_next(logits: Tensor, n_chosen: int) -> Tensor:
    config = Qwen3NextConfig(hidden_size=E, num_experts=E, num_experts_per_tok=n_chosen, norm_topk_prob=True)
    return by_identity(Qwen3NextTopKRouter(config), logits)


def deepseek_v2(logits: Tensor, n_chosen: int, renormalise: bool, scale: float) -> Tensor:
    assert not renormalise                                    # it never does
    config = DeepseekV2Config(
        hidden_size=E, n_routed_experts=E, num_experts_per_tok=n_chosen, routed_scaling_factor=scale,
        num_attention_heads=2,
    )  # fmt: skip
    return by_identity(DeepseekV2TopkRouter(config), logits)


def deepseek_v3(
    logits: Tensor, n_chosen: int, score: str, scale: float, n_groups: int, n_chosen_groups: int, correction: Tensor,
    renormalise: bool = True,
) -> Tensor:  # fmt: skip
    assert score == "sigmoid"
    config = DeepseekV3Config(
        hidden_size=E, n_routed_experts=E, num_experts_per_tok=n_chosen, routed_scaling_factor=scale, n_group=n_groups,
        topk_group=n_chosen_groups, norm_topk_prob=renormalise,
    )  # fmt: skip
    router = DeepseekV3TopkRouter(config)
    router.e_score_correction_bias.copy_(correction)
    plain = torch.topk(logits.sigmoid(), n_chosen).indices.sort().values
    router.weight.data = torch.eye(E)
    _, weights, ids = router(logits)
    assert not torch.equal(plain, ids.sort().values)          # correction and groups change the choice
    order = (logits.sigmoid() + correction).gather(1, ids).argsort(1, descending=True)
    return weights.gather(1, order)


def by_identity(router: Any, logits: Tensor) -> Tensor:
    """Return the weights of a router whose logits are its input, the largest first."""
    router.weight.data = torch.eye(E)
    return router(logits)[1].sort(1, descending=True).values


def experts() -> Arrays:
    ids = np.array([[0, 3, 7], [3, 0, 1], [7, 5, 3], [2, 1, 0], [6, 3, 2], [1, 7, 6]])          # nobody chooses 4
    arguments = {
        name: normal(shape)
        for name, shape in {"X": (N, D), "weights": (N, K), "W_1": (E, D, 2 * F), "W_2": (E, F, D)}.items()
    }
    biases = {"b_1": normal((E, 2 * F)), "b_2": normal((E, D))}
    options = {"gate": "even", "limit": 1.25, "slope": 1.702, "unit_offset": True}
    return record("mixture_of_experts.deepseek_v3", deepseek_experts, arguments, ids=ids) | record(
        "mixture_of_experts.gpt_oss", gpt_oss_experts, arguments | biases, ids=ids, **options
    )


def deepseek_experts(X: Tensor, weights: Tensor, W_1: Tensor, W_2: Tensor, ids: Tensor) -> Tensor:
    module = DeepseekV3Experts(DeepseekV3Config(hidden_size=D, n_routed_experts=E, moe_intermediate_size=F))
    return with_parameters(module, gate_up_proj=W_1.mT, down_proj=W_2.mT)(X, ids, weights)


def gpt_oss_experts(
    X: Tensor, weights: Tensor, W_1: Tensor, W_2: Tensor, b_1: Tensor, b_2: Tensor, ids: Tensor, gate: str,
    limit: float, slope: float, unit_offset: bool,
) -> Tensor:  # fmt: skip
    assert gate == "even" and unit_offset
    module = GptOssExperts(
        GptOssConfig(hidden_size=D, num_local_experts=E, intermediate_size=F, swiglu_alpha=slope, swiglu_limit=limit)
    )
    named = {"gate_up_proj": W_1, "gate_up_proj_bias": b_1, "down_proj": W_2, "down_proj_bias": b_2}
    return with_parameters(module, **named)(X, ids, weights)


def with_parameters(module: Any, **tensors: Tensor) -> Any:
    """Put tensors of a graph in place of parameters, so that gradients reach them."""
    module.config = type("Config", (), {"_experts_implementation": "eager"})()
    for name, tensor in tensors.items():
        delattr(module, name)
        setattr(module, name, tensor)
    return module


if __name__ == "__main__":
    main()
