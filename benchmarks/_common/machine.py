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

#: What decides how many threads a BLAS uses, and so belongs to the figures when it is set.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int:
    """The greatest resident set of this process so far, in bytes; 0 where the system doesn't tell."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmHWM:"):         # of this program alone; ru_maxrss also knows what ran before exec
                return int(line.split()[1]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0


def numpy_versions() -> dict[str, Any]:
    """NumPy, its BLAS, and the threads that BLAS takes by default."""
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"].get("blas", {})
    about: dict[str, Any] = {"python": platform.python_version(), "numpy": np.__version__}
    about["blas"] = f"{blas.get('name')} {blas.get('version')}"
    if importlib.util.find_spec("threadpoolctl"):
        import threadpoolctl

        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        about |= {"blas_threads": [p["num_threads"] for p in pools], "blas_kernel": [p["architecture"] for p in pools]}
        about["threadpoolctl"] = threadpoolctl.__version__
    return about


def torch_versions() -> dict[str, Any]:
    """PyTorch, and the threads that it takes by default."""
    import torch

    mkl = torch.backends.mkl.is_available()
    return {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads(),
            "blas": "MKL" if mkl else "not MKL"}  # fmt: skip


def describe(torch_python: str | None) -> dict[str, Any]:
    """Everything about this machine that the figures depend on; `torch` is None without PyTorch.

    Raises SystemExit when an interpreter was named for PyTorch and has none: who names one wants the comparison.
    """
    torch = _ask(torch_python or sys.executable, "torch")
    if torch_python and not torch:
        raise SystemExit(f"--torch-python {torch_python}: expected an interpreter that can import torch")
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "system": platform.platform(),
        "environment": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "npattn": _ask(sys.executable, "numpy"),
        "torch": torch,
    }


def sentence(about: dict[str, Any]) -> str:
    """One line for people."""
    ours, theirs = about["npattn"], about["torch"]
    parts = [f"{about['cpu']}, {about['cores']} cores", f"Python {ours['python']}"]
    kernel = f" ({', '.join(ours['blas_kernel'])})" if ours.get("blas_kernel") else ""
    parts.append(f"NumPy {ours['numpy']} on {ours['blas']}{kernel}")
    parts.append(f"threadpoolctl {ours['threadpoolctl']}" if "threadpoolctl" in ours else "no threadpoolctl")
    if theirs:
        parts.append(f"PyTorch {theirs['torch']} with {theirs['blas']} on {theirs['threads']} threads")
    else:
        parts.append("no PyTorch: npattn alone")
    parts += [f"{name}={value}" for name, value in about["environment"].items()]
    return "; ".join(parts)


def _ask(python: str, what: str) -> dict[str, Any] | None:
    """Run this file with an interpreter; None when it has not what is asked about."""
    done = subprocess.run([python, __file__, what], capture_output=True, text=True)
    return None if done.returncode else json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps({"numpy": numpy_versions, "torch": torch_versions}[sys.argv[1]]()))
