"""Make exchange.npz for test_torch_exchange.py: a float32 model of PyTorch, ids, and its logits.

    pip install torch==2.13.0 numpy
    python tests/golden/make_exchange.py

The model is an nn.Transformer with PyTorch's initial weights; their names have the prefix `core.`. `embedding.weight`
embeds sources and targets, and is the output projection. The README moves the same model to npattn.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

SIZES = (16, 4, 2, 2, 32)     # d_model, nhead, layers of the encoder, of the decoder, dim_feedforward
VOCABULARY = 12


def main() -> None:
    torch.manual_seed(20170612)
    embedding, core = nn.Embedding(VOCABULARY, SIZES[0]), nn.Transformer(*SIZES, batch_first=True).eval()
    nn.init.normal_(embedding.weight, std=SIZES[0] ** -0.5)
    rng = np.random.default_rng(20170612)
    src, tgt = rng.integers(3, VOCABULARY, (4, 7)), rng.integers(3, VOCABULARY, (4, 6))
    with torch.no_grad():
        X, Y = embed(embedding, src), embed(embedding, tgt)
        order = nn.Transformer.generate_square_subsequent_mask(tgt.shape[1])
        logits = core(X, Y, tgt_mask=order) @ embedding.weight.T
    made = {f"core.{name}": tensor.numpy() for name, tensor in core.state_dict().items()}
    made |= {"embedding.weight": embedding.weight.detach().numpy(), "logits": logits.numpy()}
    np.savez(Path(__file__).with_name("exchange.npz"), src=src, tgt=tgt, **made)


def embed(embedding: nn.Embedding, ids: np.ndarray) -> Tensor:
    """Return embeddings times √D, plus the sines and cosines of the paper."""
    N, D = ids.shape[1], embedding.embedding_dim
    angles = torch.arange(N)[:, None] / 10000 ** (torch.arange(0, D, 2) / D)
    positions = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
    return embedding(torch.tensor(ids)) * math.sqrt(D) + positions


if __name__ == "__main__":
    main()
