"""Run the benchmarks, and write RESULTS.md with the figures of all of them, a plot of each, and the raw figures.

    python benchmarks/run.py [--torch-python PATH] [--only train_step,decode,…] [--out DIR]

Into DIR go `RESULTS.md`, and `results/NAME.json` and `results/NAME.png` for every benchmark. With --only, the others
keep the figures that they have there. Plots need matplotlib (the extra `bench`); without it there are none.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import decode
import distributed
import gradcheck
import import_time
import long_attention
import scaling
import train_step
from _common import machine
from _common.harness import Benchmark, Result, some_of

BENCHMARKS: dict[str, tuple[str, Benchmark, list[str]]] = {
    each.name: (title, each, options)
    for title, each, options in (
        ("Training step", train_step.BENCHMARK, ["--check"]),
        ("Long attention", long_attention.BENCHMARK, []),
        ("Decoding", decode.BENCHMARK, []),
        ("Gradient checks", gradcheck.BENCHMARK, []),
        ("Import", import_time.BENCHMARK, []),
        ("Scale", scaling.BENCHMARK, []),
        ("Several ranks", distributed.BENCHMARK, []),
    )
}

NAMES = ",".join(BENCHMARKS)

HEAD = """# Results of the benchmarks

Written by `python benchmarks/run.py`; do not edit. Every figure is from a fresh process, the peers taking turns in one
run. Times are medians over processes of the median of each; a ratio is the median of those of neighbours in time, with
the least and the greatest. Peak memory is that of a whole process with all it has imported, in MB of 10⁶ bytes. GF/s
count the operations of the model's matrix products only. *products* is the time of these products alone, the limit
that a step is held against, and *square* the rate of one product of 2048 × 2048 matrices, both on all cores.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for and write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", metavar="PATH", help="a Python that has PyTorch (default: this one)")
    parser.add_argument("--only", type=some_of(BENCHMARKS), default=list(BENCHMARKS), help=f"some of {NAMES}")
    parser.add_argument("--quick", action="store_true", help="toy sizes, once: shows that everything works")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, metavar="DIR")
    options = parser.parse_args(argv)
    for name in options.only:
        _, benchmark, given = BENCHMARKS[name]
        common = ["--torch-python", options.torch_python] if options.torch_python else []
        quick = ["--quick"] if options.quick else []
        data = benchmark.run(benchmark.parser().parse_args([*given, *common, *quick]))
        keep(benchmark, data, options.out / "results")
    (options.out / "RESULTS.md").write_text(text(options.out / "results"), encoding="utf-8")
    return 0


def keep(benchmark: Benchmark, data: Result, folder: Path) -> None:
    """Write the raw figures and the plot of one benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{benchmark.name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib") and benchmark.draw:
        benchmark.draw(data, folder / f"{benchmark.name}.png")


def text(folder: Path) -> str:
    """RESULTS.md, from the raw figures of all benchmarks that there are."""
    parts = [HEAD]
    for name, (title, benchmark, given) in BENCHMARKS.items():
        path = folder / f"{name}.json"
        if path.exists():
            data = json.loads(path.read_text(encoding="utf-8"))
            command = " ".join(["python", f"benchmarks/{name}.py", *given])
            parts += [f"## {title}\n", f"`{command}`, {data['date']}: {machine.sentence(data['machine'])}.\n"]
            parts.append(benchmark.report(data) + "\n")
            if path.with_suffix(".png").exists():
                parts.append(f"![{title}]({folder.name}/{name}.png)\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
