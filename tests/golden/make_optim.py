"""Make optim.npz: three steps of torch.optim.Adam and AdamW, with PyTorch 2.13.0 (python tests/golden/make_optim.py).

For each case `<case>.<k>.<name>` holds the parameters after k steps; `start.<name>` and `gradient.<k>.<name>` belong to
all cases. The gradients have very different sizes, some near ε, so the place of ε in the formula matters.
"""

from pathlib import Path

import numpy as np
import torch

SHAPES = {"W": (3, 4), "b": (4,), "W_E": (5, 2)}
LR, BETAS, EPS, DECAY = 0.01, (0.9, 0.98), 1e-4, 0.1


def main() -> None:
    rng = np.random.default_rng(20170612)
    arrays = {f"start.{name}": rng.normal(size=shape) for name, shape in SHAPES.items()}
    for step in (1, 2, 3):
        for name, shape in SHAPES.items():
            arrays[f"gradient.{step}.{name}"] = rng.normal(size=shape) * 10.0 ** rng.uniform(-6, 2, shape)
    for case, decayed in (("adam", []), ("adamw", list(SHAPES)), ("adamw_matrices", ["W", "W_E"])):
        arrays |= {f"{case}.{key}": array for key, array in three_steps(arrays, decayed).items()}
    np.savez(Path(__file__).with_name("optim.npz"), **arrays)


def three_steps(arrays: dict[str, np.ndarray], decayed: list[str]) -> dict[str, np.ndarray]:
    params = {name: torch.nn.Parameter(torch.tensor(arrays[f"start.{name}"])) for name in SHAPES}
    groups = [
        {"params": [params[name]], "lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY * (name in decayed)}
        for name in SHAPES
    ]
    optimizer = torch.optim.AdamW(groups) if decayed else torch.optim.Adam(groups)
    found = {}
    for step in (1, 2, 3):
        for name, param in params.items():
            param.grad = torch.tensor(arrays[f"gradient.{step}.{name}"])
        optimizer.step()
        found |= {f"{step}.{name}": param.detach().numpy().copy() for name, param in params.items()}
    return found


if __name__ == "__main__":
    main()
