"""A language model on Python's standard library: bits per byte of held-out files after the same processor time.

    python benchmarks/text.py [--torch-python PATH] [--seconds S] [--d-model D] [--n-layers N] … [--json FILE]

npattn and PyTorch train the same model from the same weights on the same batches, in float32 and one thread, with Adam,
a clipped gradient and a rate that falls linearly to 0. PyTorch runs eagerly, with scaled_dot_product_attention. Each of
them times some steps first, and then takes as many as fit into S seconds of processor time; so the quicker one learns
from more text. The losses of the first step are compared. npattn then measures both on the test files of the task text,
beside gzip, xz and the 5-gram model (`npattn/tasks/baselines.py` says what is compressed).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from _common import harness, tables
from _common.harness import Job, Result, Runner, log

#: Steps that are timed before a training, after one that is not.
TIMED = 8
SIZES = ("d_model", "n_layers", "n_heads", "d_ff", "context", "batch_size")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--seconds", type=float, default=600.0, help="processor time of a training (default: 600)")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate (default: 0.003)")
    for name, size in zip(SIZES, (128, 4, 4, 352, 256, 8), strict=True):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size, help=f"default: {size}")
    parser.add_argument("--files", nargs="*", help="files instead of the standard library")


def begin(job: Job) -> tuple[Any, Any, Any]:
    """Return the task, the batches and a new model."""
    import npattn
    from npattn.tasks import BEGIN, load_text

    task = load_text(files=job["files"], context=job["context"])
    sizes = {name: job[name] for name in ("d_model", "n_layers", "n_heads", "d_ff")}
    config = npattn.LanguageModelConfig(BEGIN + 1, **sizes, pad_id=BEGIN, bos_id=BEGIN)
    return task, task.batches(job["batch_size"], 0), npattn.LanguageModel(config, rng=0)


def trained(job: Job, step: Callable[[Any, float], float], batches: Any, reset: Callable[[], None]) -> Result:
    """Time some steps, begin again, and take as many as fit into the seconds; return what is reported of them."""
    from npattn.optim import linear_rate

    seconds, losses = [], []
    for i in range(1 + TIMED):
        began = time.process_time()
        losses.append(step(batches[i][0], 0.0))               # a rate of 0 changes no weight
        seconds.append(time.process_time() - began)
    reset()
    steps = max(1, int(job["seconds"] / statistics.median(seconds[1:])))
    began = time.process_time()
    for i in range(steps):
        step(batches[i][0], linear_rate(i + 1, steps + 1, job["rate"], min(100, steps // 10)))
    return {"steps": steps, "used": time.process_time() - began, "first": losses[0]}


def measured(task: Any, model: Any) -> float:
    """Return the bits per byte of the test files."""
    from npattn.runs.kinds import measured

    return float(task.score(measured(model, task.test))["bits per byte"])


def npattn_worker(job: Job) -> Result:
    """Train with npattn."""
    import npattn
    from npattn._internal.system.blas_threads import one_blas_thread

    task, batches, model = begin(job)
    new = model.params.flat.copy()
    trainers = [npattn.Trainer(model, npattn.Adam(model.params), smoothing=0.0, clip=1.0, workers=1)]

    def reset() -> None:
        model.params.flat[:] = new
        trainers.append(npattn.Trainer(model, npattn.Adam(model.params), smoothing=0.0, clip=1.0, workers=1))

    with one_blas_thread():
        result = trained(job, lambda ids, rate: trainers[-1].step(ids, lr=rate), batches, reset)
        return {**result, "bits": measured(task, model), "parameters": model.params.flat.size}


def torch_worker(job: Job) -> Result:
    """Train the same model with PyTorch."""
    import torch

    torch.set_num_threads(1)
    task, batches, model = begin(job)
    weights: dict[str, Any] = {}
    optimizers: list[Any] = []

    def reset() -> None:
        weights.update({name: torch.from_numpy(a.copy()).requires_grad_() for name, a in model.params.items()})
        optimizers[:] = [torch.optim.Adam(weights.values(), betas=(0.9, 0.98), eps=1e-9)]

    def step(ids: Any, rate: float) -> float:
        (optimizer,) = optimizers
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        ids = torch.from_numpy(ids)
        logits = torch_logits(weights, ids[:, :-1], model.config)
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=model.config.pad_id
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        return float(loss.item())

    reset()
    result = trained(job, step, batches, reset)
    for name, weight in weights.items():
        model.params[name] = weight.detach().numpy()
    return {**result, "bits": measured(task, model)}


def torch_logits(p: dict[str, Any], ids: Any, config: Any) -> Any:
    """The forward of a Llama under npattn's names of weights."""
    import torch
    from torch.nn import functional as F

    (B, N), H, D = ids.shape, config.n_heads, config.d_head
    theta = config.frequencies("full_attention").theta
    angles = torch.arange(N)[:, None] * torch.from_numpy(theta).float()
    cos, sin = angles.cos(), angles.sin()

    def norm(X: Any, name: str) -> Any:
        return F.rms_norm(X, (config.d_model,), p[f"{name}.gamma"], config.norm_eps)

    def rotated(X: Any) -> Any:
        a, b = X.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    X = F.embedding(ids, p["embedding.W_E"])
    for i in range(config.n_layers):
        at = f"layers.{i}"
        A = norm(X, f"{at}.attention_norm")
        Q, K, V = ((A @ p[f"{at}.attention.W_{which}"]).view(B, N, H, D).transpose(1, 2) for which in "QKV")
        Y = F.scaled_dot_product_attention(rotated(Q), rotated(K), V, is_causal=True)
        X = X + Y.transpose(1, 2).reshape(B, N, H * D) @ p[f"{at}.attention.W_O"]
        gate, up = (norm(X, f"{at}.feed_forward_norm") @ p[f"{at}.feed_forward.W_1"]).chunk(2, -1)
        X = X + (F.silu(gate) * up) @ p[f"{at}.feed_forward.W_2"]
    return norm(X, "norm") @ p["output.W"]


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Train both models, and measure what they are compared with."""
    job: Job = {name: getattr(options, name) for name in (*SIZES, "rate", "seconds", "files")}
    if options.quick:
        job |= {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 8, "context": 16, "seconds": 0.05}
        job["files"] = job["files"] or [__file__]
    found = {}
    for peer in ("npattn", "torch") if runner.torch_python else ("npattn",):
        found[peer] = runner.call(peer, job)
        log(f"{peer}: {found[peer]['bits']:.3f} bits per byte after {found[peer]['steps']:,} steps")
    return {"job": job, "peers": found, "others": runner.call("others", job)}


def others_worker(job: Job) -> Result:
    """Measure the compressors and the 5-gram model."""
    from npattn.tasks import load_text
    from npattn.tasks.baselines import compressed, five_gram_bits

    task = load_text(files=job["files"], context=job["context"])
    train, _, test = task.parts
    return {
        "title": task.title, "bytes": sum(map(len, test)), "files": len(test), "train": sum(map(len, train)),
        "5-gram model": [five_gram_bits(train, test)], "xz": compressed("xz", test), "gzip": compressed("gzip", test),
    }  # fmt: skip


def report(data: Result) -> str:
    """Return the figures as a table."""
    job, peers, others = data["job"], data["peers"], data["others"]
    rows = [
        [peer, f"{found['bits']:.3f}", "", f"{found['steps']:,}", f"{found['used']:,.0f} s"]
        for peer, found in peers.items()
    ]
    for name in ("5-gram model", "xz", "gzip"):
        bits = [f"{each:.3f}" for each in others[name]]
        rows.append([name, *bits, *[""] * (4 - len(bits))])
    sizes = f"layers: {job['n_layers']}, width: {job['d_model']}, parameters: {peers['npattn']['parameters']:,}"
    lines = [
        f"{others['title']}; bytes to train on: {others['train']:,}; test files: {others['files']:,} of "
        f"{others['bytes']:,} bytes; {sizes}; rows of {job['context']} bytes, {job['batch_size']} in a batch.\n",
        tables.table(["bits per byte", "each file alone", "all in one", "steps", "processor time"], rows),
    ]
    if "torch" in peers:
        ours, theirs = peers["npattn"], peers["torch"]
        lines.append(f"\nThe losses of the first step differ by {abs(ours['first'] - theirs['first']):.1e}.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
