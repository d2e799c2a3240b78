"""The model that is measured, in both libraries: the paper's Transformer, post-norm, tied embeddings, no dropout.

PyTorch's nn.Transformer has a layer norm after the last layer of the encoder and of the decoder. The paper has none
there, so they are removed, and both libraries do the same work. Everything else follows PyTorch's documentation: batch
first, boolean masks, and the causal hint that allows its fused attention.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from _common.sizes import Size

if TYPE_CHECKING:
    import npattn

PAD, BOS, EOS = 0, 1, 2
SMOOTHING = 0.1
ADAM = {"lr": 1e-4, "betas": (0.9, 0.98), "eps": 1e-9}


def npattn_model(size: Size) -> npattn.Transformer:
    """The model in npattn."""
    import npattn

    config = npattn.TransformerConfig(
        size.vocabulary, size.vocabulary, size.d_model, size.heads, size.d_ff, size.layers, size.layers,
        dropout=0.0, norm="post", tie="all", pad_id=PAD, bos_id=BOS, eos_id=EOS,
    )  # fmt: skip
    return npattn.Transformer(config, rng=0)


def torch_model(size: Size) -> Any:
    """The same model in PyTorch: a module from src and tgt (B, N) to logits (B, N, V)."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(size.vocabulary, size.d_model)
            torch.nn.init.normal_(self.embedding.weight, std=size.d_model**-0.5)
            self.core = torch.nn.Transformer(
                size.d_model, size.heads, size.layers, size.layers, size.d_ff, dropout=0.0, batch_first=True
            )
            self.core.encoder.norm = self.core.decoder.norm = None
            self.register_buffer("positions", torch.from_numpy(sinusoids(size.length + 1, size.d_model)))

        def embed(self, ids: Any) -> Any:
            return self.embedding(ids) * math.sqrt(size.d_model) + self.positions[: ids.shape[1]]

        def encode(self, src: Any) -> Any:
            return self.core.encoder(self.embed(src), src_key_padding_mask=src == PAD)

        def decode(self, tgt: Any, memory: Any, pads: Any) -> Any:
            later = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool).triu(1)
            return self.core.decoder(
                self.embed(tgt), memory, tgt_mask=later, tgt_is_causal=True, memory_key_padding_mask=pads
            )

        def project(self, Y: Any) -> Any:
            return torch.nn.functional.linear(Y, self.embedding.weight)

        def forward(self, src: Any, tgt: Any) -> Any:
            return self.project(self.decode(tgt, self.encode(src), src == PAD))

    torch.manual_seed(0)
    return Model()


def copy_weights(model: npattn.Transformer, module: Any) -> None:
    """Copy npattn's weights into the PyTorch module."""
    import torch

    from npattn import torch_weights

    state = torch_weights.dump_transformer(model)
    module.core.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    with torch.no_grad():
        module.embedding.weight.copy_(torch.from_numpy(model.params["embedding.W_E"]))


def sinusoids(N: int, D: int) -> np.ndarray:
    """Sinusoidal positions (N, D) in float32, as in the paper."""
    angles = np.arange(N)[:, None] / 10000 ** (np.arange(0, D, 2) / D)
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(N, -1)[:, :D].astype(np.float32)


def batches(size: Size, count: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` pairs src (B, N) and tgt (B, N + 1). Sources have N/2 … N tokens and then pads, targets have no pads."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(count):
        src = rng.integers(EOS + 1, size.vocabulary, (size.batch, size.length))
        lengths = rng.integers(size.length // 2, size.length + 1, size.batch)
        lengths[0] = size.length
        src[np.arange(size.length) >= lengths[:, None]] = PAD
        tgt = rng.integers(EOS + 1, size.vocabulary, (size.batch, size.length + 1))
        tgt[:, 0], tgt[:, -1] = BOS, EOS
        pairs.append((src, tgt))
    return pairs
