"""Files of ids, names and tokens: read in blocks, in a thread, in constant memory."""

from __future__ import annotations

import csv
import itertools
import logging
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO, TypeVar

import attrs

from ...errors import InvalidInputError
from ...models import MAX_IDS, check_id
from .._arguments import STDIN
from .._signals import in_thread

_logger = logging.getLogger("aiobatch.cli")


_T = TypeVar("_T")
# Characters of a line at most: enough for any row, and a binary file does not fill the memory.
_LONGEST_LINE = 1024 * 1024
# Ids at most of which two files are compared with each other.
_HELD = 1_000_000
_DELIMITERS = (",", ";", "\t")


@attrs.frozen
class IdFile:
    """A file of ids: one in each line, or a column of a CSV.

    Attributes:
        path: Where it is.
        column: The column with the ids, for a CSV with a header; None for one id in each line.
    """

    path: str
    column: str | None = None

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return "stdin" if self.path == STDIN else self.path

    @property
    def can_be_read_twice(self) -> bool:
        """Whether it is a regular file, so that it can be checked before anything is sent."""
        return self.path != STDIN and stat.S_ISREG(Path(self.path).stat().st_mode)

    async def check(self) -> int | None:
        """Read it through.

        Returns:
            How many ids it has; None if it can be read only once.

        Raises:
            InvalidInputError: It holds something else than ids; the text names the line.
            OSError: It cannot be read.
        """
        return await in_thread(self._count)

    def _count(self) -> int | None:
        return sum(map(len, self._blocks())) if self.can_be_read_twice else None

    async def ids(self) -> AsyncIterator[str]:
        """Yield the ids.

        Raises:
            InvalidInputError: It holds something else than ids; the text names the line.
            OSError: It cannot be read.
        """
        _logger.info("reading ids from %s", self.label)
        blocks = self._blocks()
        while block := await in_thread(lambda: next(blocks, None)):
            for value in block:
                yield value

    def _blocks(self) -> Iterator[list[str]]:
        """Yield the ids in blocks."""
        ids = (value for _, value in self.numbered())
        while block := list(itertools.islice(ids, MAX_IDS)):
            yield block

    def numbered(self) -> Iterator[tuple[int, str]]:
        """Yield (line, id)."""
        with _open(self.path) as file:
            lines = _lines(file, self.label)
            rows = self._plain(lines) if self.column is None else self._column(lines, self.column)
            for number, text in rows:
                yield number, check_id(text, f"{self.label}:{number}")

    def _plain(self, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        """Yield (line, id) of a file with one id in each line; empty lines are none."""
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if number == 1 and ("," in text or self.path.endswith(".csv")):
                msg = f"{self.label} looks like a CSV: name the column of the ids with --column"
                raise InvalidInputError(msg)
            if text:
                yield number, text

    def _column(self, lines: Iterator[str], column: str) -> Iterator[tuple[int, str]]:
        """Yield (line, id) of a CSV's column."""
        header = next(lines, "")
        delimiter, index = _find_column(header, column, self.label)
        rows = _rows(itertools.chain((header,), lines), delimiter, self.label)
        _, names = next(rows)
        for number, row in rows:
            if len(row) != len(names):
                msg = f"{self.label}:{number}: the row has {len(row)} columns, the header {len(names)}"
                raise InvalidInputError(msg)
            yield number, row[index].strip()


def check_disjoint(small: IdFile, large: IdFile) -> None:
    """Refuse an id that stands in both of two files.

    Args:
        small: The first million of its ids are held in memory, and looked for.
        large: Read through.

    Raises:
        InvalidInputError: There is one; the text names its line.
    """
    held = {value for _, value in itertools.islice(small.numbered(), _HELD)}
    for number, value in large.numbered():
        if value in held:
            msg = (
                f"{large.label}:{number} stands in {small.label} as well, and is to be added and removed: "
                "take it out of one of them; nothing was sent"
            )
            raise InvalidInputError(msg)


def _rows(lines: Iterable[str], delimiter: str, label: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, row) of a CSV; empty lines are no rows."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            msg = f"{label}:{reader.line_num}: not a row of a CSV: {error}"
            raise InvalidInputError(msg) from None
        if row is None:
            return
        if row:
            yield reader.line_num, row


def _find_column(header: str, column: str, label: str) -> tuple[str, int]:
    """Return the delimiter and the column's place; the error does not show the row, which may hold ids."""
    with suppress(csv.Error):  # a cell without end
        for delimiter in _DELIMITERS:
            names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
            if column in names:
                return delimiter, names.index(column)
    msg = f"{label}: its first line names no column {column!r}; give the column's name as the file spells it"
    raise InvalidInputError(msg)


def _open(path: str) -> TextIO:
    """Open a file, or standard input, which is left open."""
    if path != STDIN:
        return Path(path).open(encoding="utf-8-sig")
    if sys.stdin is None:
        msg = "standard input is closed"
        raise InvalidInputError(msg)
    # A reader of our own: a thread that is left behind in the interpreter's would abort its end.
    return open(sys.stdin.fileno(), encoding="utf-8-sig", closefd=False)


def _lines(file: TextIO, label: str) -> Iterator[str]:
    """Yield lines that are text and not without end."""
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(_LONGEST_LINE)
        except UnicodeDecodeError:
            msg = f"{label}: not UTF-8 from about line {number} on; convert it first"
            raise InvalidInputError(msg) from None
        if not line:
            return
        if len(line) == _LONGEST_LINE:
            msg = f"{label}:{number}: a line of more than {_LONGEST_LINE:,} characters; is this text?"
            raise InvalidInputError(msg)
        yield line


async def read_words(words: Iterable[str], parse: Callable[[str], _T]) -> list[_T]:
    """Parse words of the command line; STDIN stands for those on standard input.

    Args:
        words: Arguments.
        parse: Reads one.

    Raises:
        InvalidInputError: A word cannot be parsed.
    """
    parsed: list[_T] = []
    for word in words:
        if word == STDIN:
            parsed += map(parse, await in_thread(_stdin_words))
        else:
            parsed.append(parse(word))
    return parsed


def _stdin_words() -> list[str]:
    """Return the words on standard input."""
    with _open(STDIN) as file:
        return [word for line in _lines(file, "stdin") for word in line.split()]
