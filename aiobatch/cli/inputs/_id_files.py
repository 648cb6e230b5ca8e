"""Files of IDs for `update` and `replace`, read in blocks and in constant memory."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import attrs

from ..._logs import log
from ..._tasks import wait_through_cancellation
from ...errors import InvalidInputError
from ...errors._base import without_claim
from ...models import MAX_IDS, check_id
from ...sync import Format, Source, SourceError
from ...sync.sources import IdRules, read_ids
from .._arguments import STDIN, decode_stdin_dash
from .._signals import in_thread
from ._words import stdin_lines

__all__ = ["IdFile", "check_disjoint"]

_logger = logging.getLogger("aiobatch.cli")

# Most IDs of a file that are held in memory to compare it with another one.
_HELD: Final = 1_000_000
# Formats that name their columns. Any other file without --column has one ID per line.
_WITH_COLUMNS: Final = {".parquet", ".pq", ".jsonl", ".ndjson", ".json"}


@attrs.frozen
class IdFile:
    """A file of IDs: one per line, CSV, JSON lines or Parquet. gzip is detected.

    Attributes:
        path: The path, a directory or a pattern, or STDIN.
        column: The column with the IDs. None: a file of one ID per line, without a header. JSON lines and
            Parquet use the column `id`, `user_id`, `custom_id` or the only one.
    """

    path: str
    column: str | None = None

    @property
    def label(self) -> str:
        """The name of the file in messages."""
        return "stdin" if self.path == STDIN else self.path

    async def is_pipe(self) -> bool:
        """Return whether the file can be read only once."""
        path = Path(self.path)
        return self.path == STDIN or await in_thread(
            lambda: path.exists() and not path.is_file() and not path.is_dir()
        )

    async def blocks(self) -> AsyncIterator[list[str]]:
        """Yield the IDs in blocks of at most 10,000.

        Raises:
            InvalidInputError: The file cannot be read, or has an invalid ID. The text names the row.
        """
        if self.path == STDIN and self.column is None:
            blocks = _stdin_blocks()
            while block := await in_thread(lambda: next(blocks, None)):
                yield block
            return
        blocks = self.source_blocks()
        waits_for_writer = await self.is_pipe()
        while True:
            future = asyncio.ensure_future(in_thread(lambda: next(blocks, None)))
            # The interpreter cannot exit while DuckDB works in a thread. The wait for the writer of a pipe
            # may take long, but DuckDB is idle meanwhile.
            await (asyncio.wait([future]) if waits_for_writer else wait_through_cancellation([future]))
            waits_for_writer = False
            if (block := future.result()) is None:
                return
            yield block

    def source_blocks(self) -> Iterator[list[str]]:
        """Yield the same in the calling thread."""
        has_columns = Path(self.path.lower().removesuffix(".gz")).suffix in _WITH_COLUMNS
        try:
            path, file_format = decode_stdin_dash(self.path), None if has_columns else Format.CSV
            source = Source.parse(path, id_column=self.column, format=file_format)
            yield from read_ids(source, IdRules(), bare=self.column is None and not has_columns)
        except SourceError as error:
            # Chunks may have been sent before, if the file is a pipe.
            raise InvalidInputError(without_claim(error.text)) from None

    async def logged_blocks(self) -> AsyncIterator[list[str]]:
        """Yield the same, after a line in the log.

        Raises:
            InvalidInputError: See `blocks`.
        """
        log(_logger, logging.INFO, "reading IDs", file=self.label)
        async for block in self.blocks():
            yield block

    async def ids(self) -> AsyncIterator[str]:
        """Yield the IDs.

        Raises:
            InvalidInputError: See `blocks`.
        """
        async for block in self.logged_blocks():
            for value in block:
                yield value


def _stdin_blocks() -> Iterator[list[str]]:
    """Yield the lines of standard input, which may be a terminal, as blocks of IDs."""
    ids = (
        check_id(text, f"stdin, line {number}")
        for number, line in enumerate(stdin_lines(), start=1)
        if (text := line.strip())
    )
    while block := list(itertools.islice(ids, MAX_IDS)):
        yield block


async def check_disjoint(small: IdFile, large: IdFile) -> None:
    """Check that two files have no ID in common.

    Args:
        small: The first million of its IDs are compared.
        large: A file of any size.

    Raises:
        InvalidInputError: An ID is in both. The text has its position.
    """
    held: set[str] = set()
    async for block in small.blocks():
        held.update(block[: _HELD - len(held)])
        if len(held) >= _HELD:
            break
    number = 0
    async for value in large.ids():
        number += 1
        if value in held:
            msg = (
                f"ID {number:,} of {large.label} is also in {small.label}. It cannot be both added and "
                "removed: keep it in only one of them. Nothing was sent."
            )
            raise InvalidInputError(msg)
