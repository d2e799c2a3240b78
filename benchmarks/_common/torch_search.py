"""Greedy and beam search on PyTorch's nn.Transformer, by prefix: its decoder gets all tokens so far at every step.

nn.Transformer has no caches of keys and values, so its users write a search in this way. The source is encoded once,
and only the last position is projected to logits. Both searches take `steps` tokens and follow npattn's rules, so that
the ids can be compared. They do not handle targets that end earlier.
"""

from __future__ import annotations

from typing import Any

import torch

from _common.models import BOS, EOS, PAD


@torch.inference_mode()
def greedy_search(module: Any, src: torch.Tensor, steps: int) -> list[list[int]]:
    """The most likely token at every step."""
    memory, pads = module.encode(src), src == PAD
    ids = torch.full((len(src), 1), BOS)
    for _ in range(steps):
        logits = module.project(module.decode(ids, memory, pads)[:, -1])
        logits[:, [PAD, BOS]] = -torch.inf
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
        if (ids == EOS).any(1).all():
            break
    return ids[:, 1:].tolist()


@torch.inference_mode()
def beam_search(module: Any, src: torch.Tensor, steps: int, beam: int) -> list[list[int]]:
    """The best of `beam` targets of `steps` tokens, each with <eos> at its end."""
    B = len(src)
    memory, pads = module.encode(src).repeat_interleave(beam, 0), (src == PAD).repeat_interleave(beam, 0)
    ids = torch.full((B * beam, 1), BOS)
    totals = torch.full((B, beam), -torch.inf)
    totals[:, 0] = 0
    for _ in range(steps):
        log_p = module.project(module.decode(ids, memory, pads)[:, -1]).log_softmax(-1)
        log_p[:, [PAD, BOS, EOS]] = -torch.inf
        V = log_p.shape[-1]
        totals, best = (totals[:, :, None] + log_p.view(B, beam, V)).flatten(1).topk(beam)
        rows = (best // V + torch.arange(B)[:, None] * beam).flatten()
        ids = torch.cat([ids[rows], (best % V).view(-1, 1)], 1)
    ending = module.project(module.decode(ids, memory, pads)[:, -1]).log_softmax(-1)[:, EOS]
    first = (totals + ending.view(B, beam)).argmax(1)
    return ids.view(B, beam, -1)[torch.arange(B), first, 1:].tolist()
