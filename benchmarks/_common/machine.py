"""The machine and the versions that figures belong to. As a script: print those of this interpreter as JSON."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
from typing import Any

#: These variables set how many threads a BLAS uses.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

#: These variables make a library leave out vector instructions: the process then emulates another processor.
EMULATION_VARIABLES = (
    "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "MKL_ENABLE_INSTRUCTIONS",
    "ATEN_CPU_CAPABILITY",
)  # fmt: skip

#: NumPy's names of the loops with these instructions (in 2.4, and before), widest first. AVX512_ICL and AVX512_SPR are
#: left out, because only loops of sorting use them.
LOOPS = {"AVX-512": {"X86_V4", "AVX512_SKX", "AVX512F"}, "AVX2": {"X86_V3", "AVX2"}}

#: The vector instructions of OpenBLAS's kernels.
KERNELS = {"Haswell": "AVX2", "Zen": "AVX2"} | dict.fromkeys(("SkylakeX", "Cooperlake", "SapphireRapids"), "AVX-512")


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes; 0 where the system does not report it."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmHWM:"):         # of this program alone; ru_maxrss also counts what ran before exec
                return int(line.split()[1]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0


def numpy_vectors(extensions: dict[str, list[str]]) -> str:
    """The widest vector instructions that NumPy's loops use, from the "SIMD Extensions" of `np.show_config`.

    Features that NPY_DISABLE_CPU_FEATURES turns off are not "found" there. Without AVX2: NumPy's own name.
    """
    used = [*extensions.get("baseline", []), *extensions.get("found", [])]
    return next((name for name, loops in LOOPS.items() if loops & {*used}), used[-1] if used else "none")


def numpy_versions() -> dict[str, Any]:
    """NumPy, its vector instructions, its BLAS, and the threads that the BLAS uses by default."""
    import numpy as np

    config = np.show_config(mode="dicts")
    blas = config["Build Dependencies"].get("blas", {})
    about: dict[str, Any] = {"python": platform.python_version(), "numpy": np.__version__}
    about["vectors"] = numpy_vectors(config["SIMD Extensions"])
    about["blas"] = f"{blas.get('name')} {blas.get('version')}"
    if importlib.util.find_spec("threadpoolctl"):
        import threadpoolctl

        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        about |= {"blas_threads": [p["num_threads"] for p in pools], "blas_kernel": [p["architecture"] for p in pools]}
        about["threadpoolctl"] = threadpoolctl.__version__
    return about


def torch_versions() -> dict[str, Any]:
    """PyTorch, its vector instructions, its BLAS, and the threads that it uses by default."""
    import torch

    vectors = torch.backends.cpu.get_cpu_capability().replace("AVX512", "AVX-512")
    blas = "MKL" if torch.backends.mkl.is_available() else "not MKL"
    return {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads(),
            "vectors": vectors, "blas": blas}  # fmt: skip


def describe(torch_python: str | None) -> dict[str, Any]:
    """Everything about this machine that the figures depend on; `torch` is None without PyTorch.

    Raises SystemExit when `torch_python` is given and cannot import PyTorch.
    """
    torch = versions(torch_python or sys.executable, "torch")
    if torch_python and not torch:
        raise SystemExit(f"--torch-python {torch_python}: expected an interpreter that can import torch")
    given = [name for name in THREAD_VARIABLES + EMULATION_VARIABLES if name in os.environ]
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "system": platform.platform(),
        "environment": {name: os.environ[name] for name in given},
        "npattn": versions(sys.executable, "numpy"),
        "torch": torch,
    }


def summary(about: dict[str, Any]) -> str:
    """What `describe` returned, in one line. Older results lack the instructions of NumPy's loops and of PyTorch."""
    ours, theirs, given = about["npattn"], about["torch"], about["environment"]
    kernels = [": ".join(filter(None, [name, KERNELS.get(name)])) for name in ours.get("blas_kernel", [])]
    parts = [
        f"{about['cpu']}, {about['cores']} cores",
        f"Python {ours['python']}",
        f"NumPy {ours['numpy']}{bracketed(ours.get('vectors'))} on {ours['blas']}{bracketed(', '.join(kernels))}",
        f"threadpoolctl {ours['threadpoolctl']}" if "threadpoolctl" in ours else "no threadpoolctl",
    ]
    if theirs:
        name = f"PyTorch {theirs['torch']}{bracketed(theirs.get('vectors'))}"
        parts.append(f"{name} with {theirs['blas']} on {theirs['threads']} threads")
    else:
        parts.append("no PyTorch: npattn alone")
    parts += [f"{name}={value}" for name, value in given.items() if name not in EMULATION_VARIABLES]
    parts += [f"emulated by {name}={value}" for name, value in given.items() if name in EMULATION_VARIABLES]
    return "; ".join(parts)


def kind(about: dict[str, Any]) -> str:
    """The vector instructions of npattn's products, from what `describe` returned, or else those of NumPy's loops."""
    ours = about["npattn"]
    known = [KERNELS[name] for name in ours.get("blas_kernel", []) if name in KERNELS]
    return known[0] if known else ours.get("vectors", "other")


def bracketed(text: str | None) -> str:
    """The text after a space in brackets; nothing for no text."""
    return f" ({text})" if text else ""


def versions(python: str, library: str) -> dict[str, Any] | None:
    """Run this file with an interpreter; None when the library cannot be imported there."""
    done = subprocess.run([python, __file__, library], capture_output=True, text=True)
    return None if done.returncode else json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps({"numpy": numpy_versions, "torch": torch_versions}[sys.argv[1]]()))
