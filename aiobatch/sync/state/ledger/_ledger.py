"""The interface of both stores of a state, and the one of a file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from .._chunks import Chunk, ChunkTransition


@attrs.frozen
class StateUrl:
    """The URL of a state on object storage.

    Attributes:
        text: The URL. It contains no credentials.
    """

    text: str

    def __str__(self) -> str:
        """Return the URL."""
        return self.text


# A file, or a root in an object store.
StateLocation = Path | StateUrl


@attrs.frozen(kw_only=True)
class Hold:
    """What a process wants to do with an audience.

    Attributes:
        scope: Digest of the audience's target.
        key: The audience's key.
        what: What the process does (`sync vip`), for the error of other processes.
        request_timeout: Seconds that one request to Batch may take.
    """

    scope: str
    key: str
    what: str
    request_timeout: float


class Ledger(Protocol):
    """Makes the facts of an open state durable elsewhere.

    All methods but `acquire` and `release` block, and are called in the state's thread. They raise StateError
    if the facts could not be written, and LockedError if this process no longer holds the audience.
    """

    @property
    def location(self) -> StateLocation:
        """Where the state is."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether the open state has all audiences. Otherwise it has those that were loaded."""
        ...

    async def acquire(self, hold: Hold) -> None:
        """Take an audience, so that no other process writes it.

        Raises:
            LockedError: Another process has it.
            StateError: The store cannot be used.
        """
        ...

    async def release(self, key: str) -> None:
        """Release an audience. One that is not held is ignored."""
        ...

    def load(self, key: str, *, members: bool = True) -> None:
        """Load an audience that is held into the open state.

        Args:
            key: The audience's key.
            members: Whether the IDs of the members are needed, or only their number.
        """
        ...

    def next_run(self) -> int:
        """Return the number of a new run. No other run of this state has it."""
        ...

    def begin(self, key: str, run: int, chunks: Sequence[Chunk]) -> None:
        """Make a plan durable that was journaled, before anything of it is sent."""
        ...

    def record(
        self, key: str, run: int, transitions: Sequence[ChunkTransition], halves: Sequence[Chunk] = ()
    ) -> None:
        """Make transitions durable, before they count.

        Args:
            key: The audience's key.
            run: The run's number.
            transitions: The transitions.
            halves: The chunks that a split adds.
        """
        ...

    def note_changes(self, key: str, changed: Callable[[], str] | None) -> None:
        """Note, within a transaction, which members are about to change.

        Args:
            key: The audience's key.
            changed: Returns the name of a table or view with their `id`. None: all members are replaced.
        """
        ...

    def save(self, key: str) -> None:
        """Make durable what was committed of an audience since it was loaded or saved."""
        ...

    def fetch_changes(self, runs: Sequence[int]) -> None:
        """Fill the tables of what runs changed, which `load` leaves empty."""
        ...

    def load_history(self, key: str) -> None:
        """Load the runs of an audience that is held which `load` leaves out."""
        ...

    def forget(self, key: str) -> None:
        """Delete an audience that was deleted from the open state."""
        ...

    def check(self, key: str) -> None:
        """Raise LockedError if this process may not send for an audience any more. It does no I/O."""
        ...

    def held_keys(self, now: dt.datetime) -> tuple[str, ...] | None:
        """Return the keys of the audiences that processes seem to hold. None: the file is held as a whole.

        Args:
            now: The time of day, in UTC.
        """
        ...

    def close(self) -> None:
        """Delete what is private to this process, when the state is closed."""
        ...


@attrs.frozen
class FileLedger:
    """The ledger of a state file, which is durable by itself. So there is nothing to do.

    Attributes:
        path: The file.
        numbers: Returns the number of a new run.
    """

    path: Path
    numbers: Callable[[], int]

    @property
    def location(self) -> StateLocation:
        """The file."""
        return self.path

    @property
    def is_whole(self) -> bool:
        """True."""
        return True

    async def acquire(self, hold: Hold) -> None:
        """Do nothing: the process that has the file open has all of its audiences."""

    async def release(self, key: str) -> None:
        """Do nothing."""

    def load(self, key: str, *, members: bool = True) -> None:
        """Do nothing."""

    def next_run(self) -> int:
        """Return the number of a new run."""
        return self.numbers()

    def begin(self, key: str, run: int, chunks: Sequence[Chunk]) -> None:
        """Do nothing."""

    def record(
        self, key: str, run: int, transitions: Sequence[ChunkTransition], halves: Sequence[Chunk] = ()
    ) -> None:
        """Do nothing."""

    def note_changes(self, key: str, changed: Callable[[], str] | None) -> None:
        """Do nothing."""

    def save(self, key: str) -> None:
        """Do nothing."""

    def fetch_changes(self, runs: Sequence[int]) -> None:
        """Do nothing."""

    def load_history(self, key: str) -> None:
        """Do nothing."""

    def forget(self, key: str) -> None:
        """Do nothing."""

    def check(self, key: str) -> None:
        """Do nothing."""

    def held_keys(self, now: dt.datetime) -> None:
        """Return None."""

    def close(self) -> None:
        """Do nothing."""
