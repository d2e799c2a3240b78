"""Run the benchmarks, and write RESULTS.md with the figures of all of them, a plot of each, and the raw figures.

    python benchmarks/run.py [--torch-python PATH] [--only train_step,decode,…] [--out DIR]

The files in DIR are `RESULTS.md`, and `results/NAME-KIND.json` and `results/NAME-KIND.png` of every benchmark. KIND is
the kind of processor, avx2 or avx-512, and RESULTS.md shows the figures of each kind there is. With --only, the other
benchmarks keep their figures in DIR, and so do other kinds. `results/by_hand.md` is written by hand, and RESULTS.md
ends with it. Plots need matplotlib (the extra `bench`); without it there are none.

A processor with AVX-512 measures as one with AVX2 does when these variables are set:

    OPENBLAS_CORETYPE=Haswell NPY_DISABLE_CPU_FEATURES=X86_V4,AVX512_SKX,AVX512_ICL,AVX512_SPR
    ATEN_CPU_CAPABILITY=avx2
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import decode
import distributed
import gradcheck
import import_time
import language_model
import long_attention
import modern_attention
import scaling
import train_step
from _common import harness, machine
from _common.harness import Result, some_of

#: By name: the title in RESULTS.md, the script, and the options that it runs with.
BENCHMARKS: dict[str, tuple[str, ModuleType, list[str]]] = {
    "train_step": ("Training step", train_step, ["--check"]),
    "long_attention": ("Long attention", long_attention, []),
    "modern_attention": ("Attention of today's models", modern_attention, []),
    "decode": ("Decoding", decode, []),
    "language_model": ("Language model", language_model, []),
    "gradcheck": ("Gradient checks", gradcheck, []),
    "import_time": ("Import", import_time, []),
    "scaling": ("Scale", scaling, []),
    "distributed": ("Several ranks", distributed, []),
}

NAMES = ",".join(BENCHMARKS)

HEAD = """# Results of the benchmarks

`python benchmarks/run.py` writes this file; do not edit it. It ends with the results of three tasks and a comparison
with other packages, which are written by hand in [`results/by_hand.md`](results/by_hand.md). The description of a
benchmark is that of its script. How to read the tables:

- Every figure is from a fresh process, and the processes of the peers (npattn, PyTorch, …) alternate.
- A time is the median, over the processes, of the median of each process.
- A ratio is the median of the ratios of neighbours in time, followed by the least and the greatest of them.
- Peak memory is that of a whole process with all its imports, in MB of 10⁶ bytes.
- GFLOP and GF/s count only the matrix products of the model.
- *products* is the time of these products alone, on all cores: the limit of a step.
- *square* is the rate of one product of 2048 × 2048 matrices, on all cores.
- The line about the machine names the vector instructions in use (AVX2 or AVX-512) after OpenBLAS's kernel and, where
  they were recorded, after the versions of NumPy and PyTorch. "emulated by" means that a variable of the environment
  chose the instructions, which need not be the widest that the processor has.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen benchmarks and write all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", metavar="PATH", help="a Python that has PyTorch (default: this one)")
    parser.add_argument("--only", type=some_of(BENCHMARKS), default=list(BENCHMARKS), help=f"some of {NAMES}")
    parser.add_argument("--quick", action="store_true", help="toy sizes, once: shows that everything works")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, metavar="DIR")
    options = parser.parse_args(argv)
    common = ["--torch-python", options.torch_python] if options.torch_python else []
    common += ["--quick"] if options.quick else []
    for name in options.only:
        _, script, given = BENCHMARKS[name]
        data = harness.run(script, harness.parser(script).parse_args([*given, *common]))
        keep(name, data, options.out / "results")
    (options.out / "RESULTS.md").write_text(text(options.out / "results"), encoding="utf-8")
    return 0


def keep(name: str, data: Result, folder: Path) -> None:
    """Write the raw figures and the plot of one benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{machine.kind(data['machine']).lower()}"
    path.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        BENCHMARKS[name][1].draw(data, path.with_suffix(".png"))


def text(folder: Path) -> str:
    """Return RESULTS.md: description and report of each benchmark with raw figures in the folder, then by_hand.md."""
    parts = [HEAD]
    for name, (title, script, given) in BENCHMARKS.items():
        paths = sorted(folder.glob(f"{name}-*.json"), reverse=True)            # AVX2 first
        if paths:
            parts += [f"## {title}\n", script.__doc__ or ""]
        for path in paths:
            data = json.loads(path.read_text(encoding="utf-8"))
            command = " ".join(["python", f"benchmarks/{name}.py", *given])
            measured = f"`{command}`, {data['date']}: {machine.summary(data['machine'])}."
            parts += [f"### {title}, {machine.kind(data['machine'])}\n", measured + "\n", script.report(data) + "\n"]
            if path.with_suffix(".png").exists():
                parts.append(f"![{title}]({folder.name}/{path.stem}.png)\n")
    tasks = folder / "by_hand.md"
    return "\n".join([*parts, tasks.read_text(encoding="utf-8")] if tasks.exists() else parts)


if __name__ == "__main__":
    sys.exit(main())
