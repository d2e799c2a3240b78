"""Golden numbers of a small random model of glassllm: its weights and its logits.

Made with glassllm 0.1.0 in float64:

    python tests/golden/make_glassllm.py

Weights are multiples of 1/64. `glassllm.npz` holds `__config__`, the sizes as text; each weight times 64, as int8;
`__ids__` and `__logits__`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from glassllm import Config, GlassLM

rng = np.random.default_rng(20261128)
config = Config(vocab_size=11, d_model=12, n_layers=2, n_heads=2, n_kv_heads=1, max_len=9, rope_base=30.0, eps=0.01)
model = GlassLM(config, dtype=np.float64)
weights = {}
for name, parameter in model.named_parameters().items():
    middle = 64 if "gamma" in name else 0
    weights[name] = np.clip(np.rint(rng.normal(middle, 24, parameter.data.shape)), -127, 127).astype(np.int8)
    parameter.data = weights[name] / 64
ids = rng.integers(0, 11, (2, 9))
others = {"config": np.array(json.dumps(asdict(config))), "ids": ids.astype(np.int8), "logits": model.forward(ids).data}
named = {f"__{name}__": array for name, array in others.items()}
np.savez_compressed(Path(__file__).with_name("glassllm.npz"), **weights, **named)
