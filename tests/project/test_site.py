"""The documentation site: it builds without warnings, and describes each public name once."""

from __future__ import annotations

import functools
import html
import http.server
import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..helpers.threaded_server import running_server

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
        "aiobatch.spark",
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
    exported = [
        (module.__name__, name, getattr(module, name)) for module in MODULES for name in module.__all__
    ]
    for _, name, found in exported:  # two modules may have functions of the same name
        homes = [f"{module}.{other}" for module, other, one in exported if other == name and one is found]
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


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    """Serve the site on this machine."""
    handler = functools.partial(_Quiet, directory=str(site))
    with running_server(handler) as port:
        yield f"http://127.0.0.1:{port}"


# Opens each page in a frame of that width, one after the other, and puts what it measures into the title.
_MEASURE = """<body><script>
const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
(async () => {
  const found = {};
  for (const [path, width] of PAGES) {
    const frame = document.createElement("iframe");
    frame.style = `border:0;height:900px;width:${width}px`;
    frame.src = path;
    document.body.append(frame);
    await new Promise((done) => { frame.onload = done; });
    const page = frame.contentDocument, root = page.documentElement;
    if (path.includes("?q=")) {
      for (let tries = 0; tries < 100 && !page.querySelector("#search-results li"); tries++) await wait(0.1);
    }
    found[`${path} ${width}`] = {
      overflow: root.scrollWidth - frame.clientWidth,
      lost: [...page.images].filter((image) => !image.naturalWidth).map((image) => image.src),
      wide: [...page.querySelectorAll("article pre, article table")].filter((one) => {
        for (let box = one; box && box !== page.body; box = box.parentElement) {
          if (["auto", "scroll"].includes(frame.contentWindow.getComputedStyle(box).overflowX)) return false;
        }
        return one.getBoundingClientRect().right > frame.clientWidth;
      }).length,
      links: page.querySelectorAll(".sidebar-tree a").length,
      results: page.querySelectorAll("#search-results li").length,
    };
    frame.remove();
  }
  document.title = JSON.stringify(found);
})();
</script>"""


def _measure(pages: list[tuple[str, int]], site: Path, url: str, profile: Path) -> dict[str, dict[str, Any]]:
    """Return what Chromium measures in pages at widths."""
    (site / "measure.html").write_text(_MEASURE.replace("PAGES", json.dumps(pages)), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=120000", "--dump-dom", f"{url}/measure.html"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None, done.stderr
    measured: dict[str, dict[str, Any]] = json.loads(html.unescape(found[1]))
    return measured


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_site_fits_wide_and_narrow_windows(site: Path, url: str, tmp_path: Path) -> None:
    """At 1300 and 400 pixels no page overflows, code and tables scroll, and pictures and the search work."""
    paths = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    names = [f"/{path}" for path in paths if path not in {"measure.html", "genindex.html", "search.html"}]
    pages = [(name, width) for name in [*names, "/search.html?q=retry"] for width in (1300, 400)]
    measured = _measure(pages, site, url, tmp_path / "profile")
    assert len(measured) == len(pages) > 40
    assert {name: one for name, one in measured.items() if one["overflow"] > 0 or one["wide"]} == {}
    assert {name: one["lost"] for name, one in measured.items() if one["lost"]} == {}
    assert [name for name, one in measured.items() if one["links"] < 20] == []
    assert all(one["results"] for name, one in measured.items() if "?q=" in name)
