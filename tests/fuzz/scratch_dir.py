"""A temporary directory for the files of this process, in memory if possible."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp creates a private directory in it


@functools.cache
def scratch_dir() -> Path:
    """Return the directory, which is removed when the process ends."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="aiobatch-fuzz-", dir=place))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory
