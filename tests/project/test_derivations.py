"""Every derivation names the sections of the foundations page that it uses, and says what holds.

A derivation is the paragraph **Backward** of a module's docstring, up to the next paragraph with a name in bold.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import npattn
from npattn.attention import v2_dot_product, v3_scaled_dot_product
from npattn.layers import layer_norm as layer_norm_function
from npattn.layers.layer_norm import Cache

PACKAGE = Path(npattn.__file__).parent
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.glob("learn/pages/foundations*.md"))}
SOURCES = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
DOCSTRINGS = {
    path: ast.get_docstring(ast.parse(source)) or ""
    for path, source in SOURCES.items()
    if "**Backward**" in source or re.search(r"oundations,? F\d", source)
}
DERIVATIONS = {
    path: derivation[1]
    for path, text in DOCSTRINGS.items()
    if (derivation := re.search(r"^(\*\*Backward\*\*.*?)(?=\n\n\*\*|\n\nBy hand: |\n\n>>>|\Z)", text, re.M | re.S))
}
REFERENCE = re.compile(r"\(foundations F(\d+)\)")


@pytest.mark.parametrize("path", DERIVATIONS)
def test_a_derivation_refers_to_the_foundations(path: str) -> None:
    assert REFERENCE.search(DERIVATIONS[path]), f"{path}: **Backward** names no section, as in (foundations F5)"


@pytest.mark.parametrize("page", PAGES)
def test_every_section_that_a_docstring_names_is_on_the_page(page: str) -> None:
    sections = set(re.findall(r"^## .*?\bF(\d+)\.", PAGES[page], re.M))
    named = {number: path for path, text in DOCSTRINGS.items() for number in REFERENCE.findall(text)}
    assert len(named) > 8
    assert {number: path for number, path in named.items() if number not in sections} == {}


def test_the_references_have_one_form() -> None:
    """So that they can be found, and checked here."""
    others = {
        path: found
        for path, text in DOCSTRINGS.items()
        if (found := re.findall(r"(?<!\()[Ff]oundations,? F\d+|\(foundations F\d+[^)\d][^)]*\)", text))
        and not path.startswith(("learn/", "cli/"))
    }
    assert others == {}


def test_all_versions_and_layers_have_a_derivation() -> None:
    versions = (*npattn.attention.VERSIONS, *npattn.attention.MODERN_VERSIONS)
    modules = {version.module.__name__ for version in versions}
    modules |= {getattr(npattn.layers, name).__module__ for name in npattn.layers.__all__ if name.endswith("_backward")}
    paths = {f"{module.removeprefix('npattn.').replace('.', '/')}.py" for module in modules}
    assert len(paths) > 14 and paths <= set(DERIVATIONS)


@pytest.mark.parametrize("module", [each.module for each in npattn.attention.VERSIONS[:7]], ids=lambda m: m.__name__)
def test_every_gradient_that_a_backward_computes_has_its_line(module: ModuleType) -> None:
    computed = set(re.findall(r"^ +(d\w+) \+?/?=", inspect.getsource(inspect.unwrap(module.backward)), re.M))
    derived = re.findall(r"\b(d\w+) \+?=", DERIVATIONS[f"attention/{module.__name__.rpartition('.')[2]}.py"])
    assert len(computed) > 3 and computed - {"db"} <= set(derived)                          # db: all four biases


def backward_with_gamma_outside(dY: Any, cache: Cache) -> tuple[Any, Any, Any]:
    """The layer norm's backward with a well-known mistake: γ outside the means."""
    X_hat, r, gamma, _ = cache
    means = dY.mean(-1, keepdims=True) + X_hat * (dY * X_hat).mean(-1, keepdims=True)
    return gamma * r * (dY - means), dY * X_hat, dY


def test_the_example_of_the_layer_norm_tells_the_right_formula_from_the_usual_mistake() -> None:
    text = DOCSTRINGS["layers/layer_norm.py"]
    names = {"layer_norm": layer_norm_function, "layer_norm_backward": npattn.layers.layer_norm_backward}
    assert failures(text, names) == 0
    assert failures(text, names | {"layer_norm_backward": backward_with_gamma_outside}) >= 1
    cache = layer_norm_function(np.array([[1.0, 3.0, 5.0]]), np.array([1.0, 2.0, 4.0]), eps=4 / 3)[1]
    wrong, *_ = backward_with_gamma_outside(np.array([[3.0, 3.0, 0.0]]), cache)
    assert wrong.tolist() == [[0, 1, -2]] and "[0, 1, −2]" in text


def failures(text: str, names: dict[str, Any]) -> int:
    """Run the examples of a text and return how many fail."""
    test = doctest.DocTestParser().get_doctest(text, dict(names), "example", None, 0)
    return doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None).failed


def test_what_version_3_says_of_the_gradient_of_the_query() -> None:
    """|dq| is greater without √D_Q at 64, a fifth at 256, less than a hundredth at 1024; with it, it stays the same."""
    plain, scaled = (
        {D: median_gradient(version, D) for D in (16, 64, 96, 128, 256, 1024)}
        for version in (v2_dot_product, v3_scaled_dot_product)
    )
    ratios = {D: plain[D] / scaled[D] for D in plain}
    assert ratios[16] > ratios[64] > 1.2
    assert ratios[64] > ratios[96] > ratios[128] and ratios[128] < 1
    assert 0.1 < ratios[256] < 0.3 and ratios[1024] < 0.01
    assert min(scaled.values()) > 0.25 and max(scaled.values()) < 0.35


def median_gradient(version: Any, D: int) -> float:
    """Return the median of |dq| over random q, X and dy of length 1, as figures/why_scale.py draws it."""
    rng, draws, N_X = np.random.default_rng(7), 256_000 // D, 16
    q, X, dy = (rng.standard_normal(shape) for shape in ((draws, D), (draws, N_X, D), (draws, D)))
    _, cache = version.forward(q, X)
    dq, _ = version.backward(dy / np.linalg.norm(dy, axis=-1, keepdims=True), cache)
    return float(np.median(np.linalg.norm(dq, axis=-1)))
