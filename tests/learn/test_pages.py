"""The pages are complete in both languages, their examples run, their links lead somewhere, and their lines fit."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npattn
from npattn.cli.explain import pages

PACKAGE = Path(npattn.__file__).parent
FOLDER = PACKAGE / "learn" / "pages"
FILES = sorted(path for path in FOLDER.glob("*.md") if not path.name.startswith("autograd"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in FILES}
NAMES = [f"F{n}" for n in range(1, 17)]

#: A formula, which is indented, or an example, which is fenced.
BLOCK = re.compile(r"^```.*?^```$|^ {4}[^\n]*(?:\n {4}[^\n]*)*", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CHINESE = re.compile(r"[\u4e00-\u9fff]")

EDITIONS = pytest.mark.parametrize("page", ["foundations", "glossary", "models"])


def parts(text: str) -> list[str]:
    """Return the paragraphs, each item of a list by itself, and between them "@" for each formula or example."""
    return [part.strip() for part in re.split(r"\n\n|\n(?=- )", BLOCK.sub("@", text).strip())]


def paragraphs(text: str) -> list[str]:
    return [part for part in parts(text) if part != "@"]


def sections(text: str) -> dict[str, str]:
    """Return the sections of foundations by name."""
    parts = re.split(r"^## <a id=\"f\d+\"></a>(F\d+)\. ", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(text: str) -> list[tuple[str, str]]:
    """Return the terms of the glossary with their Chinese."""
    return re.findall(r"^- \*\*(.+?)\*\*(?: \(|（)(.+?)(?:\)|）)[:：]", text, re.MULTILINE)


def test_every_page_is_there_in_the_languages_that_it_has() -> None:
    found = {path.name for path in FOLDER.iterdir()}
    both = {page + ending for page in pages.PAGES for ending in (".md", ".zh-CN.md")}
    assert found == both - {"cheat_sheet.zh-CN.md"}


def test_both_editions_of_foundations_have_the_sections() -> None:
    for name in ("foundations.md", "foundations.zh-CN.md"):
        assert list(sections(TEXTS[name])) == NAMES, name
        assert re.findall(r'^## <a id="(f\d+)"></a>(F\d+)\. ', TEXTS[name], re.M) == [(n.lower(), n) for n in NAMES]


@EDITIONS
def test_both_editions_have_the_same_formulas_and_examples(page: str) -> None:
    english, chinese = (TEXTS[page + ending] for ending in (".md", ".zh-CN.md"))
    assert BLOCK.findall(english) == BLOCK.findall(chinese)


@pytest.mark.parametrize("name", NAMES)
def test_a_section_has_a_question_a_derivation_and_an_example_in_both_editions(name: str) -> None:
    english, chinese = (sections(TEXTS[f"foundations{ending}"])[name] for ending in (".md", ".zh-CN.md"))
    assert BLOCK.findall(english) == BLOCK.findall(chinese)
    assert any("(1)" in block for block in BLOCK.findall(english))
    assert any(block.startswith("```python\n>>> ") for block in BLOCK.findall(english))
    assert re.fullmatch(r"\*.+\?\*", parts(english)[1], re.DOTALL) and re.fullmatch(r"\*.+？\*", parts(chinese)[1])
    assert english.count("*Example.*") == chinese.count("*例。*")
    assert [part == "@" for part in parts(english)] == [part == "@" for part in parts(chinese)]


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith(".zh-CN.md")])
def test_every_paragraph_of_the_chinese_edition_is_chinese(name: str) -> None:
    for paragraph in paragraphs(TEXTS[name]):
        assert CHINESE.search(paragraph), paragraph
        assert not re.search(r"\b(?:the|is|are|of|and|that|which|with|its?|for|by)\b", paragraph), paragraph


def test_the_english_edition_is_english() -> None:
    assert CHINESE.findall(TEXTS["foundations.md"].replace("[中文]", "")) == []


def test_a_paragraph_names_the_same_formulas_and_sections_in_both_editions() -> None:
    """A number or a reference that changes in one edition alone is found here."""
    editions = [sections(TEXTS[f"foundations{ending}"]) for ending in (".md", ".zh-CN.md")]
    for name in NAMES:
        for english, chinese in zip(*(paragraphs(edition[name]) for edition in editions), strict=True):
            assert references(english) == references(chinese), english


def references(text: str) -> list[str]:
    """Return the numbers of formulas, the sections and the decimal numbers that a paragraph names."""
    return sorted(re.findall(r"\(\d+\)|\bF\d+\b|\d+\.\d+|10[⁻⁰-⁹²³]+|(?<=\()[\d, ]+(?=\))", text))


def test_both_glossaries_have_the_same_terms_with_the_same_links() -> None:
    english, chinese = TEXTS["glossary.md"], TEXTS["glossary.zh-CN.md"]
    assert entries(english) == entries(chinese)
    assert len(entries(english)) == english.count("\n- ") == chinese.count("\n- ") > 100
    assert [target.replace(".zh-CN", "") for target in LINK.findall(chinese)][2:] == LINK.findall(english)[2:]


def test_the_glossary_is_in_alphabetical_order() -> None:
    terms = [term.lower() for term, _ in entries(TEXTS["glossary.md"])]
    assert terms == sorted(terms) and len(set(terms)) == len(terms)


@pytest.mark.parametrize("term", ["cotangent", "Jacobian", "cache", "mask", "pad", "logits", "label smoothing",
                                  "residual stream", "post-norm", "pre-norm", "head", "cross-attention",
                                  "self-attention", "tie", "beam search", "exact match", "WER", "subnormal", "kink",
                                  "complex step", "scatter-add", "held out", "BLAS", "worker", "activation", "epoch",
                                  "upstream gradient", "vector-Jacobian product"])  # fmt: skip
def test_the_glossary_has(term: str) -> None:
    assert term in {name for names, _ in entries(TEXTS["glossary.md"]) for name in names.split(", ")}


def test_the_glossary_gives_the_smoothing_of_the_shipped_model() -> None:
    model = npattn.load_model("g2p")
    settings = json.loads((PACKAGE / "runs" / "shipped" / "g2p" / "run.json").read_text(encoding="utf-8"))
    epsilon, V = settings["settings"]["smoothing"], model.transformer.config.tgt_vocab
    chosen = [step.probabilities[step.symbol] for word in ("knight", "attention", "water", "school")
              for step in model.probabilities(word, model(word))]  # fmt: skip
    for language in pages.ENDINGS:
        entry = pages.find(["glossary", "label", "smoothing"], language) or ""
        assert re.findall(r"0\.\d+", entry) == [
            f"{epsilon}", f"{epsilon}", f"{epsilon / V:.3f}", f"{1 - epsilon + epsilon / V:.3f}",
            f"{np.median(chosen):.2f}",
        ]  # fmt: skip
        assert f" {V}" in entry


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    targets = LINK.findall(TEXTS[path.name])
    assert len(targets) > 2
    for target in targets:
        file, _, anchor = target.partition("#")
        assert file == "" or (path.parent / file).exists(), target
        assert not anchor or f'<a id="{anchor}"></a>' in TEXTS[file or path.name], target
    if path.name.endswith(".zh-CN.md"):                       # a reader of Chinese stays in Chinese
        english = {target for target in targets if target.startswith(("foundations.md", "glossary.md", "models.md"))}
        assert english == {path.name.replace(".zh-CN", "")}


def test_every_section_that_the_package_refers_to_is_there() -> None:
    found = set()
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("README.md")]:
        found |= set(re.findall(r"\bfoundations (F\d+)", path.read_text(encoding="utf-8")))
    assert found and found <= set(NAMES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_formulas_and_code_fit_a_phone_and_a_terminal(path: Path) -> None:
    for block in BLOCK.findall(TEXTS[path.name]):
        lines = [f"    {line}" for line in block.split("\n")[1:-1]] if block.startswith("```") else block.split("\n")
        too_long = [line for line in lines if len(line) > (80 if block.startswith("```") else 76)]
        assert not too_long, too_long


def test_both_pages_of_models_say_the_same_of_each_model() -> None:
    """The same models in the same order, with the same versions, numbers, classes and sources."""
    english, chinese = (pages.parts(TEXTS[f"models{ending}"]) for ending in (".md", ".zh-CN.md"))
    assert list(english) == list(chinese) and len(english) == 18
    fact = re.compile(r"`[^`]+`|v\d+|[A-Z]\w* = \d+|\d+(?:[.:]\d+)*")
    for name, entry in english.items():
        assert sorted(fact.findall(entry)) == sorted(fact.findall(chinese[name])), name
    versions = {int(number) for number in re.findall(r"\bv(\d+)", " ".join(english.values()))}
    assert versions == {version.number for version in npattn.attention.MODERN_VERSIONS}
    assert len(TEXTS["models.md"].splitlines()) <= 60


def test_the_cheat_sheet_is_one_page() -> None:
    assert len(TEXTS["cheat_sheet.md"].splitlines()) <= 60


def table(section: str) -> list[list[str]]:
    """Return the rows of a table of the cheat sheet: section of foundations, forward, backward, shape."""
    text = TEXTS["cheat_sheet.md"].partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return rows[1:]


def test_the_cheat_sheet_refers_to_sections() -> None:
    found = {row[0] for section in ("Layers · 各层", "v5", "v7") for row in table(section)}
    assert found - set(NAMES) == {"v5"} and len(found) > 12


def run_formulas(formulas: str, values: dict[str, Any]) -> None:
    """Compute what a cell says, on NumPy arrays."""
    for formula in re.split(r",  +", formulas):
        code = re.sub(r"1ᵀ (\S+)", r"sum_rows(\1)", formula).replace("ᵀ", ".mT").replace("⊙", "*").replace("−", "-")
        code = re.sub(r"(?<=[\w)]) (?=[\w(])", " @ ", code.replace("/ √D_Q", "/ Q.shape[-1] ** 0.5"))
        exec(code, values)


def cells(place: str) -> list[str]:
    """Return the formulas of the backward of attention: in the cheat sheet for v5 and v7, or in F15 of foundations."""
    if place == "F15":
        return re.findall(r"^ {4}(d.+?)  +F.+\([3-7]\)$", sections(TEXTS["foundations.md"])["F15"], re.MULTILINE)
    backward = [(section, cell) for section, _, cell, _ in table(place)]
    return [cell for section, own in backward for cell in (cells("v5")[:3] if section == "v5" else [own])]


@pytest.mark.parametrize("place", ["v5", "v7", "F15"])
def test_the_formulas_of_attention_give_the_gradients_of_the_module(place: str) -> None:
    version = place.replace("F15", "v5")
    rng = np.random.default_rng(0)
    X_Q, X, biases = rng.normal(size=(2, 3)), rng.normal(size=(4, 5)), [rng.normal(size=n) for n in (6, 6, 4, 3)]
    if version == "v5":
        names, options = ["Q", "X", "W_K", "W_V"], {}
        args = [X_Q, X, rng.normal(size=(5, 3)), rng.normal(size=(5, 2))]
        module: Any = npattn.attention.v5_cross_attention
    else:
        names, options = ["X_Q", "X", "W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"], {"n_heads": 2}
        args = [X_Q, X, *(rng.normal(size=size) for size in ((3, 6), (5, 6), (5, 4), (4, 3))), *biases]
        module = npattn.attention.v7_multi_head
    out, cache = module.forward(*args, **options)
    gradient = rng.normal(size=out.shape)
    multi_head = npattn.attention.v7_multi_head
    values = cache._asdict() | {
        "dY": gradient, "dZ": gradient, "merge": multi_head.merge_heads, "sum_rows": lambda d: d.sum(0),
        "split": lambda rows: multi_head.split_heads(rows, 2), "rowsum": lambda A: A.sum(-1, keepdims=True),
    }  # fmt: skip
    if version == "v7":
        values["Y"] = values["split"](cache.Y)                # the cache keeps it merged
    assert len(cells(place)) >= 5
    for cell in cells(place):
        run_formulas(cell, values)
    expected = dict(zip(names, module.backward(gradient, cache), strict=True))
    for name in set(names) - {"b_K"}:                         # db_K is 0, and rounding noise in numbers
        np.testing.assert_allclose(values[f"d{name}"], expected[name], rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", ["", *NAMES])
def test_the_examples_give_what_they_show(name: str) -> None:
    """Each section runs by itself; the Chinese edition has the same examples, see above."""
    text = TEXTS["foundations.md"]
    part = sections(text)[name] if name else text.partition("\n## ")[0]
    names: dict[str, Any] = {"np": np, "npattn": npattn} if name else {}
    test = doctest.DocTestParser().get_doctest(part, names, name, name, 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
