"""The page as one file, and in a notebook."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

import npattn
from npattn.learn.explore import build, everything, saved
from npattn.learn.explore.saved import MODULES, Explorer, asset, document, explore

ASSETS = Path(saved.__file__).parent / "assets"


def part(text: str, begin: str, end: str) -> str:
    assert text.count(begin) == 1
    return text.partition(begin)[2].partition(end)[0]


def data_of(text: str) -> Any:
    return json.loads(part(text, '<script type="application/json" id="data">', "</script>"))


def sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_it_has_all_its_parts() -> None:
    page = everything(build("v4"))
    text = document(page)
    labels = json.loads(asset("labels.json"))
    assert data_of(text) == {"labels": labels, "page": json.loads(json.dumps(page))}
    assert data_of(document()) == {"labels": labels, "page": None}
    assert part(text, "<style>", "</style>") == asset("style.css")
    assert not re.search(r"\$[A-Z]+\$", text)
    assert {path.name for path in ASSETS.glob("*.js")} == set(MODULES)


def test_its_policy_allows_its_own_style_and_script_alone() -> None:
    for text, connect in ((document(everything(build("v1"))), "'none'"), (document(), "'self'")):
        style = sha256(part(text, "<style>", "</style>"))
        script = sha256(part(text, '<script type="module">', "</script>"))
        assert part(text, 'http-equiv="Content-Security-Policy" content="', '"') == (
            f"default-src 'none'; base-uri 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
            f"connect-src {connect}"
        )


def test_it_needs_no_other_file() -> None:
    text = document(everything(build("v5")))
    outside = re.sub(r"<script type=.application/json.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|//\w+\.\w|url\(|@import|\bsrc=", outside)
    assert "import " not in re.sub(r"with\|import\|from", "", part(text, '<script type="module">', "</script>"))
    assert "\nexport " not in text


def test_each_module_imports_only_those_before_it() -> None:
    """So one script can hold them all; its names are different ones."""
    names: list[str] = []
    for number, name in enumerate(MODULES):
        text = asset(name)
        assert set(re.findall(r'^import \{[^}]+\} from "\./([\w.]+)";$', text, re.MULTILINE)) <= set(MODULES[:number])
        assert text.count("import {") == len(re.findall(r"^import ", text, re.MULTILINE))
        own = re.findall(r"^(?:export )?(?:async )?(?:function|const|let) (\w+)", text, re.MULTILINE)
        exported = set(re.findall(r"^export (?:async )?(?:function|const|let) (\w+)", text, re.MULTILINE))
        names += own
        later = "".join(asset(other) for other in MODULES[number + 1 :])
        assert all(re.search(rf"\b{each}\b", later) for each in exported), name
    assert len(names) == len(set(names))


def test_what_looks_like_an_end_of_the_data_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    text = document({"title": "</script><b>$STYLE$", "word": "é"})
    assert data_of(text)["page"] == {"title": "</script><b>$STYLE$", "word": "é"}
    assert '"title":"\\u003c/script>\\u003cb>$STYLE$","word":"é"' in text


@pytest.mark.parametrize("subject", ["v1", "v7", "v14"])
def test_files_are_small(subject: str) -> None:
    assert len(document(everything(build(subject))).encode()) < 400_000


@pytest.mark.long
def test_the_file_of_the_model_is_under_a_megabyte() -> None:
    for word in ("a", "knight", "transformers"):          # the row of one key too
        assert len(document(everything(build("g2p", {"word": word}))).encode()) < 1_000_000, word


def test_a_value_that_shows_itself_and_saves_itself(tmp_path: Path) -> None:
    found = npattn.explore("v4", numbers={"X": {"0,0": 2.0}}, switches={"no_sqrt_D": True})
    assert isinstance(found, Explorer) and npattn.explore is explore
    changed = build("v4", {"numbers": {"X": {"0,0": 2.0}}, "switches": {"no_sqrt_D": True}})
    text = document(everything(changed))
    assert repr(found) == f"<Explorer: {changed.title}; .save(path) writes it as a page>"
    title = html.escape(changed.title)
    assert found._repr_html_() == (
        f'<iframe title="{title}" srcdoc="{html.escape(text)}" style="width: 100%; height: 800px; border: 0"></iframe>'
    )
    found.save(tmp_path / "v4.html")
    assert (tmp_path / "v4.html").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["v4.html"]
    with pytest.raises(OSError, match="cannot write"):
        found.save(tmp_path / "none" / "v4.html")


def test_each_argument_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(saved, "build", lambda *args: calls.append(args))
    explore()
    explore("g2p", part="decoder", word="word", target="W", numbers={}, switches={})
    nothing = {"numbers": None, "switches": None, "part": None, "word": None, "target": None}
    assert calls == [
        ("v5", nothing),
        ("g2p", {"numbers": {}, "switches": {}, "part": "decoder", "word": "word", "target": "W"}),
    ]
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"^subject: expected one of v1, .*, got 'v0'$"):
        explore("v0")


def test_labels_are_in_both_languages_and_used() -> None:
    labels = json.loads(asset("labels.json"))
    assert list(labels) == ["en", "zh"] and labels["en"].keys() == labels["zh"].keys()
    scripts = "".join(asset(name) for name in MODULES) + asset("page.html")
    for key, text in labels["en"].items():
        assert text and labels["zh"][key]
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", labels["zh"][key])), key
        assert f'"{key}"' in scripts or re.match(r"(role|group|switch|scale)_", key), key
    used = set(re.findall(r'label\("(\w+)"', scripts)) | set(re.findall(r'data-(?:label|aria)="(\w+)"', scripts))
    assert used <= labels["en"].keys()
    subjects = build("v1").as_dict()["subjects"]
    assert {f"group_{subject['group']}" for subject in subjects} <= labels["en"].keys()
    for subject in ("v7", "encoder_layer"):
        page = build(subject).as_dict()
        assert {f"switch_{switch['name']}" for switch in page["switches"]} <= labels["en"].keys()
        assert {f"role_{value['role']}" for value in page["values"]} <= labels["en"].keys()
