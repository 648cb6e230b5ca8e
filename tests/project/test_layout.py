"""The layout of the package: how large its folders and files may be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import aiobatch

PACKAGE = Path(aiobatch.__file__).parent
_FILES_IN_A_FOLDER = 16
_LINES_IN_A_FILE = 400


def test_folders_are_small() -> None:
    """No folder has more modules than a reader can survey.

    The public modules at the root are no helpers but part of the API, as it is documented. They do not count.
    """
    sizes = Counter(path.parent for path in PACKAGE.rglob("*.py") if not _is_public_module(path))
    assert sizes
    assert {folder: size for folder, size in sizes.items() if size > _FILES_IN_A_FOLDER} == {}


def _is_public_module(path: Path) -> bool:
    return path.parent == PACKAGE and not path.name.startswith("_")


def test_files_are_short() -> None:
    """No module is longer than a reader can keep in mind."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path: count for path, count in lines.items() if count > _LINES_IN_A_FILE} == {}
