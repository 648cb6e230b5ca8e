"""HEAD.json: what an audience's members are, and which run is open. It moves last, by compare-and-swap."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

import attrs
import cattrs
import cattrs.preconf.orjson
import orjson

from ..._errors import StateError
from ._layout import Place
from ._store import ConflictError, ObjectStore, Tag

FORMAT: Final = 1

_converter = cattrs.preconf.orjson.make_converter()


@attrs.frozen(kw_only=True)
class MemberFile:
    """A Parquet file of IDs.

    Attributes:
        path: Its path in the store.
        rows: Its number of rows.
        run: The run that wrote it.
    """

    path: str
    rows: int
    run: int


@attrs.frozen(kw_only=True)
class Head:
    """What an audience is in a store. It contains no key and no ID.

    Attributes:
        format: The version of the layout.
        epoch: The epoch of the lease of the writer.
        serial: Grows with each write.
        state_id: Identifies the state that all audiences of a root share.
        scope: Digest of the audience's target.
        key: The audience's key in the state.
        name: Its name.
        target: The display name of its app or project.
        generation: Grows whenever its recorded members change.
        known: Whether its members are known.
        contract: The rules of its IDs. None if no run recorded them.
        count: Number of members.
        base: The members, except for the changes of *deltas*. None if there are none.
        deltas: What later runs changed, in order.
        undo: What runs added and removed, for a rollback.
        refused: IDs that Batch refused. None if there are none.
        intended: What runs were to do with IDs of unknown outcome. None if there are none.
        open_run: The run that is not settled. None if all are.
        history: Rows of the latest runs, newest first.
        settled_rows: Rows of the sources of these runs.
        last_seen: When Batch created and last changed the audience. Empty if it was not recorded.
        digests: Digests of the members, by partition.
    """

    format: int = FORMAT
    epoch: int
    serial: int = 0
    state_id: str
    scope: str
    key: str
    name: str
    target: str
    generation: int = 0
    known: bool = False
    contract: str | None = None
    count: int = 0
    base: MemberFile | None = None
    deltas: tuple[MemberFile, ...] = ()
    undo: tuple[MemberFile, ...] = ()
    refused: MemberFile | None = None
    intended: MemberFile | None = None
    open_run: int | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    settled_rows: tuple[Mapping[str, Any], ...] = ()
    last_seen: tuple[str | None, ...] = ()
    digests: tuple[tuple[int | str, ...], ...] = ()

    @property
    def members(self) -> tuple[MemberFile, ...]:
        """The files of the members, in the order in which they apply."""
        return self.deltas if self.base is None else (self.base, *self.deltas)

    @property
    def named(self) -> set[str]:
        """The paths of all files of IDs that are in use, without those of the open run."""
        files = (*self.members, *self.undo, self.refused, self.intended)
        return {file.path for file in files if file is not None}

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps(_converter.unstructure(self), option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, text: bytes, *, location: str) -> Self:
        """Return the content of a HEAD.json.

        Args:
            text: JSON.
            location: The URL of the state, for errors.

        Raises:
            StateError: It is not one, or has another format.
        """
        with foreign_errors(location):
            head = _converter.structure(parse(text, location), cls)
            head.to_json()  # JSON can hold numbers that no head has
            return head


@contextmanager
def foreign_errors(location: str) -> Iterator[None]:
    """Raise errors of reading a document as StateError: aiobatch did not write it so.

    Args:
        location: The URL of the state.

    Raises:
        StateError: The document lacks something, or a value has another type.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, cattrs.BaseValidationError):
        msg = "it contains files that aiobatch did not write. Choose another prefix."
        raise StateError(msg, path=location, reason="foreign") from None


def parse(text: bytes, location: str) -> dict[str, Any]:
    """Return a JSON document of this layout.

    Args:
        text: JSON.
        location: The URL of the state, for errors.

    Raises:
        StateError: It is not one, or has another format.
    """
    with foreign_errors(location):
        document = orjson.loads(text)
        found = document["format"]
    if found != FORMAT:
        msg = (
            f"it has format {found!r:.20}, but this aiobatch reads format {FORMAT}. Install the aiobatch "
            "that wrote it, or choose another prefix and `adopt` the members again."
        )
        raise StateError(msg, path=location, reason="unknown_version")
    return dict(document)


@attrs.define(eq=False)
class HeadFile:
    """The HEAD.json of an audience, as it was read or written last.

    Attributes:
        store: The store.
        place: The audience.
        head: Its content. None if there is none.
    """

    store: ObjectStore
    place: Place
    head: Head | None = attrs.field(init=False, default=None)
    _tag: Tag | None = attrs.field(init=False, default=None)

    def read(self) -> Head | None:
        """Read it. Return None if there is none.

        Raises:
            StateError: It cannot be read.
        """
        found = self.store.get(self.place.head)
        self._tag = None if found is None else found.tag
        self.head = None if found is None else Head.from_json(found.data, location=self.store.url)
        return self.head

    def commit(self, head: Head) -> None:
        """Write it, if no other writer has since it was read.

        Args:
            head: The new content.

        Raises:
            StateError: Another writer has, or the store failed.
        """
        serial = 0 if self.head is None else self.head.serial
        head = attrs.evolve(head, serial=serial + 1)
        try:
            if self._tag is None:
                self._tag = self.store.create(self.place.head, head.to_json())
            else:
                self._tag = self.store.replace(self.place.head, head.to_json(), self._tag)
        except ConflictError:
            msg = (
                f"another process wrote audience {head.name!r} since this one read it. This one stops. Run "
                "again: the next run continues from what is recorded."
            )
            raise StateError(msg, path=self.store.url, reason="moved") from None
        self.head = head


def to_plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a table with its times as text."""
    return {name: one.isoformat() if isinstance(one, dt.datetime) else one for name, one in row.items()}


def from_plain(row: Mapping[str, Any], times: Sequence[str]) -> dict[str, Any]:
    """Return the row that `to_plain` returned for it.

    Args:
        row: The row.
        times: The columns that are times.
    """
    return {
        name: dt.datetime.fromisoformat(one) if name in times and one is not None else one
        for name, one in row.items()
    }
