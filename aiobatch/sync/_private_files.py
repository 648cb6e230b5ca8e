"""Files for their owner alone: a few ids are in them."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Write a file, mode 0600; a pipe or a device stays as it is.

    Args:
        path: The file; one that exists is overwritten.
        data: All of it.

    Raises:
        OSError: It cannot be written; no half of it is left.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor
            if is_file:
                os.fchmod(descriptor, 0o600)
            file.write(data)
    except OSError:
        if is_file:
            path.unlink()
        raise
