"""A runner of benchmarks that starts no processes."""

from __future__ import annotations

import json
from types import ModuleType

from _common.harness import Job, Result, Runner


class InlineRunner(Runner):
    """Runs the workers of a benchmark in this process; their job and their result are JSON, as between processes."""

    def __init__(self, script: ModuleType) -> None:
        super().__init__(script.__file__, None)
        self.module = script

    def call(self, peer: str, job: Job) -> Result:
        result = getattr(self.module, f"{peer}_worker")(json.loads(json.dumps(job)))
        return json.loads(json.dumps(result))  # type: ignore[no-any-return]
