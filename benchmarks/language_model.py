"""A language model: the training step, the text that a prompt gets, and the time of an id as the text grows.

    python benchmarks/language_model.py [--sizes small,wide] [--torch-python PATH] [--json FILE]

The model is a Llama with a vocabulary of 256, in float32. A step is forward, cross-entropy, backward and Adam: npattn
through `npattn.Trainer` with its defaults, PyTorch eagerly with scaled_dot_product_attention (text.py has the model).
Text follows a prompt of 16 ids: from `npattn.generate`, and from the `generate` of `transformers` where the Python of
PyTorch has it. The last table has npattn alone, with a full attention and with a window of 64. Where the package
`glassllm` is installed, the model that it ships takes steps in it and in npattn. `--threads` sets the threads of all.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from _common import drawing, harness, machine, tables
from _common.harness import Job, Result, Runner, some_of, timed

#: Width, layers, heads, rows and ids of a step, and width, layers, heads and new ids of a text.
STEPS = {"small": (256, 4, 4, 8, 256), "wide": (768, 4, 12, 4, 512)}
TEXTS = {"small": (256, 4, 4, 200), "wide": (768, 12, 12, 40)}
TOY_STEP, TOY_TEXT = (16, 1, 2, 2, 8), (16, 1, 2, 4)
PROMPT = 16


def model(width: int, layers: int, heads: int, **options: Any) -> Any:
    """The model in npattn."""
    import npattn

    return npattn.LanguageModel(
        npattn.LanguageModelConfig(256, d_model=width, n_layers=layers, n_heads=heads, **options), rng=0
    )


def batch(vocabulary: int, rows: int, length: int) -> Any:
    """Rows of ids; each has one more than is read."""
    import numpy as np

    return np.random.default_rng(0).integers(0, vocabulary, (rows, length + 1))


def npattn_worker(job: Job) -> Result:
    """Take steps, or write text."""
    import npattn

    if job["what"] == "step":
        *sizes, rows, length = job["size"]
        return steps(model(*sizes), batch(256, rows, length), job)
    if job["what"] == "glassllm":
        sys.path.insert(0, str(harness.ROOT / "tests" / "support"))
        from glassllm_adapter import language_model

        shipped = language_model(weights_of_glassllm())
        return steps(shipped, batch(shipped.config.vocab, job["rows"], 128), job)
    *sizes, new = job["size"]
    window = {"window": job["window"], "layer_types": ["sliding_attention"] * sizes[1]} if job.get("window") else {}
    writer, prompt = model(*sizes, **window), batch(256, 1, job.get("prompt", PROMPT))[:, 1:]
    return timed(lambda: npattn.generate(writer, prompt, new), job)


def steps(trained: Any, ids: Any, job: Job) -> Result:
    """Take steps with npattn."""
    import npattn

    trainer = npattn.Trainer(trained, npattn.Adam(trained.params), smoothing=0.0, workers=job["threads"])
    return timed(lambda: trainer.step(ids), job)


def torch_worker(job: Job) -> Result:
    """Take steps with PyTorch, or write text with transformers."""
    import torch

    torch.set_num_threads(job["threads"] or torch.get_num_threads())
    if job["what"] == "text":
        return written_by_transformers(job)
    import text

    *sizes, rows, length = job["size"]
    ours = model(*sizes)
    p = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in ours.params.items()}
    optimizer, ids = torch.optim.Adam(p.values()), torch.from_numpy(batch(256, rows, length))

    def step() -> None:
        optimizer.zero_grad()
        logits = text.torch_logits(p, ids[:, :-1], ours.config)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()

    return timed(step, job)


def written_by_transformers(job: Job) -> Result:
    """Write text with the `generate` of transformers; nothing where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return {"seconds": [], "before_bytes": machine.peak_memory()}
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    width, layers, heads, new = job["size"]
    writer = LlamaForCausalLM(LlamaConfig(
        vocab_size=256, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, eos_token_id=None, bos_token_id=None, pad_token_id=None,
    )).eval()  # fmt: skip
    ids = torch.from_numpy(batch(256, 1, PROMPT)[:, 1:])
    with torch.inference_mode():
        return timed(lambda: writer.generate(ids, max_new_tokens=new, do_sample=True), job)


def glassllm_worker(job: Job) -> Result:
    """Take steps with glassllm."""
    from glassllm.model import GlassLM
    from glassllm.optim import AdamW

    theirs = GlassLM.load(weights_of_glassllm())
    optimizer, ids = AdamW(theirs.parameters(), lr=1e-3), batch(theirs.cfg.vocab_size, job["rows"], 128)

    def step() -> None:
        loss = theirs.loss(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(1e-3)

    return timed(step, job)


def weights_of_glassllm() -> Path:
    import glassllm

    return Path(glassllm.__file__).with_name("weights") / "en.npz"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=some_of(STEPS), default=list(STEPS), help="some of small,wide")
    parser.add_argument("--threads", type=int, help="of every peer (default: as each decides)")


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Run the peers alternately: steps, texts, texts of growing length, and steps of glassllm's model."""
    if options.threads:
        os.environ |= {f"{name}_NUM_THREADS": str(options.threads) for name in ("OPENBLAS", "OMP", "MKL")}
    sizes = ["toy"] if options.quick else options.sizes
    common: Job = {"threads": options.threads, "warm_up": 1, "repeats": 1 if options.quick else 5}
    data: Result = {"step": {}, "text": {}, "growth": {}}
    for name in sizes:
        for what, found, toy in (("step", STEPS, TOY_STEP), ("text", TEXTS, TOY_TEXT)):
            harness.log(f"{name}: {what}")
            job = {**common, "what": what, "size": found.get(name, toy)}
            peers = runner.alternate({"npattn": job, "torch": job}, options.rounds)
            data[what][name] = {peer: results for peer, results in peers.items() if results[0]["seconds"]}
    *first, new = TOY_TEXT if options.quick else TEXTS["small"]
    for prompt in (4, 8) if options.quick else (16, 256, 512, 1024, 2048):
        for window in (None, 64):
            harness.log(f"prompt of {prompt}, window {window}")
            job = {**common, "what": "text", "prompt": prompt, "window": window}
            pair = {str(n): {**job, "size": (*first, n)} for n in (1, new)}
            found = {n: runner.call("npattn", each) for n, each in pair.items()}
            data["growth"][f"{prompt}, {window or 'all'}"] = [found["1"], found[str(new)], new - 1]
    if importlib.util.find_spec("glassllm"):
        job = {**common, "what": "glassllm", "rows": 1 if options.quick else 16}
        data["glassllm"] = runner.alternate({"npattn": job, "glassllm": job}, options.rounds)
    return data


def report(data: Result) -> str:
    """The steps, the ids a second, the time of an id after prompts of growing length, and glassllm's model."""
    parts = [tables.comparison("step", data["step"])]
    rows = []
    for name, peers in data["text"].items():
        new = TEXTS.get(name, TOY_TEXT)[-1]
        row = [name, *(f"{new / tables.median(results):,.0f}" for results in peers.values())]
        rows.append([*row, str(tables.ratio(peers["torch"], peers["npattn"]))] if "torch" in peers else row)
    header = ["text", "npattn ids/s", "transformers ids/s", "npattn is faster by"]
    parts.append(tables.table(header[: len(rows[0])], rows))
    rows = []
    for name, (one, all_of_them, more) in data["growth"].items():
        first, whole = (tables.median([each]) for each in (one, all_of_them))
        rows.append([*name.split(", "), tables.milliseconds(first), tables.milliseconds((whole - first) / more)])
    parts.append(tables.table(["prompt", "keys that a query sees", "first id ms", "npattn ms an id"], rows))
    if "glassllm" in data:
        ours, theirs = data["glassllm"]["npattn"], data["glassllm"]["glassllm"]
        parts.append(f"Step of glassllm's model, glassllm / npattn: {tables.ratio(theirs, ours)}")
    return "\n\n".join(parts)


def draw(data: Result, path: Path) -> None:
    """The time of an id against the keys before it, without and with a window."""
    found: dict[str, dict[int, float]] = {}
    for name, (one, all_of_them, more) in data["growth"].items():
        prompt, keys = name.split(", ")
        spent = tables.median([all_of_them]) - tables.median([one])
        line = "npattn" if keys == "all" else f"npattn window: {keys} keys"
        found.setdefault(line, {})[int(prompt)] = 1000 * max(spent, 1e-9) / more
    prompts = sorted({prompt for line in found.values() for prompt in line})
    values = {line: [times[prompt] for prompt in prompts] for line, times in found.items()}
    drawing.lines([[drawing.Lines("an id after a prompt", prompts, values, "ids of the prompt", "ms an id")]], path)


if __name__ == "__main__":
    raise SystemExit(harness.main(__name__))
