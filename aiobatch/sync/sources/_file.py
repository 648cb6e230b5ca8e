"""One file to read, whatever its format."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import IO, cast

import attrs

from .._sql import literal


@attrs.frozen(kw_only=True)
class SourceFile:
    """A regular file, found whole.

    Attributes:
        path: Where it is.
        shown: Its name for the reader of an error; standard input is not the file that it was read into.
        compressed: Whether it is gzip.
    """

    path: str
    shown: str
    compressed: bool

    def open(self) -> IO[bytes]:
        """Open it for reading what is in it, decompressed."""
        return cast("IO[bytes]", gzip.open(self.path)) if self.compressed else Path(self.path).open("rb")

    @property
    def sql(self) -> str:
        """Its path as SQL, absolute so that it is never taken for a URL, and never for a pattern."""
        return literal(re.sub(r"([*?\[])", r"[\1]", str(Path(self.path).absolute())))

    @property
    def compression(self) -> str:
        """DuckDB's word for its compression, as SQL."""
        return "'gzip'" if self.compressed else "'none'"
