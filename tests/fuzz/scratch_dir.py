"""A directory for the files of this process's targets, in memory where there is such a place."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it


@functools.cache
def scratch_dir() -> Path:
    """Return the directory; it goes when the process ends."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="aiobatch-fuzz-", dir=place))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory
