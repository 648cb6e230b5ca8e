"""Data on stdout: a table on a terminal, tab-separated text elsewhere, JSON where asked for."""

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


# Characters of a cell that is never broken, as a time has them.
_WHOLE = 19
# Characters between two columns.
_BETWEEN = 2


@attrs.frozen
class Column:
    """A column of a table.

    Attributes:
        key: The field of a record.
        title: The heading.
        spare: Whether it is left out where a terminal is too narrow for all columns.
    """

    key: str
    title: str
    spare: bool = False


AUDIENCE = (
    Column("name", "audience"),
    Column("id_type", "type"),
    Column("nb_ids", "ids"),
    Column("indexing_state", "state"),
    Column("updated", "updated (UTC)"),
    Column("description", "description"),
)


def audience_record(audience: Audience) -> Record:
    """Return an audience as a record."""
    return attrs.asdict(audience)


def is_terminal(stream: Any) -> bool:
    """Tell whether somebody looks at *stream*; None stands for a closed one."""
    return stream is not None and bool(stream.isatty())


def is_screen(stream: Any) -> bool:
    """Tell whether somebody looks at *stream*, and bars can move there."""
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def clean(text: str) -> str:
    """Return text without tabs, newlines and what a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)


class OutputError(AiobatchError):
    """Stdout takes no more, as a full disk does."""


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Say of stdout what the system says; a reader that went away is another matter.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        msg = f"the output cannot be written ({error.strerror}); what was done stands"
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
        """Give a function that writes a record; a table appears when all are there, lines at once.

        Args:
            columns: What a table and a line of text show; JSON has every field.
            as_table: Whether it is for people wherever it goes.
        """
        if self._as_json:
            yield self.json
        elif not as_table and not is_terminal(sys.stdout):
            yield lambda record: self.line("\t".join(_plain(record.get(column.key)) for column in columns))
        else:
            records: list[Record] = []
            try:
                yield records.append
            finally:
                if records:
                    console = _console()
                    with writing():
                        console.print(_table(_fitting(columns, records, console.width), records))

    def json(self, record: Record) -> None:
        """Write one object."""
        self.line(orjson.dumps(dict(record), option=orjson.OPT_UTC_Z).decode())

    def line(self, text: str) -> None:
        """Write a line, and let it go out at once."""
        stream = sys.stdout
        if stream is None:  # it was closed before we began, so nobody wants to know
            return
        encoding = stream.encoding or "utf-8"
        with writing():
            stream.write(f"{text.encode(encoding, 'backslashreplace').decode(encoding)}\n")
            stream.flush()

    def lines(self, texts: Sequence[str], record: Record) -> None:
        """Write lines of text, or *record* where JSON is asked for."""
        if self._as_json:
            self.json(record)
        else:
            for text in texts:
                self.line(text)


def _console() -> Console:
    """Return a console on the current stdout."""
    return Console(file=sys.stdout, highlight=False)


def _fitting(columns: Sequence[Column], records: Sequence[Record], width: int) -> list[Column]:
    """Return the columns to show: none that is empty everywhere, and of spare ones those that fit."""
    shown = [column for column in columns if any(record.get(column.key) is not None for record in records)]
    spare = [column for column in shown if column.spare]
    while spare and sum(_width(column, records) for column in shown) >= width:
        shown.remove(spare.pop())
    return shown


def _width(column: Column, records: Sequence[Record]) -> int:
    """Return the characters that a column takes, the space between two with it; a long text is broken."""
    longest = max(len(_pretty(record.get(column.key))) for record in records)
    return max(len(column.title), min(longest, _WHOLE)) + _BETWEEN


def _table(columns: Sequence[Column], records: Sequence[Record]) -> Table:
    """Lay out a table."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        values = [record.get(column.key) for record in records]
        # Long texts give way, so that numbers, times and words stay whole.
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
    """Write a value for somebody who looks at it."""
    if isinstance(value, int):
        return Text(f"{value:,}")
    if isinstance(value, dt.datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S}")
    return Text(_plain(value), style=_STYLES.get(value, ""))


def _plain(value: object) -> str:
    """Write a value for a program."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat().replace("+00:00", "Z")
    return clean(str(value))
