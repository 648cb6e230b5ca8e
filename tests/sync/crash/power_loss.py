"""What is on disk after a loss of power: a replay of the recorded operations of a process.

The rules are those of journaling file systems such as ext4 and XFS, at their weakest. The content of a file
is durable up to its last sync. Later overwrites may be on disk or not, page by page. Of the pages that extend
the file, the first ones may be on disk. Names are durable up to the last sync of their directory, and of the
later changes the first ones may be on disk.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import attrs

_PAGE = 4096
_SOURCE = Path(__file__).with_suffix(".c")
_LENGTHS = ("W", "P")


def build_recorder(directory: Path) -> Path | None:
    """Build the library to preload. Return None if the machine has no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = directory / "power_loss.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return library


@attrs.frozen
class Operation:
    """One record of the log: its kind, its fields and the data of a write."""

    kind: str
    fields: tuple[str, ...]
    data: bytes


def read_log(path: Path) -> list[Operation]:
    """Return the recorded operations."""
    return list(_parse(path.read_bytes()))


def _parse(log: bytes) -> Iterator[Operation]:
    at = 0
    while at < len(log):
        end = log.index(b"\n", at)
        kind, *fields = log[at:end].decode().split("\t")
        at = end + 1 + (int(fields[-1]) if kind in _LENGTHS else 0)
        yield Operation(kind, tuple(fields), log[end + 1 : at])


@attrs.define(eq=False)
class _File:
    """The content of a file that is durable, and the writes that are not."""

    durable: bytearray = attrs.field(factory=bytearray)
    pending: list[tuple[int, bytes]] = attrs.field(factory=list)

    def write(self, offset: int, data: bytes) -> None:
        """Add a write, page by page."""
        while data:
            size = _PAGE - offset % _PAGE
            self.pending.append((offset, data[:size]))
            offset, data = offset + size, data[size:]

    def truncate(self, size: int) -> None:
        """Cut or extend the file. What is cut is not written later."""
        self.pending = [(at, data[: size - at]) for at, data in self.pending if at < size]
        del self.durable[size:]
        self.durable.extend(bytes(size - len(self.durable)))

    def sync(self) -> None:
        """Make all writes durable."""
        for at, data in self.pending:
            _put(self.durable, at, data)
        self.pending.clear()

    def after_loss(self, random: Random) -> bytes:
        """Return a content that may be on disk."""
        content, end = bytearray(self.durable), len(self.durable)
        overwrites = [write for write in self.pending if write[0] + len(write[1]) <= end]
        extensions = [write for write in self.pending if write not in overwrites]
        survivors = [write for write in overwrites if random.random() < 0.5]
        for at, data in survivors + extensions[: random.randint(0, len(extensions))]:
            _put(content, at, data)
        return bytes(content)


def _put(content: bytearray, at: int, data: bytes) -> None:
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(data)] = data


@attrs.define(eq=False)
class Disk:
    """A directory of a disk that can lose power.

    Attributes:
        directory: The directory of the recorded process.
        printed: What the process has printed.
    """

    directory: Path
    printed: bytes = b""
    _names: dict[str, _File] = attrs.field(factory=dict)
    _durable: dict[str, _File] = attrs.field(factory=dict)
    _changes: list[tuple[Operation, _File]] = attrs.field(factory=list)

    def apply(self, operation: Operation) -> None:
        """Carry out one operation."""
        match operation.kind, *operation.fields:
            case "P", _:
                self.printed += operation.data
            case "W", path, offset, _:
                self._names[path].write(int(offset), operation.data)
            case "T", path, size:
                self._names[path].truncate(int(size))
            case "S", path if Path(path) == self.directory:
                self._durable = dict(self._names)
                self._changes.clear()
            case "S", path:
                self._names[path].sync()
            case _:
                change = operation, _File()
                _rename(self._names, *change)
                self._changes.append(change)

    def is_rewriting(self, name: str) -> bool:
        """Return whether parts of a file are overwritten that were durable."""
        file = self._durable.get(str(self.directory / name), _File())
        return any(at < len(file.durable) for at, _ in file.pending)

    def lose_power(self, target: Path, random: Random) -> None:
        """Write what may be on disk into *target*."""
        names = dict(self._durable)
        for change in self._changes[: random.randint(0, len(self._changes))]:
            _rename(names, *change)
        target.mkdir()
        for path, file in names.items():
            (target / Path(path).name).write_bytes(file.after_loss(random))


def _rename(names: dict[str, _File], operation: Operation, new: _File) -> None:
    """Create, rename or unlink a file."""
    match operation.kind, *operation.fields:
        case "C", path:
            names[path] = new
        case "R", old, path:
            names[path] = names.pop(old)
        case _, path:
            del names[path]
