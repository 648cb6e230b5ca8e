"""Names of the objects of a state."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import attrs

from ._store import ListedObject, ObjectStore

_LEASE: Final = "LEASE"
_HEAD: Final = "HEAD.json"
# Parts of the path of an audience's head or lease: its target, its key and the name.
_HEAD_PARTS: Final = 3


@attrs.frozen
class Place:
    """The objects of one audience.

    Attributes:
        scope: The digest of the target.
        key: The audience's key.
    """

    scope: str
    key: str

    @property
    def prefix(self) -> str:
        """The start of the paths of all objects, with a slash at its end."""
        return f"{self.scope}/{self.key}/"

    @property
    def lease(self) -> str:
        """The path of the lease."""
        return f"{self.prefix}{_LEASE}"

    @property
    def head(self) -> str:
        """The path of the head."""
        return f"{self.prefix}{_HEAD}"

    @property
    def members(self) -> str:
        """The start of the paths of the members."""
        return f"{self.prefix}members/"

    def new_members(self, generation: int, kind: str) -> str:
        """Return a new path for members.

        Args:
            generation: The generation of the head that will name them.
            kind: `base` or `delta`, or another word for the reader.
        """
        return f"{self.members}g{generation:08d}-{kind}-{uuid.uuid4().hex}.parquet"

    def run(self, number: int) -> RunPaths:
        """Return the paths of a run."""
        return RunPaths(f"{self.prefix}runs/{number}/")


@attrs.frozen
class RunPaths:
    """The objects of one run.

    Attributes:
        prefix: The start of the paths of all of them, with a slash at its end.
    """

    prefix: str

    @property
    def plan(self) -> str:
        """The path of the plan."""
        return f"{self.prefix}plan.json"

    @property
    def report(self) -> str:
        """The path of the report."""
        return f"{self.prefix}report.json"

    @property
    def changes(self) -> str:
        """The start of the paths of the changes."""
        return f"{self.prefix}changes/"

    @property
    def transitions(self) -> str:
        """The start of the paths of the transitions. Sorted as texts, they are in their order."""
        return f"{self.prefix}transitions/"

    def new_changes(self) -> str:
        """Return a new path for changes."""
        return f"{self.changes}{uuid.uuid4().hex}.parquet"

    def transition(self, epoch: int, number: int) -> str:
        """Return the path of one group of transitions.

        Args:
            epoch: The epoch of the lease of their writer.
            number: The number of the group, counted by the writer.
        """
        return f"{self.transitions}{epoch:08d}-{number:08d}.json"


def find_leases(store: ObjectStore) -> Iterator[tuple[Place, ListedObject]]:
    """Return every audience of a store that has a lease, with the entry of its lease.

    Raises:
        StateError: The store cannot be used.
    """
    for entry in store.list(""):
        parts = entry.path.split("/")
        if len(parts) == _HEAD_PARTS and parts[-1] == _LEASE:
            yield Place(*parts[:-1]), entry


def find_places(store: ObjectStore) -> Iterator[Place]:
    """Return every audience of a store, sorted.

    Raises:
        StateError: The store cannot be used.
    """
    for entry in store.list(""):
        parts = entry.path.split("/")
        if len(parts) == _HEAD_PARTS and parts[-1] == _HEAD:
            yield Place(*parts[:-1])
