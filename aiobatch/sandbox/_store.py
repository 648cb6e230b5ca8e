"""Audiences, their members, and the operations that are on their way into them.

Nothing runs in the background: what is due is applied when somebody looks, in the order of becoming due.
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
    """What was sent along with an id.

    Attributes:
        attributes: By name, as in the request: `date(…)` and `url(…)` are part of the name.
        tags: In the order in which they were sent (1.1 alone knows tags).
    """

    attributes: Mapping[str, Any] = attrs.field(factory=dict)
    tags: tuple[str, ...] = ()


#: Shared by every member without attributes and tags: millions of ids cost no object each.
PLAIN_MEMBER: Final = SandboxMember()


@attrs.define(eq=False, kw_only=True)
class StoredAudience:
    """One name of a namespace, whatever is created and deleted under it over time.

    `accepts` says whether the operations submitted so far will leave an audience behind that takes writes,
    `busy_until` when the last of them is applied.
    """

    name: str
    id_type: str = ""
    label: str | None = None
    accepts: bool = False
    members: dict[str, SandboxMember] = attrs.field(factory=dict)
    created_at: float = 0.0
    updated_at: float = 0.0
    rank: int = 0
    busy_until: float = 0.0
    last: AcceptedWrite = attrs.field(init=False)
    superseded_before: int = 0


@attrs.define(eq=False, kw_only=True)
class AcceptedWrite:
    """A write that has been accepted; it has no effect left once it is applied."""

    token: str
    sequence: int
    ready_at: float
    namespace: Namespace
    audience: StoredAudience
    effect: Effect | None

    @property
    def state(self) -> str:
        """The indexing state, in Batch's words."""
        if self.effect is not None:
            return IN_PROGRESS
        superseded = self.sequence < self.audience.superseded_before
        return REPLACED if superseded and self.namespace.reports_replaced else APPLIED


@attrs.define(eq=False, kw_only=True)
class Namespace:
    """The audiences of one app or one project; `visible` has the ones that exist, oldest first.

    `ranks` number them in that order: not the order of submission, for delays differ.
    """

    label: str
    reports_replaced: bool
    ranks: Iterator[int] = attrs.field(factory=count)
    audiences: dict[str, StoredAudience] = attrs.field(factory=dict)
    visible: dict[str, StoredAudience] = attrs.field(factory=dict)
    operations: dict[str, AcceptedWrite] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Create:
    """Bring an audience into being."""

    supersedes: ClassVar = False
    id_type: str
    label: str | None

    def apply(self, operation: AcceptedWrite) -> None:
        """Make it visible, as the newest."""
        audience = operation.audience
        audience.id_type, audience.label = self.id_type, self.label
        audience.members = {}
        audience.created_at, audience.rank = operation.ready_at, next(operation.namespace.ranks)
        operation.namespace.visible[audience.name] = audience


@attrs.frozen(kw_only=True)
class Update:
    """Add and remove members; an add takes the place of what an earlier one sent along."""

    supersedes: ClassVar = False
    add: Mapping[str, SandboxMember]
    remove: Sequence[str]

    @classmethod
    def of(cls, outcomes: Mapping[str, SandboxMember | None]) -> Update:
        """Sort what becomes of each id into members and `None` for those that go."""
        remove = [member_id for member_id, member in outcomes.items() if member is None]
        add = {member_id: member for member_id, member in outcomes.items() if member is not None}
        return cls(add=add, remove=remove)

    def apply(self, operation: AcceptedWrite) -> None:
        """Change the members in place."""
        members = operation.audience.members
        members.update(self.add)
        for member in self.remove:
            members.pop(member, None)


@attrs.frozen(kw_only=True)
class Replace:
    """Take away all members and put others in their place."""

    supersedes: ClassVar = True
    members: dict[str, SandboxMember]

    def apply(self, operation: AcceptedWrite) -> None:
        """Take over the members: nobody else holds on to them."""
        operation.audience.members = self.members


@attrs.frozen(kw_only=True)
class Delete:
    """Take the whole audience away."""

    supersedes: ClassVar = True

    def apply(self, operation: AcceptedWrite) -> None:
        """Make it invisible and empty."""
        operation.audience.members = {}
        operation.namespace.visible.pop(operation.audience.name, None)


#: What an operation does to its audience when it is applied.
Effect = Create | Update | Replace | Delete


class AudienceStore:
    """Accept operations and apply each when it is due."""

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
        """Apply whatever is due by now."""
        now = self._monotonic()
        while self._due and self._due[0][0] <= now:
            _apply(heapq.heappop(self._due)[2])

    def submit(self, namespace: Namespace, name: str, effect: Effect) -> AcceptedWrite:
        """Accept an operation; those of one audience become due in the order of their submission."""
        audience = namespace.audiences.setdefault(name, StoredAudience(name=name))
        audience.busy_until = max(audience.busy_until, self._monotonic() + self._draw_delay())
        operation = self._accept(namespace, audience, effect, audience.busy_until)
        heapq.heappush(self._due, (operation.ready_at, operation.sequence, operation))
        return operation

    def apply_now(self, namespace: Namespace, name: str, effect: Effect) -> None:
        """Accept an operation and apply it at once; one that supersedes others leaves none pending."""
        audience = namespace.audiences.setdefault(name, StoredAudience(name=name))
        if effect.supersedes:
            self._apply_pending(audience)
        _apply(self._accept(namespace, audience, effect, self._monotonic()))

    def _apply_pending(self, audience: StoredAudience) -> None:
        """Apply what an audience waits for before it is due."""
        for _, _, operation in sorted(entry for entry in self._due if entry[2].audience is audience):
            _apply(operation)
        audience.busy_until = 0.0

    def _accept(
        self, namespace: Namespace, audience: StoredAudience, effect: Effect, ready_at: float
    ) -> AcceptedWrite:
        operation = AcceptedWrite(
            token=self._draw_token(),
            sequence=next(self._sequence),
            ready_at=ready_at,
            namespace=namespace,
            audience=audience,
            effect=effect,
        )
        audience.last = namespace.operations[operation.token] = operation
        if isinstance(effect, Create | Delete):
            audience.accepts = isinstance(effect, Create)
        return operation

    def format_time(self, instant: float) -> str:
        """Write an instant of the monotonic clock as Batch writes times in 1.x (UTC, to the second)."""
        moment = self._started_at + timedelta(seconds=instant - self._started)
        return f"{moment:%Y-%m-%dT%H:%M:%S}"


def _apply(operation: AcceptedWrite) -> None:
    """Apply an operation, unless that was done before its time."""
    if (effect := operation.effect) is None:
        return
    effect.apply(operation)
    operation.effect = None
    operation.audience.updated_at = operation.ready_at
    if effect.supersedes:
        operation.audience.superseded_before = operation.sequence
