"""The reject file: rows that were rejected, and IDs that Batch refused. It has mode 0600."""

from __future__ import annotations

import csv
import fnmatch
import gzip
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import duckdb

from ..._validation import is_unicode
from ...errors import InvalidInputError
from .._errors import StagingError
from .._private_files import append_private, write_private
from .._sql import literal
from ._location import Database, Files, Location
from ._relation import is_full

# A terminal that shows the file must not run control characters of a cell. They are escaped as in JSON.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_ESCAPED = r"""CASE WHEN NOT regexp_matches({0}, '\p{{Cc}}') THEN {0} ELSE array_to_string(
    list_transform(string_split({0}, ''), lambda one:
        CASE WHEN regexp_matches(one, '\p{{Cc}}') THEN printf('\u%04x', ord(one)) ELSE one END), '') END"""
# A longer ID would not help to find its row.
_REJECTED = f"""
SELECT {_ESCAPED.format("p.place")} AS source, r.rowid - start + first_row AS "row", line, reason,
    {_ESCAPED.format("left(id, 4096)")} AS id
FROM temp.aiobatch_rows AS r JOIN temp.aiobatch_parts AS p ON r.rowid >= start AND r.rowid < stop
LEFT JOIN temp.aiobatch_lines AS l ON l.place = r.rowid
WHERE reason IS NOT NULL ORDER BY r.rowid"""


def refuse_overlap(path: Path, location: Location, state: Path) -> None:
    """Raise InvalidInputError if the reject file would overwrite the source, or the next run would read it.

    Raises:
        InvalidInputError: If it is the state, or the source or a part of it, or its name is not UTF-8.
    """
    database = location.path if isinstance(location, Database) else ""
    if not is_unicode(str(path)):
        msg = f"rejects: the name of {str(path)!r} is not UTF-8. Choose another file."
    elif _is_same(path, state) or (database and _is_same(path, database)):
        msg = f"rejects: {str(path)!r} is the state or the source. Choose another file."
    elif isinstance(location, Files) and _is_part(path, location.path):
        msg = f"rejects: {str(path)!r} is a part of the source {location.path!r}. Write it elsewhere."
    else:
        return
    raise InvalidInputError(msg)


def _is_same(path: Path, other: Path | str) -> bool:
    """Return whether two paths lead to the same file, through any links. The files may not exist."""
    try:
        return path.samefile(other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def _is_part(path: Path, text: str) -> bool:
    """Return whether a file is, or would be, among those that a path or a pattern matches."""
    source = Path(text)
    if source.is_dir():
        return _is_same(path.parent, source) and not path.name.startswith((".", "_"))
    matches = fnmatch.fnmatchcase(path.name, source.name) and _is_same(path.parent, source.parent)
    return matches or _is_same(path, source)


def write_rejects(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Write the rejected rows of a source that is being staged.

    Args:
        connection: The connection with the tables of its rows.
        path: The file. An existing one is overwritten.

    Raises:
        StagingError: If it cannot be written.
    """
    # DuckDB's own temporary file would be readable by everyone.
    compression = "gzip" if _is_gzip(path) else "none"
    options = f"FORMAT csv, HEADER, USE_TMP_FILE false, COMPRESSION {compression}"
    try:
        write_private(path, b"")
        connection.execute(f"COPY ({_REJECTED}) TO {literal(str(path.absolute()))} ({options})")
    except (OSError, duckdb.IOException) as exc:
        raise _error(path, exc, claim=" Nothing was sent.") from exc


def append_rejects(path: Path, ids: Sequence[str]) -> None:
    """Append IDs that Batch refused. They have no row numbers.

    Args:
        path: The file. It is created if it does not exist.
        ids: The IDs.

    Raises:
        StagingError: If it cannot be written.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows(("batch", "", "", "refused_by_batch", _escape(id_)) for id_ in ids)
    data = text.getvalue().encode()
    try:
        # A gzip file may consist of several members.
        append_private(path, gzip.compress(data) if _is_gzip(path) else data)
    except OSError as exc:
        raise _error(path, exc) from exc


def _escape(text: str) -> str:
    """Return *text* with its control characters escaped."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _error(path: Path, exc: Exception, *, claim: str = "") -> StagingError:
    if is_full(exc):
        return StagingError(f"The reject file {str(path)!r} cannot be written (no space left).{claim}")
    reason = getattr(exc, "strerror", None) or type(exc).__name__
    fix = "Name a file in a directory that you can write to."
    return StagingError(f"The reject file {str(path)!r} cannot be written ({reason}). {fix}{claim}")
