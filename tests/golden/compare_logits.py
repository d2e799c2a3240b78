"""Move a model from PyTorch with the code of the README, for many seeds, and print the largest difference of logits.

    python tests/golden/compare_logits.py [SEEDS]        (default 100; needs PyTorch)
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

README = Path(__file__).parents[2] / "README.md"


def main() -> None:
    """The snippet asserts a bound for each seed. The printed difference is relative to the largest logit."""
    (snippet,) = re.findall(r"^```python\n(import math\n.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    apart = []
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        for seed in range(seeds):
            torch.manual_seed(seed)
            names: dict[str, Any] = {}
            exec(compile(snippet, str(README), "exec"), names)
            ours, theirs = names["ours"], names["theirs"].numpy()
            apart.append(np.abs(ours - theirs).max() / np.abs(ours).max())
    print(f"{seeds} seeds: float32 logits differ by at most {max(apart):.1e} of the largest logit")


if __name__ == "__main__":
    main()
