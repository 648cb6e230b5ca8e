"""Audiences, their members, and accepted writes that are not applied yet.

Nothing runs in the background. Each request first applies the writes that are due, in order of time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, ClassVar, Final

import attrs

IN_PROGRESS: Final = "IN_PROGRESS"
APPLIED: Final = "APPLIED"
REPLACED: Final = "REPLACED"


@attrs.frozen(kw_only=True)
class SandboxMember:
    """The attributes and tags of a member.

    Attributes:
        attributes: Values by name. As in the request, `date(…)` and `url(…)` are part of the name.
        tags: Tags in the order of the request. Only 1.1 has tags.
    """

    attributes: Mapping[str, Any] = attrs.field(factory=dict)
    tags: tuple[str, ...] = ()


#: Shared by all members without attributes and tags, to save an object per ID.
PLAIN_MEMBER: Final = SandboxMember()


@attrs.define(eq=False, kw_only=True)
class StoredAudience:
    """One name of a namespace. Over time, several audiences can be created and deleted under it.

    Attributes:
        accepts_writes: Whether the audience will exist once all accepted writes are applied.
        busy_until: The time when the last of them is applied.
        rank: The position in the order of creation.
        superseded_before: Writes with a lower sequence number were superseded by a replace or a delete.
    """

    name: str
    id_type: str = ""
    description: str | None = None
    accepts_writes: bool = False
    members: dict[str, SandboxMember] = attrs.field(factory=dict)
    created_at: float = 0.0
    updated_at: float = 0.0
    rank: int = 0
    busy_until: float = 0.0
    last_write: AcceptedWrite = attrs.field(init=False)
    superseded_before: int = 0


@attrs.define(eq=False, kw_only=True)
class AcceptedWrite:
    """A write with its token. Once it is applied, its `effect` is None."""

    token: str
    sequence: int
    ready_at: float
    namespace: Namespace
    audience: StoredAudience
    effect: Effect | None

    @property
    def state(self) -> str:
        """The indexing state by Batch's name."""
        if self.effect is not None:
            return IN_PROGRESS
        superseded = self.sequence < self.audience.superseded_before
        return REPLACED if superseded and self.namespace.reports_replaced else APPLIED


@attrs.define(eq=False, kw_only=True)
class Namespace:
    """The audiences of one app or one project.

    Attributes:
        visible: The existing audiences, oldest first.
        ranks: Numbers in the order of creation. Delays differ, so it is not the order of the requests.
    """

    label: str
    reports_replaced: bool
    ranks: Iterator[int] = attrs.field(factory=count)
    audiences: dict[str, StoredAudience] = attrs.field(factory=dict)
    visible: dict[str, StoredAudience] = attrs.field(factory=dict)
    writes: dict[str, AcceptedWrite] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Create:
    """Create an audience."""

    supersedes: ClassVar = False
    id_type: str
    description: str | None

    def apply(self, write: AcceptedWrite) -> None:
        """Make the audience visible, as the newest."""
        audience = write.audience
        audience.id_type, audience.description = self.id_type, self.description
        audience.members = {}
        audience.created_at, audience.rank = write.ready_at, next(write.namespace.ranks)
        write.namespace.visible[audience.name] = audience


@attrs.frozen(kw_only=True)
class Update:
    """Add and remove members. An add replaces attributes and tags of an earlier one."""

    supersedes: ClassVar = False
    add: Mapping[str, SandboxMember]
    remove: Sequence[str]

    @classmethod
    def of(cls, outcomes: Mapping[str, SandboxMember | None]) -> Update:
        """Split *outcomes* into members to add and IDs to remove, whose outcome is `None`."""
        remove = [member_id for member_id, member in outcomes.items() if member is None]
        add = {member_id: member for member_id, member in outcomes.items() if member is not None}
        return cls(add=add, remove=remove)

    def apply(self, write: AcceptedWrite) -> None:
        """Change the members in place."""
        members = write.audience.members
        members.update(self.add)
        for member in self.remove:
            members.pop(member, None)


@attrs.frozen(kw_only=True)
class Replace:
    """Replace all members."""

    supersedes: ClassVar = True
    members: dict[str, SandboxMember]

    def apply(self, write: AcceptedWrite) -> None:
        """Use `self.members` without a copy, because nothing else refers to it."""
        write.audience.members = self.members


@attrs.frozen(kw_only=True)
class Delete:
    """Delete an audience."""

    supersedes: ClassVar = True

    def apply(self, write: AcceptedWrite) -> None:
        """Make the audience invisible and empty."""
        write.audience.members = {}
        write.namespace.visible.pop(write.audience.name, None)


#: The change that a write makes when it is applied.
Effect = Create | Update | Replace | Delete


class AudienceStore:
    """Accepts writes and applies each when it is due."""

    def __init__(
        self,
        *,
        draw_delay: Callable[[], float],
        draw_token: Callable[[], str],
        monotonic: Callable[[], float],
    ) -> None:
        self._draw_delay = draw_delay
        self._draw_token = draw_token
        self._monotonic = monotonic
        self._started = monotonic()
        self._started_at = datetime.now(UTC)
        self._sequence = count(1)
        self._due: list[tuple[float, int, AcceptedWrite]] = []

    def advance(self) -> None:
        """Apply all writes that are due."""
        now = self._monotonic()
        while self._due and self._due[0][0] <= now:
            _apply(heapq.heappop(self._due)[2])

    def submit(self, namespace: Namespace, name: str, effect: Effect) -> AcceptedWrite:
        """Accept a write. The writes of one audience are applied in the order of their requests."""
        audience = namespace.audiences.setdefault(name, StoredAudience(name=name))
        audience.busy_until = max(audience.busy_until, self._monotonic() + self._draw_delay())
        write = self._accept(namespace, audience, effect, audience.busy_until)
        heapq.heappush(self._due, (write.ready_at, write.sequence, write))
        return write

    def apply_now(self, namespace: Namespace, name: str, effect: Effect) -> None:
        """Accept a write and apply it at once. Apply pending writes first if it supersedes them."""
        audience = namespace.audiences.setdefault(name, StoredAudience(name=name))
        if effect.supersedes:
            self._apply_pending(audience)
        _apply(self._accept(namespace, audience, effect, self._monotonic()))

    def _apply_pending(self, audience: StoredAudience) -> None:
        """Apply the pending writes of an audience before they are due."""
        for _, _, write in sorted(entry for entry in self._due if entry[2].audience is audience):
            _apply(write)
        audience.busy_until = 0.0

    def _accept(
        self, namespace: Namespace, audience: StoredAudience, effect: Effect, ready_at: float
    ) -> AcceptedWrite:
        write = AcceptedWrite(
            token=self._draw_token(),
            sequence=next(self._sequence),
            ready_at=ready_at,
            namespace=namespace,
            audience=audience,
            effect=effect,
        )
        audience.last_write = namespace.writes[write.token] = write
        if isinstance(effect, Create | Delete):
            audience.accepts_writes = isinstance(effect, Create)
        return write

    def format_time(self, instant: float) -> str:
        """Format a time of the monotonic clock as 1.x does, in UTC and seconds."""
        moment = self._started_at + timedelta(seconds=instant - self._started)
        return f"{moment:%Y-%m-%dT%H:%M:%S}"


def _apply(write: AcceptedWrite) -> None:
    """Apply a write, unless it was applied early."""
    if (effect := write.effect) is None:
        return
    effect.apply(write)
    write.effect = None
    write.audience.updated_at = write.ready_at
    if effect.supersedes:
        write.audience.superseded_before = write.sequence
