"""The page of the explorer as one file: HTML, style, scripts, labels and data, without a network.

`document` puts the parts from `assets/` together. The server sends it without data, and asks for them afterwards.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from npattn._internal.files.whole import write_text
from npattn.learn.explore.page import Page, build, everything

#: The modules of JavaScript. A module imports only modules before it, so one script can hold them all.
MODULES = ("dom.js", "colours.js", "state.js", "matrices.js", "code.js", "details.js", "model.js", "main.js")

#: A line of a module that a script with all of them does not have.
IMPORT = re.compile(r"^import .*\n", re.MULTILINE)
EXPORT = re.compile(r"^export ", re.MULTILINE)


class Explorer:
    """What `npattn.explore` returns. A notebook shows it as a page.

    - page: the matrices with their gradients, formulas and code.
    """

    def __init__(self, page: Page) -> None:
        self.page = page

    def __repr__(self) -> str:
        return f"<Explorer: {self.page.title}; .save(path) writes it as a page>"

    def _repr_html_(self) -> str:
        """Return the page in a frame, as Jupyter shows it."""
        text = html.escape(document(everything(self.page)))
        title = html.escape(self.page.title)
        return f'<iframe title="{title}" srcdoc="{text}" style="width: 100%; height: 800px; border: 0"></iframe>'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page as one file of HTML, of less than a megabyte. It needs no network and no server.

        - path: of the file. A file that is there is replaced.

        Raises OSError when it can't be written.
        """
        write_text(path, document(everything(self.page)))


def explore(
    subject: str = "v5",
    *,
    numbers: Mapping[str, Mapping[str, Any]] | None = None,
    switches: Mapping[str, Any] | None = None,
    part: str | None = None,
    word: str | None = None,
    target: str | None = None,
) -> Explorer:
    """Return a page with every number of a forward and its backward; the last line of a cell of Jupyter shows it.

    One can point at a number and see the numbers that make it, its formula and its line of code, and step through
    forward and backward. `npattn explore` serves the same page, where numbers can be changed too.

    - subject: v1 … v14; a layer, such as layer_norm; encoder_layer or decoder_layer; or g2p, the trained model.
    - numbers: other numbers, by array and index, counted from 0: {"X": {"0,1": 2.5}, "dY": …, "mask": {"0,1": False}}.
    - switches: such as {"no_sqrt_D": True, "no_mask": True, "scale_scores": 10, "heads": 2}.
    - part: the path of a part of a layer of the Transformer or a model, such as decoder.0.cross_attention.
    - word, target: what a trained model reads, and what it is to write.

    Raises ValueError for what is not there, and for what is no number.

    >>> explore("v4", numbers={"X": {"0,0": 2.0}}).page.shown["X"].array
    array([[2., 0., 0., 0.],
           [0., 1., 0., 0.]])
    """
    changes = {"numbers": numbers, "switches": switches, "part": part, "word": word, "target": target}
    return Explorer(build(subject, changes))


def document(page: Mapping[str, Any] | None = None) -> str:
    """Return the page as HTML.

    - page: what `everything` returns; None for a page that asks a server.

    Its Content-Security-Policy allows its own style and script, and, without data, its own server.
    """
    style, script = asset("style.css"), "\n".join(script_of(name) for name in MODULES)
    data = {"labels": json.loads(asset("labels.json")), "page": page}
    found = {
        "POLICY": policy(style, script, is_served=page is None),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub("|".join(f"\\${key}\\$" for key in found), lambda key: found[key[0].strip("$")], asset("page.html"))


def policy(style: str, script: str, *, is_served: bool) -> str:
    """Return the Content-Security-Policy: nothing but this style and this script, known by their hashes."""
    connect = "'self'" if is_served else "'none'"
    own = {"style-src": digest(style), "script-src": digest(script), "connect-src": connect}
    return "; ".join(f"{key} {value}" for key, value in {"default-src": "'none'", "base-uri": "'none'", **own}.items())


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def script_of(name: str) -> str:
    """Return a module as a part of a script: without its imports, and without the word export."""
    return EXPORT.sub("", IMPORT.sub("", asset(name)))


def asset(name: str) -> str:
    """Return the text of a file in `assets/`."""
    return resources.files("npattn.learn.explore").joinpath("assets", name).read_text(encoding="utf-8")
