"""A file that is read: its name, its compression, and how it uses quotes."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import IO, Final, cast

import attrs

from .._sql import literal

_BEFORE_A_QUOTE: Final = frozenset(b",;\t|\r\n")


@attrs.define
class QuoteScan:
    """Finds out how a CSV file uses quotes, block by block, without reading its cells.

    Attributes:
        multiline: Whether quoted text contains line breaks.
        closed: Whether every quote is closed.
        exact: Whether every quote begins or ends a cell, or is doubled. If not, a reader must decide.
    """

    multiline: bool = False
    closed: bool = True
    exact: bool = True
    _last: int = attrs.field(default=ord("\n"), init=False)

    def feed(self, block: bytes) -> None:
        """Continue with the next block of the file."""
        parts = block.split(b'"')
        quoted = b"".join(parts[self.closed :: 2])
        self.multiline = self.multiline or b"\n" in quoted or b"\r" in quoted
        if self.exact and len(parts) > 1:
            ends = [part[-1] for part in parts[not self.closed : -1 : 2] if part]
            first_opens = self.closed and not parts[0]
            self.exact = _BEFORE_A_QUOTE.issuperset(ends) and (
                not first_opens or self._last in _BEFORE_A_QUOTE or self._last == ord('"')
            )
        self.closed ^= len(parts) % 2 == 0
        self._last = block[-1]


@attrs.frozen(kw_only=True)
class SourceFile:
    """A complete regular file.

    Attributes:
        path: Its path.
        shown: Its name in errors. Standard input is first written to a temporary file.
        compressed: Whether it is compressed with gzip.
        quotes: How a CSV file uses quotes.
    """

    path: str
    shown: str
    compressed: bool
    quotes: QuoteScan = attrs.field(factory=QuoteScan)

    def open(self) -> IO[bytes]:
        """Open it for reading, decompressed."""
        return cast("IO[bytes]", gzip.open(self.path)) if self.compressed else Path(self.path).open("rb")

    @property
    def sql(self) -> str:
        """Its path as SQL: absolute, so that DuckDB sees no URL, and without patterns."""
        return literal(re.sub(r"([*?\[])", r"[\1]", str(Path(self.path).absolute())))

    @property
    def compression(self) -> str:
        """Its compression, as SQL."""
        return "'gzip'" if self.compressed else "'none'"
