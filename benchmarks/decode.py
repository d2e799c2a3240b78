"""Decoding: the words per second of greedy and beam search, and the time of a token as the target grows.

    python benchmarks/decode.py [--searches greedy,beam] [--lengths 16,32,…] [--torch-python PATH] [--json FILE]

The sources are 995 made-up words with the lengths of English words (words.py). A model of width 128 with 3 + 3 layers
turns each into as many symbols as an English word of its length has phonemes, in batches of 128. npattn decodes with
its key/value caches. PyTorch's nn.Transformer has no caches: its decoder gets the whole target so far at every step
(torch_search.py). The third peer runs only the matrix products of decoding with caches.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _common import drawing, harness, tables
from _common.harness import Job, Result, Runner, integers, some_of, timed
from _common.sizes import Product, Size, decoding_products, operations

BEAM = 4
SEARCHES = ["greedy", "beam"]
ROWS = 32                                                     # in the batch for targets of growing length
WORDS = Size(64, 128, 4, 512, 3, 128, 16)                     # the words set the batch and the length


def npattn_worker(job: Job) -> Result:
    """Decode with npattn."""
    import npattn
    import words

    model = words.model_without_end(WORDS)

    def search(src: Any, steps: int) -> list[list[int]]:
        if job["search"] == "greedy":
            return npattn.greedy_search(model, src, steps)
        return [found[0].ids for found in npattn.beam_search(model, src, BEAM, steps)]

    return decoded(search, batches(job), job)


def torch_worker(job: Job) -> Result:
    """Decode with PyTorch, with the same weights."""
    from dataclasses import replace

    import torch

    import words
    from _common import models, torch_search

    module = models.torch_model(replace(WORDS, length=max(16, job.get("steps", 0)))).eval()
    models.copy_weights(words.model_without_end(WORDS), module)

    def search(src: Any, steps: int) -> list[list[int]]:
        if job["search"] == "greedy":
            return torch_search.greedy_search(module, src, steps)
        return torch_search.beam_search(module, src, steps, BEAM)

    return decoded(search, [(torch.from_numpy(src), steps) for src, steps in batches(job)], job)


def products_worker(job: Job) -> Result:
    """Run only the matrix products of decoding with caches."""
    from _common import products

    copies, shapes = 1 if job["search"] == "greedy" else BEAM, [(*src.shape, steps) for src, steps in batches(job)]

    def of_share(i: int, n: int) -> list[Product]:
        shares = [(len(range(i, rows, n)), N_S, steps) for rows, N_S, steps in shapes]
        return [each for share in shares if share[0] for each in decoding_products(WORDS, *share, copies)]

    found = products.limit(lambda i, n: products.decoding(of_share(i, n)), job)
    return {**found, "operations": operations(of_share(0, 1))}


def batches(job: Job) -> list[Any]:
    """The batches of words; or, when the job has `steps`, one batch with targets of so many tokens."""
    import words

    if "steps" in job:
        return [(src, job["steps"]) for src, _ in words.batches(WORDS, ROWS)]
    return list(words.batches(WORDS))[: job.get("batches")]


def decoded(search: Any, batches: list[Any], job: Job) -> Result:
    ids: list[list[int]] = []

    def call() -> None:
        ids[:] = [row for src, steps in batches for row in search(src, steps)]

    return {**timed(call, job), "ids": ids}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--searches", type=some_of(SEARCHES), default=SEARCHES, help="some of greedy,beam")
    parser.add_argument("--lengths", type=integers, default=[16, 32, 64, 128, 256], help="of growing targets")


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Run all peers alternately: each search on the words, greedy search on targets of each length."""
    lengths = [4, 8] if options.quick else options.lengths
    job: Job = {"warm_up": 1, "repeats": 3, "batches": 1 if options.quick else None}
    data: Result = {"words": {}, "lengths": {}}
    for search in options.searches:
        harness.log(f"words, {search}")
        data["words"][search] = compare(runner, {**job, "search": search}, options.rounds)
    for steps in lengths:
        harness.log(f"targets of {steps}")
        data["lengths"][str(steps)] = compare(runner, {**job, "search": "greedy", "steps": steps}, options.rounds)
    return data


def compare(runner: Runner, job: Job, rounds: int) -> Result:
    """Run the peers. The number of words, and the share that both libraries decode alike, replace the ids."""
    peers = runner.alternate({"npattn": job, "torch": job, "products": job}, rounds)
    ids = {peer: [result.pop("ids") for result in results] for peer, results in peers.items() if peer != "products"}
    ours = ids["npattn"][0]
    found: Result = {"peers": peers, "count": len(ours)}
    if "torch" in ids:
        found["alike"] = sum(a == b for a, b in zip(ours, ids["torch"][0], strict=True)) / len(ours)
    return found


def report(data: Result) -> str:
    """Words a second, then milliseconds a token for targets of growing length."""
    return "\n\n".join([words_a_second(data["words"]), growth(data["lengths"])])


def words_a_second(found: Result) -> str:
    rows, rated = [], {}
    for search, each in found.items():
        peers = each["peers"]
        row = [search, f"{each['count'] / tables.median(peers['npattn']):,.0f}"]
        if "torch" in peers:
            row += [f"{each['count'] / tables.median(peers['torch']):,.0f}",
                    str(tables.ratio(peers["torch"], peers["npattn"])), f"{100 * each['alike']:.1f}"]  # fmt: skip
        rows.append(row)
        rated[search] = (peers, peers["products"][0]["operations"])
    theirs = ["torch words/s", "npattn is faster by", "alike %"] if len(rows[0]) > 2 else []
    peers = {search: each["peers"] for search, each in found.items()}
    speeds = tables.table(["search", "npattn words/s", *theirs], rows)
    times = tables.comparison("search", peers, "products")
    return "\n\n".join([speeds, times, tables.rates("search", rated, "products")])


def growth(found: Result) -> str:
    """The mean time of a token of all rows, and the exponent with which it grows."""
    peers = [peer for peer in ("npattn", "torch") if all(peer in each["peers"] for each in found.values())]
    costs = {peer: [tables.median(found[steps]["peers"][peer]) / int(steps) for steps in found] for peer in peers}
    rows = [[steps, *(tables.milliseconds(costs[peer][i]) for peer in peers)] for i, steps in enumerate(found)]
    if len(rows) > 1:
        exponents = [tables.exponent([int(steps) for steps in found], costs[peer]) for peer in peers]
        rows.append(["exponent", *(f"{each:.2f}" for each in exponents)])
    return tables.table([f"tokens of {ROWS} targets", *(f"{peer} ms a token" for peer in peers)], rows)


def draw(data: Result, path: Path) -> None:
    """The time of a token against the length of the target."""
    found = data["lengths"]
    lines = {
        peer: [1000 * tables.median(each["peers"][peer]) / int(steps) for steps, each in found.items()]
        for peer in ("npattn", "torch") if all(peer in each["peers"] for each in found.values())
    }  # fmt: skip
    title = f"greedy decoding, {ROWS} targets at once"
    drawing.lines([[drawing.Lines(title, [int(steps) for steps in found], lines, "tokens", "ms a token")]], path)


if __name__ == "__main__":
    raise SystemExit(harness.main(__name__))
