"""Build the wheel and the sdist, install each in a new environment, and use it outside the checkout.

    python tests/support/packages.py [PYTHON …]        the interpreters to try (default: this one)

It downloads NumPy, and setuptools for the build. CI installs from the checkout instead.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: The commands, called in a folder outside the checkout.
COMMANDS = (
    "{python} -c 'import npattn, sys; assert npattn.__file__.startswith(sys.prefix), npattn.__file__'",
    "{bin}/npattn --version",
    "{bin}/npattn check",
    "{bin}/npattn train pairs.tsv --steps 3 --d-model 8 --heads 2 --layers 1 --batch 8",
    "{bin}/npattn predict runs/pairs abc",
    "{python} -m npattn predict runs/pairs cab --show-attention",
)


def main() -> None:
    pythons = sys.argv[1:] or [sys.executable]
    with tempfile.TemporaryDirectory(prefix="npattn-packages-") as scratch:
        built = Path(scratch, "built")
        call([pythons[0], "-m", "venv", f"{scratch}/build"])
        call([f"{scratch}/build/bin/python", "-m", "pip", "install", "--quiet", "build"])
        call([f"{scratch}/build/bin/python", "-m", "build", "--outdir", str(built), str(ROOT)])
        for python in pythons:
            for package in sorted(built.iterdir()):
                use(python, package, Path(tempfile.mkdtemp(dir=scratch)))


def use(python: str, package: Path, folder: Path) -> None:
    """Install a package in a new environment, and run the commands."""
    environment = folder / "environment"
    call([python, "-m", "venv", str(environment)])
    call([f"{environment}/bin/python", "-m", "pip", "install", "--quiet", str(package)])
    words = [a + b + c for a in "abc" for b in "abc" for c in "abcd"]
    (folder / "pairs.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words), encoding="utf-8")
    for command in COMMANDS:
        ready = command.format(python=f"{environment}/bin/python", bin=f"{environment}/bin")
        call(["sh", "-c", ready], cwd=folder)
    installed = call([f"{environment}/bin/python", "-m", "pip", "list", "--format=freeze"]).split()
    version = call([f"{environment}/bin/python", "--version"]).strip()
    print(f"{package.name}: {version}, {', '.join(installed)}", flush=True)


def call(command: list[str], cwd: Path | None = None) -> str:
    """Run a command and return its output. Exit with the output if the command fails."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    main()
