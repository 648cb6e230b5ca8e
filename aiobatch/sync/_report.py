"""What a run did, for people, schedulers and the history; holds no id and no key."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import cattrs.preconf.orjson

from .._remedy import Remedy
from ..errors import AiobatchError, SyncError
from ._errors import (
    DriftError,
    GuardError,
    InterruptedRunError,
    NotAppliedError,
    ReplacedElsewhereError,
)
from ._options import Mode
from .state._history import RunOutcome

_FORMAT = 1
_converter = cattrs.preconf.orjson.make_converter()


class Phase(enum.StrEnum):
    """What a run is doing."""

    SETTLING = "settling"
    READING = "reading"
    PLANNING = "planning"
    CREATING = "creating"
    SENDING = "sending"
    WAITING = "waiting"
    CHECKING = "checking"


@attrs.frozen(kw_only=True)
class SyncProgress:
    """How far a run is.

    Attributes:
        audience: The audience's name.
        phase: What it is doing.
        read: Rows read.
        total: Ids to send; 0 before the plan.
        sent: Ids that Batch has accepted.
        applied: Ids that are APPLIED.
        calls: Write calls made.
        planned_calls: Write calls planned.
        refused: Ids that Batch refused one by one.
        target: Which of the clients that the source is fanned out to, from 0.
        run: The number of the run that sends; None before it has begun.
    """

    audience: str
    phase: Phase
    read: int = 0
    total: int = 0
    sent: int = 0
    applied: int = 0
    calls: int = 0
    planned_calls: int = 0
    refused: int = 0
    target: int = 0
    run: int | None = None


@attrs.frozen
class SyncWarning:
    """Something to look at after a run.

    Attributes:
        text: What it is, in one or two sentences, without the remedy.
        remedy: The operation that fixes it. None where no single operation does.
    """

    text: str
    remedy: Remedy | None = None

    def __str__(self) -> str:
        return self.text if self.remedy is None else f"{self.text.rstrip('.')}. {self.remedy}"


OnProgress = Callable[[SyncProgress], None]


@attrs.frozen(kw_only=True)
class SyncReport:
    """What a run did.

    Attributes:
        audience: The audience's name.
        mode: What was made of the source.
        outcome: How it ended; `planned`: a dry run, `sent`: it did not wait, `refused`: by the guard.
        source: What was read, without secrets.
        run: Its number in the history; None where it did not come to sending.
        started: When; UTC.
        seconds: Seconds that it took.
        read: Rows of the source.
        kept: Ids of it, each once.
        duplicate: Rows whose id stands in a later row as well.
        rejected: Rows that break the ids' contract.
        reasons: Reason -> rows rejected for it.
        adds: Ids that became, or would become, members.
        removes: Members that went, or would go.
        attribute_changes: Members that were sent again because their attributes changed.
        resends: Members that were sent again to make sure.
        untracked_removals: Ids that were removed to make sure.
        unchanged: Members that nothing was sent for.
        members_before: Members before.
        members_after: Members after, as we know them.
        counted: What Batch counts at the end; None where it was not asked.
        calls: Write calls made; for a dry run, planned.
        retries: Requests that were repeated for it; polls that failed do not count.
        applied: Ids whose change is APPLIED.
        refused: Ids that Batch refused.
        refused_before: Ids of the source that Batch refused within a week; they were not sent again.
        expected_seconds: Seconds that sending and waiting were expected to take, at the rate that the client
            keeps to or as the last runs went; None where nothing told.
        settled_run: The earlier run that was settled first; None if none was open.
        warnings: What to look at.
        error: What went wrong; None where nothing did.
        remedy: The operation that fixes the error; None where no single operation does.
    """

    audience: str
    mode: Mode
    outcome: RunOutcome
    source: str
    run: int | None
    started: dt.datetime
    seconds: float
    read: int = 0
    kept: int = 0
    duplicate: int = 0
    rejected: int = 0
    reasons: Mapping[str, int] = attrs.field(factory=dict)
    adds: int = 0
    removes: int = 0
    attribute_changes: int = 0
    resends: int = 0
    untracked_removals: int = 0
    unchanged: int = 0
    members_before: int = 0
    members_after: int = 0
    counted: int | None = None
    calls: int = 0
    retries: int = 0
    applied: int = 0
    refused: int = 0
    refused_before: int = 0
    expected_seconds: float | None = None
    settled_run: int | None = None
    warnings: tuple[SyncWarning, ...] = ()
    error: str | None = None
    remedy: Remedy | None = None

    @property
    def changes(self) -> int:
        """Ids that were, or would be, sent."""
        return self.adds + self.removes + self.attribute_changes + self.resends + self.untracked_removals

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values; docs/reference/report.schema.json describes them."""
        values: dict[str, Any] = _converter.unstructure(self)
        return {
            "format": _FORMAT,
            **values,
            "started": self.started.isoformat(timespec="seconds"),
            "warnings": [str(warning) for warning in self.warnings],
        }


@attrs.frozen(kw_only=True)
class Verification:
    """Batch's count of an audience and the recorded one.

    Attributes:
        audience: The audience's name.
        known: Whether the state records its members.
        members: The recorded number of members.
        counted: Batch's count. None if it returns none.
    """

    audience: str
    known: bool
    members: int
    counted: int | None

    @property
    def drift(self) -> int:
        """Members that Batch counts beyond the recorded ones."""
        return 0 if self.counted is None else self.counted - self.members


_OUTCOMES: Final[dict[type[BaseException], RunOutcome]] = {
    asyncio.CancelledError: RunOutcome.INTERRUPTED,
    DriftError: RunOutcome.DRIFT,
    GuardError: RunOutcome.REFUSED,
    InterruptedRunError: RunOutcome.INTERRUPTED,
    NotAppliedError: RunOutcome.NOT_APPLIED,
    ReplacedElsewhereError: RunOutcome.REPLACED,
}


def outcome_of(error: BaseException) -> RunOutcome:
    """Name how a run ended that raised.

    Args:
        error: What it raised.
    """
    return _OUTCOMES.get(type(error), RunOutcome.FAILED)


def text_of(error: BaseException) -> str:
    """Return what went wrong, without the remedy. Other packages' texts may hold IDs or keys.

    Args:
        error: What a run raised.
    """
    if isinstance(error, SyncError):
        return error.text
    return str(error) if isinstance(error, AiobatchError) else type(error).__name__


def report_of(error: BaseException, *, audience: str, mode: Mode, source: str) -> SyncReport:
    """Return the report of a run that failed: the one that its error carries, or what little is known.

    Args:
        error: What it raised.
        audience: The audience's name.
        mode: What was to be made of the source.
        source: What was to be read, without secrets.
    """
    report = getattr(error, "report", None)
    if isinstance(report, SyncReport):
        return report
    return SyncReport(
        audience=audience,
        mode=mode,
        outcome=outcome_of(error),
        source=source,
        run=None,
        started=dt.datetime.now(dt.UTC),
        seconds=0.0,
        error=text_of(error),
        remedy=getattr(error, "remedy", None),
    )
