"""Sphinx's configuration. `make docs` builds the site without network, and treats warnings as errors."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from sphinx.application import Sphinx

import aiobatch

REPOSITORY = "https://github.com/aiobatch/aiobatch/blob/main"

project = "aiobatch"
copyright = "the aiobatch maintainers"  # noqa: A001 - the name is Sphinx's
version = release = aiobatch.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "myst_parser"]
exclude_patterns = ["samples"]

nitpicky = True
# Without network there are no inventories of other packages, so their names have no target.
nitpick_ignore_regex = [
    ("py:.*", rf"{package}\..*")
    for package in (
        "aiohttp",
        "asyncio",
        "collections",
        "datetime",
        "enum",
        "opentelemetry",
        "os",
        "pathlib",
        "prometheus_client",
        "random",
    )
]

# The anchors of headings that GitHub makes too, so that a relative link works in both places.
myst_heading_anchors = 3

autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
autodoc_member_order = "groupwise"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"aiobatch {release}"
html_show_sphinx = False


def prepare_page(_: Sphinx, page: str, source: list[str]) -> None:
    """Point links that leave docs/ to the repository, and give index.md a table of contents.

    The bold words of index.md are the captions, and the links below them the pages.
    """

    def to_repository(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link[1]))
        return link[0] if path.startswith("docs/") else f"]({REPOSITORY}/{path})"

    if page == "index":
        for caption, links in re.findall(
            r"^\*\*(.+?)\*\*(.*?)(?=^\*\*|\Z)", source[0], re.MULTILINE | re.DOTALL
        ):
            pages = re.findall(r"\]\((?!\.\.)([^)#]+)\.md\)", links)
            source[0] += "\n".join(
                ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]
            )
    source[0] = re.sub(r"\]\((\.\./[^)]+)\)", to_repository, source[0])


def shorten_defaults(*event: Any) -> tuple[str | None, str | None]:
    """Show the default RetryPolicy(attempts=5, …) as RetryPolicy(), whose fields are described elsewhere."""
    *_, arguments, returned = event
    short = re.sub(r"= ([A-Z]\w+)\((?:[^()]|\([^()]*\))*\)", r"= \1()", arguments or "")
    return short or None, returned


def setup(app: Sphinx) -> None:
    """Register the hooks."""
    app.connect("source-read", prepare_page)
    app.connect("autodoc-process-signature", shorten_defaults)
