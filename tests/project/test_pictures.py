"""The pictures of the documentation, which `make pictures` draws."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.report.page import read_template

ROOT = Path(__file__).resolve().parents[2]
_DOCS = ROOT / "docs"
_PICTURES = sorted((_DOCS / "pictures").glob("*.svg"))
_SHOWN = {
    (path.parent / target).resolve(): words
    for path in _DOCS.rglob("*.md")
    for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+\.svg)\)", path.read_text(encoding="utf-8"))
}


def _texts(name: str) -> set[str]:
    """Return the texts of a picture."""
    root = ET.parse(_DOCS / "pictures" / f"{name}.svg").getroot()  # noqa: S314 - a file of this repository
    return {"".join(text.itertext()).strip() for text in root.iter("{http://www.w3.org/2000/svg}text")}


def test_every_picture_is_shown_and_described() -> None:
    """Each picture is on a page, with words for those who do not see it, and each page's picture exists."""
    assert set(_PICTURES) == set(_SHOWN)
    assert min(len(words) for words in _SHOWN.values()) > 40


@pytest.mark.parametrize("path", _PICTURES, ids=lambda path: path.stem)
def test_pictures_load_nothing_and_keep_no_date(path: Path) -> None:
    """A picture refers to nothing outside itself, and two runs draw the same bytes."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r'(href|src)="(?!#)|url\("?(?!#)', text.replace("url(#", ""))
    assert "<dc:date>" not in text


def test_layers_are_those_of_the_import_contract() -> None:
    """The drawing of the package has each module of the contract."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = config["importlinter:contract:layers"]["layers"]
    assert set(re.findall(r"\w+", layers)) <= _texts("layers")


def test_plots_have_every_contender_of_the_page() -> None:
    """The plots have the contenders of docs/benchmarks.md, and the page of `make bench` has the plots."""
    tables = (_DOCS / "benchmarks.md").read_text(encoding="utf-8")
    for section, picture in (("tokens", "requests-and-lag"), ("unknown_rate", "rate-limit")):
        table = tables.partition(f"\n## `{section}`\n")[2].partition("\n| measure")[0]
        contenders = re.findall(r"^\| ([^|]+?) +\| +\d", table, re.MULTILINE)
        texts = " ".join(_texts(picture))
        assert contenders
        assert [name for name in contenders if name not in texts] == []
        assert f"(pictures/{picture}.svg)" in read_template()[1][section][0]
