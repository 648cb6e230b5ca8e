"""constraints.txt pins an exact version of everything that the extras install."""

from __future__ import annotations

import configparser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]


def _read_lock() -> dict[str, list[Requirement]]:
    """Return the pins by package. A package can have one pin for each Python version."""
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def _read_requirements() -> list[Requirement]:
    """Return what the package and all of its extras require, apart from itself."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    requirements = [Requirement(line) for text in texts for line in text.strip().splitlines()]
    return [each for each in requirements if each.name != config["metadata"]["name"]]


def test_lock_pins_every_requirement() -> None:
    """Each requirement has a pin that satisfies it: `make lock` updates the file."""
    pins = _read_lock()
    for requirement in _read_requirements():
        for pin in pins[canonicalize_name(requirement.name)]:
            (exact,) = pin.specifier
            assert exact.operator == "=="
            assert exact.version in requirement.specifier, requirement


def test_lock_names_no_index() -> None:
    """The file holds versions only, so that it works with any package index."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if "//" in line or line.startswith("-")] == []
