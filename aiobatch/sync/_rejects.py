"""The file of rejected rows, for the owner of the data alone."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from ._errors import StagingError


def append_rejects(path: Path, ids: Sequence[str]) -> None:
    """Add ids that Batch refused; they have no row number any more.

    Args:
        path: The file; made, mode 0600, where there is none.
        ids: What was refused.

    Raises:
        StagingError: It cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "a", newline="", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor, for its mode
            csv.writer(file).writerows(("batch", "", "refused_by_batch", id_) for id_ in ids)
    except OSError as exc:
        msg = f"the file of rejected rows cannot be written ({exc.strerror}); check its path and the disk"
        raise StagingError(msg) from exc
