"""Run the PyTorch blocks of npattn/learn/pages/autograd.md and make autograd.npz, for test_autograd_page.py.

    pip install torch==2.13.0 numpy
    python tests/golden/make_autograd.py

It prints what the blocks printed, to be put into the pages below them. autograd.npz has

    printed           what each block printed
    ran/<letter>      the operations that the node of this letter ran, in their order, without views and copies
    kept/<letter>     the letters of what this node keeps for its backward
    gradient/<letter> its gradient, in float64
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

PAGE = Path(__file__).parents[2] / "npattn" / "learn" / "pages" / "autograd.md"
VIEWS = {"t", "detach", "clone", "lift_fresh"}


def main() -> None:
    blocks = re.findall(r"^```python\n(?!>>>)(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    names: dict[str, Any] = {}
    printed = [run(block, names) for block in blocks]
    print(*filter(None, printed), sep="\n")
    tensors = {**names["made"], **names["leaves"]}
    arrays = {"printed": np.array([text for text in printed if text])}
    arrays |= {f"gradient/{letter}": tensor.grad.numpy() for letter, tensor in tensors.items()}
    again: dict[str, Any] = {}                                # backward frees its record, so watch another
    for block in blocks[:2]:
        run(block, again)
    made = again["made"]
    arrays |= {f"kept/{letter}": np.array(kept(tensor.grad_fn, {**made, **again["leaves"]}), str)
               for letter, tensor in made.items()}
    arrays |= {f"ran/{letter}": np.array(ran) for letter, ran in watched(made).items()}
    np.savez_compressed(Path(__file__).with_name("autograd.npz"), **arrays)


def run(block: str, names: dict[str, Any]) -> str:
    """Run a block in the namespace of those before it, and return what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(block, PAGE.name, "exec"), names)
    return out.getvalue()


def kept(node: Any, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the letters of the tensors that a node keeps, which are views of ours."""
    saved = [getattr(node, name) for name in dir(node) if re.fullmatch(r"_saved_(self|mat2|result)", name)]
    pointers = {tensor.data_ptr(): letter for letter, tensor in tensors.items()}            # K_T is a view of K
    return sorted({pointers[each.data_ptr()] for each in saved if isinstance(each, torch.Tensor)})


class Watch(TorchDispatchMode):
    """Notes the operations that run, under the letter of the node that is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.letter = ""
        self.ran: dict[str, list[str]] = defaultdict(list)

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = operation.overloadpacket.__name__
        if self.letter and name not in VIEWS:
            self.ran[self.letter].append(name)
        return operation(*args, **(kwargs or {}))

    def at(self, letter: str) -> Callable[[Any], None]:
        """Return a hook that says that the node of this letter is at work."""

        def begin(_: Any) -> None:
            self.letter = letter

        return begin


def watched(made: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """Run backward and return the operations of each node."""
    watch = Watch()
    for letter, tensor in made.items():
        tensor.grad_fn.register_prehook(watch.at(letter))     # type: ignore[union-attr]
    with watch:
        made["Y"].backward(torch.ones(1, 1, dtype=torch.float64))
    return watch.ran


if __name__ == "__main__":
    main()
