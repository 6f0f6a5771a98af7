"""What the page says and how it looks, without a browser: the words of the README, every term explained, contrast."""

from __future__ import annotations

import html.parser
import itertools
import re

import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")

from iern.runtime.serve.routes import PAGE
from repository import ROOT


class Elements(html.parser.HTMLParser):
    """All start tags with their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def elements() -> Elements:
    found = Elements()
    found.feed((PAGE / "page.html").read_text(encoding="utf-8"))
    return found


def test_the_page_states_the_intended_use_in_the_words_of_the_readme(elements):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Intended use and limits")[2].partition("\n## ")[0]
    sentences = re.split(r"(?<=\.)\s+", " ".join(section.split()))
    said = " ".join(elements.text.split())
    for start in ("It names the expression", "It does not know", "It must not be used"):
        (sentence,) = [each for each in sentences if each.startswith(start)]
        assert sentence in said


def test_every_term_has_an_explanation_and_every_explanation_a_term(elements):
    terms = {attributes["data-term"] for _, attributes in elements.tags if "data-term" in attributes}
    ids = {attributes["id"] for tag, attributes in elements.tags if tag == "dd" and "id" in attributes}
    assert {"probability", "uncertain", "disagreement", "fps", "processing", "age", "dropped"} <= terms
    assert {f"term-{name}" for name in terms} == {name for name in ids if name.startswith("term-")}


def test_ids_are_unique_and_references_to_them_exist(elements):
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements.tags:
        for name in ("for", "aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
        assert (attributes.get("href") or "#").removeprefix("#") in {"", "data:,", "page.css", *ids}


def test_the_script_looks_only_for_elements_that_the_page_has(elements):
    ids = {attributes["id"] for _, attributes in elements.tags if "id" in attributes}
    script = "".join(path.read_text(encoding="utf-8") for path in PAGE.glob("*.js"))
    wanted = set(re.findall(r"""byId\("([^"]+)"\)""", script))
    assert len(wanted) > 20
    assert wanted <= ids


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2.2 of `#rrggbb`."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_have_the_contrast_of_wcag_level_aa(scheme):
    blocks = re.findall(r":root \{([^}]*)\}", (PAGE / "page.css").read_text(encoding="utf-8"))
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[("light", "dark").index(scheme)]))
    for text, ground in itertools.product(("ink", "muted", "accent", "problem"), ("ground", "panel")):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for text in ("ink", "muted", "recording"):
        assert contrast(colours[text], colours["button"]) >= 4.5, text
    for ground in ("ground", "panel", "button"):
        assert contrast(colours["edge"], colours[ground]) >= 3, ground
