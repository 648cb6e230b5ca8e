"""The files of a path or a pattern, the tables that they may belong to, and changes of them."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from ..._errors import SourceError

_HIDDEN: Final = (".", "_")
_SHOWN: Final = 3
_CHANGED: Final = "changed while being read. Write files elsewhere, and move them here when they are complete"
_HIVE: Final = re.compile(r"(base|delta|delete_delta)_\d{7}(_\w+)*")
_ICEBERG: Final = re.compile(r"version-hint\.text|.*\.metadata\.json(\.gz)?|.*\.gz\.metadata\.json")

_TABLES: Final[Mapping[str, frozenset[str]]] = {
    "Delta Lake": frozenset(("_delta_log",)),
    "Hudi": frozenset((".hoodie",)),
    "Lance": frozenset(("_versions", "data")),
    "Paimon": frozenset(("snapshot", "manifest")),
}
#: Entries of a directory that show that it is a table.
TABLE_PARTS: Final = tuple(sorted(frozenset().union(*_TABLES.values())))

#: What identifies a version of a file.
Stamp = tuple[int, ...]


def find_files(text: str) -> list[str]:
    """Return the files that a path or a pattern matches, sorted.

    Names that begin with a dot or an underscore are left out, unless the pattern itself begins with it.

    Raises:
        OSError: If a directory cannot be read.
        SourceError: If there are none, or a directory contains directories.
    """
    if Path(text).is_dir():
        found = _in_directory(text)
    elif Path(text).exists() or not glob.has_magic(text):
        found = [text]
    else:
        found = sorted(dict.fromkeys(path for path in _expand(text) if not Path(path).is_dir()))
    if not found:
        msg = "no matching files: the directory is empty or the pattern matches nothing"
        raise SourceError(msg, location=shown_path(text))
    for path in found:
        _check_name(path)
    return found


def shown_path(path: str) -> str:
    """Return a path for messages. Bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def take_stamps(paths: Sequence[str]) -> dict[str, Stamp]:
    """Return the version of each file. A link leads to its file."""
    return {path: take_stamp(path) for path in paths}


def take_stamp(path: str) -> Stamp:
    """Return the version of a file. Reading a pipe changes its times."""
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        return status.st_dev, status.st_ino
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def check_unchanged(text: str, before: Mapping[str, Stamp]) -> None:
    """Raise SourceError if the files of a path or a pattern are not those of *before*.

    Args:
        text: The path or the pattern.
        before: The files and their versions at the start.

    Raises:
        OSError: A file or a directory can no longer be read.
        SourceError: They have changed.
    """
    after = take_stamps(find_files(text))
    check_same_stamps(before, after, shown_path)


def check_same_stamps(
    before: Mapping[str, object], after: Mapping[str, object], shown: Callable[[str], str]
) -> None:
    """Raise SourceError if two snapshots differ.

    Args:
        before: The paths and their versions at the start.
        after: The same at the end.
        shown: Returns the name of a path for the error.

    Raises:
        SourceError: They differ.
    """
    moved = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    if moved:
        what = "it" if moved[0] in before and moved[0] in after else "the set of files, by this one,"
        msg = f"{what} {_CHANGED}"
        raise SourceError(msg, location=shown(moved[0]))


def check_no_table(paths: Sequence[str], location: str | None = None) -> None:
    """Raise SourceError if files belong to a table, whose log decides which of their rows count.

    Args:
        paths: The files.
        location: The location for errors. None for the file.

    Raises:
        SourceError: A directory at or above one of them has the log of Delta Lake, Hudi, Iceberg and so on.
    """
    seen: set[Path] = set()
    for path in paths:
        # Both ways to the file: as it is written, and through its links.
        for start in (Path(path).absolute(), Path(os.path.realpath(path))):
            for directory in start.parents:
                if directory in seen:
                    break
                seen.add(directory)
                if kind := _table(directory):
                    raise table_error(kind, shown_path(str(directory)), shown_path(location or path))


def _table(directory: Path) -> str | None:
    """Return the kind of the table whose directory this is."""
    children = [name for name in TABLE_PARTS if (directory / name).exists()]
    metadata = directory / "metadata"
    names = os.listdir(metadata) if metadata.is_dir() else ()  # noqa: PTH208 - names suffice
    return kind_of_table(directory.name, children, names)


def kind_of_table(name: str, parts: Collection[str], metadata: Iterable[str]) -> str | None:
    """Return the kind of the table that a directory holds. None if it is no table.

    Args:
        name: The directory's name.
        parts: Those of `TABLE_PARTS` that it contains.
        metadata: The names in its directory `metadata`.
    """
    for kind, wanted in _TABLES.items():
        if wanted <= {*parts}:
            return kind
    if _HIVE.fullmatch(name):
        return "Hive ACID"
    return "Iceberg" if any(map(_ICEBERG.fullmatch, metadata)) else None


def table_error(kind: str, directory: str, location: str) -> SourceError:
    """Return the error for a file or an object that belongs to a table."""
    ways = {
        "Delta Lake": f"Use the source 'delta://{directory}', or export the current rows to Parquet",
        "Iceberg": "Use the table's iceberg:// address, or export the current rows to Parquet",
    }
    other = (
        "Export the current rows to Parquet, or read the table with its own library and pass the result as "
        "an Arrow table"
    )
    msg = (
        f"it belongs to the {kind} table {directory!r}, whose files also contain old and deleted rows. "
        f"{ways.get(kind, other)}"
    )
    return SourceError(msg, location=location)


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        msg = "its name is not UTF-8. Rename it"
        raise SourceError(msg, location=shown_path(path)) from None


def _in_directory(directory: str) -> list[str]:
    """Return a directory's files, except hidden ones and markers such as `_SUCCESS`."""
    check_no_table([f"{directory}/any"], directory)
    entries = sorted(_visible(directory), key=lambda entry: entry.name)
    folders = [entry.name for entry in entries if entry.is_dir()]
    files = [entry.path for entry in entries if not entry.is_dir()]
    if not folders:
        return files
    suffixes = {
        "".join(Path(path).suffixes[-2:]) if path.endswith(".gz") else Path(path).suffix for path in files
    }
    own = f"{glob.escape(directory)}/*{suffixes.pop()}" if len(suffixes) == 1 else None
    raise folders_error(shown_path(directory), [shown_path(name) for name in folders], own)


def folders_error(location: str, folders: Sequence[str], own: str | None) -> SourceError:
    """Return the error for a directory that contains directories.

    Args:
        location: The directory.
        folders: The names in it.
        own: The pattern of its own files. None if they have several suffixes.
    """
    # No pattern over directories is suggested: they may hold an older export each.
    listed = ", ".join(map(repr, folders[:_SHOWN]))
    more = f" and {len(folders) - _SHOWN} more" if len(folders) > _SHOWN else ""
    alternative = f", or '{own}' for its own files" if own else ""
    msg = f"it contains directories ({listed}{more}). Name the one to read{alternative}"
    return SourceError(msg, location=location)


def _visible(directory: str, hidden: str = "") -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a directory, except those that begin with a dot or an underscore.

    Args:
        directory: The directory.
        hidden: The one of these that is wanted.
    """
    skipped = tuple(mark for mark in _HIDDEN if mark != hidden)
    with os.scandir(directory or ".") as entries:
        yield from (entry for entry in entries if not entry.name.startswith(skipped))


def _expand(pattern: str) -> Iterator[str]:
    """Yield the paths that a pattern matches. Unlike glob(), fail at a directory that cannot be read."""
    first, *rest = re.split(r"/+", pattern)
    if first == "":
        yield from _below("/", rest)
    else:
        yield from _below("", [first, *rest])


def _below(directory: str, parts: Sequence[str]) -> Iterator[str]:
    if not parts:
        yield directory
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _deep(directory, rest)
    elif not glob.has_magic(part):
        if Path(path := os.path.join(directory, part)).exists():  # noqa: PTH118 - keeps the path as written
            yield from _below(path, rest)
    else:
        matches = re.compile(fnmatch.translate(part)).match
        for name, is_dir in _matching(directory, part[:1], matches):
            if is_dir or not rest:
                yield from _below(os.path.join(directory, name), rest)  # noqa: PTH118 - as above


def _deep(directory: str, rest: Sequence[str]) -> Iterator[str]:
    """Yield the matches in a directory and in those below it. Links to directories are not followed."""
    yield from _below(directory, rest or ["*"])
    for entry in _visible(directory):
        if entry.is_dir(follow_symlinks=False):
            yield from _deep(os.path.join(directory, entry.name), rest)  # noqa: PTH118 - as above


def _matching(directory: str, start: str, matches: Callable[[str], object]) -> list[tuple[str, bool]]:
    return [(entry.name, entry.is_dir()) for entry in _visible(directory, start) if matches(entry.name)]
