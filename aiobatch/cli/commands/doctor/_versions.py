"""The check of versions: Python, the packages, and the extras that are installed."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterator
from typing import Final

from ...._version import __version__
from ._finding import Finding, note, passed

__all__ = ["check_versions"]

_DISTRIBUTION: Final = "aiobatch-client"
_PACKAGES: Final = ("aiohttp", "duckdb")
_REQUIREMENT: Final = re.compile(r"""([A-Za-z0-9._-]+)[^;]*;\s*extra\s*==\s*['"]([\w-]+)['"]""")
_FOR_CONTRIBUTORS: Final = frozenset({"test", "bench", "dev", "docs", "frames", "lock"})


def check_versions() -> Iterator[Finding]:
    """Yield the versions of what runs, and the extras."""
    names = ", ".join(f"{name} {_version(name) or 'missing'}" for name in _PACKAGES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.machine()}"
    yield passed("versions", f"aiobatch {__version__}, {names}, {python} on {system}")
    extras = _extras()
    if not extras:
        yield note("versions", "The metadata of aiobatch-client is missing, as in a frozen program.")
        return
    present = [name for name, packages in extras.items() if all(map(_version, packages))]
    absent = [name for name in extras if name not in present]
    text = f"Extras: {', '.join(present) or 'none'}."
    yield passed("versions", f"{text} Not installed: {', '.join(absent)}." if absent else text)


def _version(name: str) -> str | None:
    """Return the version of a distribution. None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extras() -> dict[str, list[str]]:
    """Return each extra for users with its packages."""
    try:
        requirements = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for text in requirements:
        match = _REQUIREMENT.match(text)
        if match is not None and match[2] not in _FOR_CONTRIBUTORS:
            found.setdefault(match[2], []).append(match[1])
    return found
