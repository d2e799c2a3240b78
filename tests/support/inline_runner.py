"""A runner of benchmarks that starts no processes."""

from __future__ import annotations

import contextlib
import io
import json
from types import ModuleType

from _common import harness
from _common.harness import Job, Result, Runner


class InlineRunner(Runner):
    """Runs the workers of a benchmark in this process, through the same command line and the same JSON."""

    def __init__(self, script: ModuleType, torch_python: str | None = None) -> None:
        super().__init__(script.__file__, torch_python)
        self.name = script.__name__

    def call(self, peer: str, job: Job) -> Result:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            harness.main(self.name, ["--worker", peer, json.dumps(job)])
        result: Result = json.loads(out.getvalue().splitlines()[-1])
        return result
