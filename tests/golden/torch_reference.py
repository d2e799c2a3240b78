"""The functions of npattn in PyTorch, with the same argument names, for make_golden.py. autograd differentiates them.

Versions 1 to 6 are written as formulas. Everything else calls PyTorch's own function. Masks are those of npattn: True =
may attend.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def softmax(E: Tensor, mask: Tensor | None = None) -> Tensor:
    return torch.softmax(E if mask is None else E.masked_fill(~mask, -math.inf), -1)


def v1_feed_forward(
    q: Tensor, X: Tensor, W_Q: Tensor, W_X: Tensor, w: Tensor, mask: Tensor | None = None
) -> Tensor:
    e = torch.tanh((q @ W_Q).unsqueeze(-2) + X @ W_X) @ w
    return torch.einsum("...n,...nd->...d", softmax(e, mask), X)


def v2_dot_product(q: Tensor, X: Tensor, mask: Tensor | None = None) -> Tensor:
    a = softmax(torch.einsum("...nd,...d->...n", X, q), mask)
    return torch.einsum("...n,...nd->...d", a, X)


def v3_scaled_dot_product(q: Tensor, X: Tensor, mask: Tensor | None = None) -> Tensor:
    a = softmax(torch.einsum("...nd,...d->...n", X, q) / math.sqrt(q.shape[-1]), mask)
    return torch.einsum("...n,...nd->...d", a, X)


def v4_multiple_queries(Q: Tensor, X: Tensor, mask: Tensor | None = None) -> Tensor:
    return softmax(Q @ X.mT / math.sqrt(Q.shape[-1]), mask) @ X


def v5_cross_attention(Q: Tensor, X: Tensor, W_K: Tensor, W_V: Tensor, mask: Tensor | None = None) -> Tensor:
    return softmax(Q @ (X @ W_K).mT / math.sqrt(Q.shape[-1]), mask) @ (X @ W_V)


def v6_self_attention(X: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, mask: Tensor | None = None) -> Tensor:
    return v5_cross_attention(X @ W_Q, X, W_K, W_V, mask)


def scaled_dot_product_attention(
    Q: Tensor,
    K: Tensor,
    V: Tensor,
    bias: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
) -> Tensor:
    if bias is not None and mask is not None:                 # PyTorch has one argument for both
        bias = bias.masked_fill(~mask, -math.inf)
    attn_mask = mask if bias is None else bias
    return F.scaled_dot_product_attention(Q, K, V, attn_mask, scale=scale, is_causal=causal)


def linear(X: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
    return F.linear(X, W.T, b)


def layer_norm(X: Tensor, gamma: Tensor, beta: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(X, gamma.shape, gamma, beta, eps)


def relu(X: Tensor) -> Tensor:
    return F.relu(X)


def gelu(X: Tensor) -> Tensor:
    return F.gelu(X)


def embedding(W_E: Tensor, ids: Tensor) -> Tensor:
    return F.embedding(ids, W_E)


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0, ignore_id: int | None = None) -> Tensor:
    ignored = -100 if ignore_id is None else ignore_id        # PyTorch's own default
    return F.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), label_smoothing=smoothing, ignore_index=ignored
    )


class Transformer(nn.Module):
    """nn.Transformer with embeddings, positions and output; `config` has the fields of npattn.TransformerConfig."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        D, V_S, V_T, tie = config["d_model"], config["src_vocab"], config["tgt_vocab"], config["tie"]
        self.core = nn.Transformer(
            D,
            config["n_heads"],
            config["n_encoder_layers"],
            config["n_decoder_layers"],
            config["d_ff"],
            dropout=0.0,
            activation=config["activation"],
            norm_first=config["norm"] == "pre",
            bias=config["bias"],
            batch_first=True,
        )
        if not config["final_norm"]:
            self.core.encoder.norm = self.core.decoder.norm = None
        self.target_embedding = nn.Embedding(V_T, D)
        self.source_embedding = self.target_embedding if tie == "all" else nn.Embedding(V_S, D)
        self.output = nn.Linear(D, V_T, bias=False)
        if tie != "none":
            self.output.weight = self.target_embedding.weight

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        N_T, src_pads, tgt_pads = tgt.shape[1], src == 0, tgt == 0
        Y = self.core(
            embed(self.source_embedding, src),
            embed(self.target_embedding, tgt),
            tgt_mask=torch.ones(N_T, N_T, dtype=torch.bool).triu(1),
            src_key_padding_mask=src_pads,
            tgt_key_padding_mask=tgt_pads,
            memory_key_padding_mask=src_pads,
        )
        return self.output(Y)


def embed(table: nn.Embedding, ids: Tensor) -> Tensor:
    """Return embeddings times the root of their width, plus sinusoidal positions."""
    N, D = ids.shape[1], table.embedding_dim
    angle = torch.arange(N).double()[:, None] / 10000 ** (torch.arange(0, D, 2).double() / D)
    positions = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :D]
    return table(ids) * math.sqrt(D) + positions
