"""Run mutmut on groups of modules and compare the mutants that survive with the list of those that may.

    python tests/mutation/mutate.py                          every mutant of every group, from scratch
    python tests/mutation/mutate.py optim --work /tmp/m      one group; keeps its work, and tests only survivors again
    python tests/mutation/mutate.py --sample 40 --seed 7     40 mutants of one group, both drawn with this seed

`groups.toml` names the modules of each group, and the tests that must kill their mutants. `equivalents.toml` lists the
mutants that no test can kill, and why. The exit status is 1 if another mutant survives, or if one of the list does not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import get_mutant_name

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: mutmut's exit codes for a mutant that made a test fail, and for a mutant that ran out of time. Both count as killed,
#: but on a busy machine the second may only be slow.
FAILED, TIMED_OUT = (1, 3), (-24, 24, 36, 152, 255)

#: mutmut does not mutate decorated functions, and a filled cache would hide mutants. So the cache is taken off.
CACHED = re.compile(r"^@(functools\.)?lru_cache\(.*\)\n", re.MULTILINE)

CONFIG = """
[tool.mutmut]
source_paths = ["npattn"]
only_mutate = {modules}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
timeout_multiplier = 3.0
timeout_constant = 12.0
use_git_change_detection = false
"""


class Change(NamedTuple):
    """A mutant, named by its change: mutmut's own numbers shift with every edit."""

    function: str
    line: str
    mutant: str

    def is_of_zip_alone(self) -> bool:
        """Whether only the check of `zip(…, strict=True)` is gone, which never changes what correct code computes."""
        line, mutant = (re.sub(r", (strict=\w+)?(?=\))", "", side) for side in (self.line, self.mutant))
        return line == mutant

    def __str__(self) -> str:
        return f"{self.function}\n    - {self.line}\n    + {self.mutant}"


def main() -> int:
    options = arguments()
    groups = tomllib.loads((HERE / "groups.toml").read_text(encoding="utf-8"))
    chosen = options.groups or list(groups)
    rng = random.Random(options.seed)
    if options.sample:
        chosen = rng.sample(chosen, 1)
    listed = equivalents()
    with tempfile.TemporaryDirectory() as scratch:
        good = []
        for name in chosen:
            work = Path(options.work or scratch).resolve() / name
            prepare(work, groups[name])
            with contextlib.chdir(work):
                drawn = draw(rng, options.sample) if options.sample else []
                run(drawn, options.children)
                good.append(report(name, drawn, listed))
    if options.sample:
        print(f"again: --sample {options.sample} --seed {options.seed}")
    return 0 if all(good) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help="groups of groups.toml (default: all)")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="number of mutants tested at once")
    parser.add_argument("--work", help="a folder that keeps the work; killed mutants are not tested again")
    parser.add_argument("--sample", type=int, help="test this number of mutants of one group, drawn at random")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="seed of the draw (default: a new one)")
    return parser.parse_args()


def equivalents() -> dict[Change, str]:
    """Read the mutants that may survive, with the reason of each."""
    entries = tomllib.loads((HERE / "equivalents.toml").read_text(encoding="utf-8"))["equivalent"]
    return {Change(e["function"], e["line"], mutant): e["reason"] for e in entries for mutant in e["mutants"]}


def prepare(work: Path, group: Mapping[str, Any]) -> None:
    """Copy the tree and configure mutmut in the copy. Keep of earlier runs there which mutants were killed."""
    for folder in ("npattn", "tests"):
        shutil.copytree(ROOT / folder, work / folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (work / "npattn").rglob("*.py"):
        code = path.read_text(encoding="utf-8")
        if CACHED.search(code):
            path.write_text(CACHED.sub("", code), encoding="utf-8")
    config = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    modules = [str(path.relative_to(ROOT)) for pattern in group["modules"] for path in sorted(ROOT.glob(pattern))]
    config += CONFIG.format(modules=json.dumps(modules), tests=json.dumps(group["tests"]))   # mutmut's * matches /
    (work / "pyproject.toml").write_text(config, encoding="utf-8")
    (work / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    for path in (work / "mutants").rglob("*.meta"):
        meta = json.loads(path.read_text(encoding="utf-8"))
        codes = meta["exit_code_by_key"]
        meta["exit_code_by_key"] = {name: code if code in FAILED else None for name, code in codes.items()}
        path.write_text(json.dumps(meta), encoding="utf-8")


def draw(rng: random.Random, size: int) -> list[str]:
    """Draw names of mutants that mutmut will make here."""
    names = [
        get_mutant_name(path, name)
        for path in sorted(walk_mutatable_files())
        for name in mutate_file_contents(str(path), path.read_text(encoding="utf-8")).mutant_names
    ]
    return rng.sample(names, min(size, len(names)))


def run(names: Sequence[str], children: int) -> None:
    """Test the named mutants, or all mutants without a verdict."""
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(children), *names]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"mutmut failed\n{done.stdout[-4000:]}")


def report(group: str, names: Sequence[str], listed: Mapping[Change, str]) -> bool:
    """Print the score of a group and every difference from the list. Return whether there is none."""
    codes = {name: code for name, code in verdicts().items() if not names or name in names}
    alive = {name: change(name) for name, code in codes.items() if code not in FAILED + TIMED_OUT}
    unlisted = {name: made for name, made in alive.items() if made not in listed and not made.is_of_zip_alone()}
    functions = {function(name) for name in codes}
    gone = [made for made in listed if not names and made.function in functions and made not in alive.values()]
    for name, made in unlisted.items():
        print(f"alive and not listed (exit code {codes[name]}): {made}")
    for made in gone:
        print(f"listed, but killed or no longer there: {made}")
    failed, timed_out = (sum(code in kind for code in codes.values()) for kind in (FAILED, TIMED_OUT))
    print(f"{group}: {len(codes)} mutants: {failed} killed, {timed_out} timed out, ", end="")
    print(f"{len(alive) - len(unlisted)} equivalent, {len(unlisted)} alive", flush=True)
    return not unlisted and not gone


def verdicts() -> dict[str, int | None]:
    """Return mutmut's exit code for every mutant of the group."""
    found: dict[str, int | None] = {}
    for path in sorted(Path("mutants").rglob("*.meta")):
        found |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def change(name: str) -> Change:
    """Return what a mutant changes, without comments and surrounding space."""
    path = Path(*name.split(".")[:-1])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    diff = get_diff_for_mutant(name, path=path).splitlines()[2:]
    sides = (" ".join(line[1:].partition("  #")[0].strip() for line in diff if line[0] == sign) for sign in "-+")
    return Change(function(name), *sides)


def function(name: str) -> str:
    """`m.x_softmax__mutmut_3` belongs to `m.softmax`, and `m.xǁAdamǁstep__mutmut_7` to `m.Adam.step`."""
    module, _, mangled = name.partition("__mutmut_")[0].rpartition(".")
    return f"{module}.{mangled.removeprefix('x_').removeprefix('xǁ').replace('ǁ', '.')}"


if __name__ == "__main__":
    sys.exit(main())
