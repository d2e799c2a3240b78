"""Move models from PyTorch with the example of npattn.torch_weights, and print the largest difference of logits.

    python tests/golden/compare_logits.py [SEEDS]        (default 100; needs PyTorch)
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import textwrap
from typing import Any

import numpy as np
import torch

from npattn import torch_weights

EXAMPLE = re.compile(r"^    import math\n(?:    .*\n|\n)*", re.M)


def example() -> str:
    """Return the code at the end of the docstring of npattn.torch_weights."""
    found = EXAMPLE.search(torch_weights.__doc__ or "")
    assert found, "the docstring of npattn.torch_weights has no example that begins with `import math`"
    return textwrap.dedent(found[0])


def main() -> None:
    """The example asserts a bound for each seed. The printed difference is relative to the largest logit."""
    snippet = compile(example(), "npattn.torch_weights", "exec")
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    apart = []
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        for seed in range(seeds):
            torch.manual_seed(seed)
            names: dict[str, Any] = {}
            exec(snippet, names)
            ours, theirs = names["ours"], names["theirs"].numpy()
            apart.append(np.abs(ours - theirs).max() / np.abs(ours).max())
    print(f"{seeds} seeds: float32 logits differ by at most {max(apart):.1e} of the largest logit")


if __name__ == "__main__":
    main()
