"""The errors of the sync engine. All are subclasses of `SyncError`.

Attributes are plain values, no text contains a key or a user's ID, and every error survives pickling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import Remedy, SyncError


class StateError(SyncError):
    """The state cannot be used.

    Attributes:
        path: The state file, or the URL of the store.
        reason: The reason as one word: `full`, `damaged`, `directory`, `newer`, `unknown_version`,
            `foreign`, `memory`, `missing`, `older` or `failed`. Of a store also `denied`, `unreachable`,
            `unconditional` (it has no conditional writes) or `moved` (another process wrote it).
    """

    path: str
    reason: str

    def __init__(self, text: str, *, path: str, reason: str) -> None:
        super().__init__(f"State {path!r}: {text}")
        self.path = path
        self.reason = reason


class LockedError(SyncError):
    """Another run has locked the state or the audience.

    Attributes:
        path: The lock file.
        pid: The holder's process. None if it could not be read, as are the other attributes then.
        host: The holder's machine.
        user: The holder's user.
        since: When it took the lock, in ISO 8601 and UTC.
        what: What the holder does: `sync vip`.
        lease: Seconds after which a lease in a store ends, if its holder was killed. None for a lock.
    """

    path: str
    pid: int | None
    host: str | None
    user: str | None
    since: str | None
    what: str | None
    lease: float | None

    def __init__(self, *, path: str, holder: Mapping[str, Any], lease: float | None = None) -> None:
        end = (
            "The lock is released when the process exits."
            if lease is None
            else f"If it was killed, its lease ends {lease:g} seconds later, and the next run continues."
        )
        who = _name_holder(holder)
        super().__init__(f"{path!r} is locked by {who}. Wait for it to finish, or stop it. {end}")
        self.path = path
        self.pid = holder.get("pid")
        self.host = holder.get("host")
        self.user = holder.get("user")
        self.since = holder.get("since")
        self.what = holder.get("what")
        self.lease = lease


class LostLeaseError(LockedError):
    """A run did not renew its lease in time, for example because its machine was suspended.

    It sends nothing more. What it sent is recorded, and the next run continues. If another process holds the
    lease now, the attributes describe it.
    """

    def __init__(self, *, path: str, holder: Mapping[str, Any], lease: float) -> None:
        super().__init__(path=path, holder=holder, lease=lease)
        now = f" Now {_name_holder(holder)} holds it." if self.pid else ""
        text = f"The lease {path!r} was not renewed in time, so this run sends nothing more.{now}"
        self.args = (f"{text} What it sent is recorded. Run again.",)


def _name_holder(holder: Mapping[str, Any]) -> str:
    pid, host, user, since, what = (holder.get(name) for name in ("pid", "host", "user", "since", "what"))
    who = f"process {pid} of {user} on {host}" if pid else "another process"
    return f"{who}, since {since} ({what})" if since else who


class GuardError(SyncError):
    """The guard refused a plan before anything was sent.

    Attributes:
        audience: The audience's name.
        reasons: Why it refused, one sentence each.
        options: Fields of `Overrides` that allow exactly this plan, with their values.
        removals: Members that the plan removes.
        additions: IDs that the plan adds.
        members: Members before, as the guard counted them.
    """

    audience: str
    reasons: tuple[str, ...]
    options: Mapping[str, bool | int | str]
    removals: int
    additions: int
    members: int

    def __init__(  # noqa: PLR0913 - the numbers of a plan, by keyword
        self,
        *,
        audience: str,
        reasons: Sequence[str],
        options: Mapping[str, bool | int | str],
        removals: int,
        members: int,
        additions: int = 0,
        lint: str = "",
    ) -> None:
        # Many additions beside many removals show that the IDs changed their form. So do damaged IDs.
        adds = f" The plan also adds {additions:,} IDs." if additions else ""
        damage = f" IDs of the source that match no user: {lint}." if lint else ""
        super().__init__(
            f"Audience {audience!r}: the guard refused the plan: {'; '.join(reasons)}.{adds}{damage} Nothing "
            "was sent."
        )
        self.audience = audience
        self.reasons = tuple(reasons)
        self.options = dict(options)
        self.remedy = Remedy(options=self.options)
        self.removals = removals
        self.additions = additions
        self.members = members


class StalePlanError(SyncError):
    """A plan is out of date: its source or its state has changed.

    Attributes:
        audience: The audience's name.
        moved: What has changed, one sentence each.
    """

    audience: str
    moved: tuple[str, ...]

    def __init__(self, *, audience: str, moved: Sequence[str]) -> None:
        super().__init__(f"Audience {audience!r}: the plan is stale: {'; '.join(moved)}. Plan again.")
        self.audience = audience
        self.moved = tuple(moved)


class OpenRunError(SyncError):
    """A run of the audience is not settled. Its open chunks come first.

    Attributes:
        audience: The audience's name.
        run: The run's number.
    """

    audience: str
    run: int

    def __init__(self, *, audience: str, run: int) -> None:
        super().__init__(
            f"Audience {audience!r}: run {run} sent chunks whose outcome is not known yet. Settle them "
            "first, or let the next sync do so."
        )
        self.remedy = Remedy("settle", audience)
        self.audience = audience
        self.run = run


class JournalError(SyncError):
    """A transition of a chunk is not allowed. Nothing was changed. This is a bug in the caller."""


class UnknownRunError(SyncError):
    """The history does not contain a run, or no longer its changes.

    Attributes:
        audience: The audience's name. None for a run of any audience.
        run: The run's number.
    """

    audience: str | None
    run: int

    def __init__(self, text: str, *, run: int, audience: str | None = None) -> None:
        super().__init__(text if audience is None else f"Audience {audience!r}: {text}")
        self.remedy = Remedy("runs", audience)
        self.audience = audience
        self.run = run


class SourceError(SyncError):
    """A source cannot be read, or not completely. Nothing was sent.

    Attributes:
        location: The file, or the address of the database without its password.
        line: The line of a text file, counted from 1. None if it is unknown or does not apply.
    """

    location: str
    line: int | None

    def __init__(self, text: str, *, location: str, line: int | None = None) -> None:
        where = location if line is None else f"{location}, line {line}"
        super().__init__(f"Source {where}: {text}. Nothing was sent.")
        self.location = location
        self.line = line


class SourceBusyError(SourceError):
    """A source is locked by another program for too long. Nothing was sent. Try again later."""


class StagingError(SyncError):
    """A source could not be staged: memory or disk is full, or the reject file cannot be written."""


class RunError(SyncError):
    """A run did not succeed. The journal keeps its progress, and the next run continues from there.

    Attributes:
        audience: The audience's name.
        run: The run's number in the history. None if nothing was journaled.
    """

    audience: str
    run: int | None

    def __init__(
        self, text: str, *, audience: str, run: int | None = None, remedy: Remedy | None = None
    ) -> None:
        super().__init__(f"Audience {audience!r}: {text}")
        self.remedy = remedy
        self.audience = audience
        self.run = run


class AudienceGoneError(RunError):
    """The audience was deleted in Batch, but the state records members of it. Nothing was sent."""


class UnknownMembersError(RunError):
    """The audience has members that the state does not record. Nothing was sent."""


class SendError(RunError):
    """A chunk could not be sent, or its token could not be checked. See `__cause__`."""


class TooManyRefusedError(RunError):
    """Batch refused many IDs one after the other, so the reason is not in single IDs."""


class NotAppliedError(RunError):
    """Chunks were sent but are not APPLIED in time. Their tokens are journaled."""


class InterruptedRunError(RunError):
    """The run was asked to stop. Chunks in flight were finished or journaled."""


class ReplacedElsewhereError(RunError):
    """Another writer replaced the members of the audience."""


class DriftError(RunError):
    """Batch's member count differs from the recorded one."""
