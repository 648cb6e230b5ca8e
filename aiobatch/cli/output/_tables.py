"""Data on stdout: a table in a terminal, tab-separated text elsewhere, or JSON."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..._validation import to_unicode
from ...errors import AiobatchError
from ...models import Audience, IndexingState, Outcome

__all__ = [
    "AUDIENCE",
    "Column",
    "Output",
    "OutputError",
    "Record",
    "audience_record",
    "clean",
    "is_screen",
    "is_terminal",
    "writing",
]

Record = Mapping[str, Any]

_STYLES: Mapping[object, str] = {
    IndexingState.APPLIED: "green",
    IndexingState.IN_PROGRESS: "yellow",
    IndexingState.REPLACED: "red",
    Outcome.TIMED_OUT: "yellow",
    Outcome.FAILED: "red",
}


_JSON_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS
# Longest text of a cell that is never wrapped: a date with time.
_WHOLE = 19
_COLUMN_GAP = 2


@attrs.frozen
class Column:
    """A column of a table.

    Attributes:
        key: The field of a record.
        title: The heading.
        spare: Whether to leave it out if the terminal is too narrow for all columns.
        plain: The field for a program, whose heading it is too. None: the same field, under the title.
    """

    key: str
    title: str
    spare: bool = False
    plain: str | None = None


AUDIENCE = (
    Column("audience", "audience"),
    Column("id_type", "type"),
    Column("nb_ids", "IDs"),
    Column("indexing_state", "state"),
    Column("updated", "updated (UTC)"),
    Column("description", "description"),
)


def audience_record(audience: Audience) -> Record:
    """Return an audience as a record. All output calls its name `audience`."""
    fields = attrs.asdict(audience)
    return {"audience": fields.pop("name"), **fields}


def is_terminal(stream: Any) -> bool:
    """Return whether *stream* is a terminal. None is a closed stream."""
    return stream is not None and bool(stream.isatty())


def is_screen(stream: Any) -> bool:
    """Return whether *stream* is a terminal that can redraw bars."""
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def clean(text: str) -> str:
    """Return text as one line, with a space for each tab and newline, and escapes for control characters."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else " " if char.isspace() else char.encode("unicode_escape").decode()
        for char in text
    )


def _unicode(value: Any) -> Any:
    """Return a value for JSON, with escapes for bytes of file names that are not UTF-8."""
    if isinstance(value, str):
        return to_unicode(value)
    if isinstance(value, Mapping):
        return {_unicode(key): _unicode(one) for key, one in value.items()}
    return [_unicode(one) for one in value] if isinstance(value, list | tuple) else value


class OutputError(AiobatchError):
    """Stdout cannot be written, for example because the disk is full."""


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Translate errors of stdout, except that its reader closed it.

    Raises:
        OutputError: Stdout cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        msg = f"The output cannot be written ({error.strerror}). The command itself was carried out."
        raise OutputError(msg) from None


class Output:
    """Writes data to stdout.

    Args:
        as_json: Whether to write JSON, one object per line.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    @contextlib.contextmanager
    def rows(
        self, columns: Sequence[Column], *, as_table: bool = False
    ) -> Iterator[Callable[[Record], None]]:
        """Yield a function that writes a record. A table is printed at the end, anything else at once.

        Args:
            columns: The columns of a table or of a line of text. JSON has every field.
            as_table: Whether to print a table outside of a terminal too.
        """
        if self._as_json:
            yield self.json
        elif not as_table and not is_terminal(sys.stdout):
            headings = iter(["\t".join(column.plain or column.title for column in columns)])

            def add(record: Record) -> None:
                for heading in headings:  # before the first record only
                    self.line(heading)
                self.line("\t".join(_plain(record.get(column.plain or column.key)) for column in columns))

            yield add
        else:
            records: list[Record] = []
            try:
                yield records.append
            finally:
                if records:
                    console = Console(file=sys.stdout, highlight=False)
                    with writing():
                        console.print(_table(_fitting(columns, records, console.width), records))

    def json(self, record: Record) -> None:
        """Write one object."""
        self._write(orjson.dumps(_unicode(record), option=_JSON_OPTIONS).decode())

    def line(self, text: str) -> None:
        """Write a line of text and flush it. Only tabs are left of its control characters."""
        self._write("\t".join(map(clean, text.split("\t"))))

    def _write(self, text: str) -> None:
        stream = sys.stdout
        if stream is None:  # closed before the command began
            return
        encoding = stream.encoding or "utf-8"
        with writing():
            stream.write(f"{text.encode(encoding, 'backslashreplace').decode(encoding)}\n")
            stream.flush()

    def lines(self, texts: Sequence[str], record: Record) -> None:
        """Write lines of text, or *record* as JSON."""
        if self._as_json:
            self.json(record)
        else:
            for text in texts:
                self.line(text)


def _fitting(columns: Sequence[Column], records: Sequence[Record], width: int) -> list[Column]:
    """Return the columns to show: no empty ones, and spare ones only if they fit."""
    shown = [column for column in columns if any(record.get(column.key) is not None for record in records)]
    spare = [column for column in shown if column.spare]
    while spare and sum(_width(column, records) for column in shown) >= width:
        shown.remove(spare.pop())
    return shown


def _width(column: Column, records: Sequence[Record]) -> int:
    """Return the width of a column with its gap. Long texts are wrapped."""
    longest = max(len(_pretty(record.get(column.key))) for record in records)
    return max(len(column.title), min(longest, _WHOLE)) + _COLUMN_GAP


def _table(columns: Sequence[Column], records: Sequence[Record]) -> Table:
    """Return a table."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        values = [record.get(column.key) for record in records]
        # Only long texts are wrapped, so that numbers, times and words stay whole.
        is_whole = all(len(_pretty(value)) <= _WHOLE for value in values if value is not None)
        table.add_column(
            column.title,
            justify="right" if any(isinstance(value, int) for value in values) else "left",
            overflow="ellipsis" if is_whole else "fold",
            no_wrap=is_whole,
        )
    for record in records:
        table.add_row(*(_pretty(record.get(column.key)) for column in columns))
    return table


def _pretty(value: object) -> Text:
    """Format a value for a person."""
    if isinstance(value, int):
        return Text(f"{value:,}")
    if isinstance(value, dt.datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S}")
    return Text(_plain(value), style=_STYLES.get(value, ""))


def _plain(value: object) -> str:
    """Format a value for a program."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, float):
        return f"{value:.1f}"
    return clean(str(value))
