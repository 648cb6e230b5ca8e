"""The documentation site: it builds without warnings, and describes each public name once."""

from __future__ import annotations

import html
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    importlib.import_module(name)
    for name in (
        "aiobatch",
        "aiobatch.errors",
        "aiobatch.events",
        "aiobatch.interfaces",
        "aiobatch.lint",
        "aiobatch.models",
        "aiobatch.options",
        "aiobatch.sandbox",
        "aiobatch.sync",
        "aiobatch.testing",
    )
]
_SIGNATURE = re.compile(r'<dt class="sig [^"]*" id="([\w.]+)">(.*?)</dt>', re.DOTALL)

pytestmark = pytest.mark.sweep


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site. A warning is an error."""
    pytest.importorskip("sphinx", reason="Sphinx is not installed: make .venv/.docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), str(ROOT / "docs"), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


@pytest.fixture(scope="module")
def signatures(site: Path) -> list[tuple[str, str]]:
    """Return the anchor and the text of each signature on the site."""
    pages = [path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))]
    found = [match for page in pages for match in _SIGNATURE.findall(page)]
    return [(anchor, html.unescape(re.sub(r"<[^>]+>", "", text))) for anchor, text in found]


def test_every_public_name_has_one_anchor(signatures: list[tuple[str, str]]) -> None:
    """Each name of a public `__all__` is described once, below one of the modules that export it."""
    anchors = [anchor for anchor, _ in signatures]
    wrong = {}
    for name in {name for module in MODULES for name in module.__all__}:
        homes = [f"{module.__name__}.{name}" for module in MODULES if name in module.__all__]
        if sum(anchors.count(home) for home in homes) != 1:
            wrong[name] = homes
    assert wrong == {}


def test_signatures_show_no_private_name(signatures: list[tuple[str, str]]) -> None:
    """No signature has a type or a default with a private name, which a reader could not look up."""
    assert signatures
    private = re.compile(r"(?<!\w)_[a-z]\w*|(?<!\w)_[A-Z]\w*")
    assert {anchor: text for anchor, text in signatures if private.search(text)} == {}


def test_every_page_is_in_the_navigation(site: Path) -> None:
    """Each page of docs/ is linked from the site's first page."""
    links = re.findall(r'href="([^"#]+\.html)', (site / "index.html").read_text(encoding="utf-8"))
    pages = {
        path.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        for path in (ROOT / "docs").rglob("*.md")
    }
    assert pages - {"index.html", "samples/README.html"} - set(links) == set()
