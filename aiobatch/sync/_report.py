"""Progress and reports of runs. They contain no ID and no key."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import cattrs.preconf.orjson

from ..errors import AiobatchError, Remedy, SyncError
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


def format_time(time: dt.datetime) -> str:
    """Format a time in UTC as `2026-01-02T03:04:05Z`, as all JSON output has it."""
    return time.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Phase(enum.StrEnum):
    """The phase of a run."""

    SETTLING = "settling"
    READING = "reading"
    PLANNING = "planning"
    CREATING = "creating"
    SENDING = "sending"
    WAITING = "waiting"
    CHECKING = "checking"


@attrs.frozen(kw_only=True)
class SyncProgress:
    """The progress of a run.

    Attributes:
        audience: The audience's name.
        phase: The run's phase.
        read: Rows read.
        total: IDs to send. 0 before the plan.
        sent: IDs that Batch has accepted.
        applied: IDs that are APPLIED.
        calls: Write calls made.
        planned_calls: Write calls planned.
        refused: IDs that Batch refused one by one.
        target: The position of the client in the call of `sync_many`, from 0.
        run: The number of the run that sends. None before it has begun.
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
        text: What to look at, in one or two sentences, without the remedy.
        remedy: The operation that fixes it. None if no single operation does.
    """

    text: str
    remedy: Remedy | None = None

    def __str__(self) -> str:
        return self.text if self.remedy is None else f"{self.text.rstrip('.')}. {self.remedy}"


OnProgress = Callable[[SyncProgress], None]


@attrs.frozen(kw_only=True)
class SyncReport:
    """The report of a run.

    Attributes:
        audience: The audience's name.
        mode: The run's mode.
        outcome: How the run ended. `planned` is a dry run, `sent` did not wait, `refused` is the guard's.
        source: The name of the source, without secrets.
        run: The run's number in the history. None if nothing was to be sent.
        started: When the run started, in UTC.
        seconds: Seconds that the run took.
        read: Rows of the source.
        kept: IDs of the source, each once.
        duplicate: Rows whose ID is in a later row as well.
        rejected: Rows that break the ID rules.
        reasons: Reason -> rows rejected for it.
        lint: Kind -> IDs of the source that match no user. They are sent.
        attribute_lint: Kind -> IDs whose attributes or tags Batch may drop. They are sent.
        rejects: The file of the rejected rows. None if there are none, or if no file was asked for.
        adds: IDs that became, or would become, members.
        removes: Members that were, or would be, removed.
        attribute_changes: Members that were sent again because their attributes changed.
        resends: Unchanged members that were sent again.
        untracked_removals: IDs without a recorded membership that were removed.
        unchanged: Members for which nothing was sent.
        members_before: Members before.
        members_after: Recorded members after.
        counted: Batch's count at the end. None if it was not read.
        calls: Write calls made. For a dry run, write calls planned.
        retries: Requests that were repeated for the run. Failed polls do not count.
        applied: IDs whose change is APPLIED.
        refused: IDs that Batch refused.
        refused_before: IDs of the source that Batch refused in the last 7 days. They were not sent again.
        carried: Changes of an earlier run that Batch may not have, and that the source did not decide.
        expected_seconds: Seconds that sending and waiting were expected to take, at the client's rate or as
            in the last runs. None if unknown.
        settled_run: The earlier run that was settled first. None if none was open.
        warnings: What to look at.
        error: What went wrong. None if nothing did.
        remedy: The operation that fixes the error. None if no single operation does.
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
    lint: Mapping[str, int] = attrs.field(factory=dict)
    attribute_lint: Mapping[str, int] = attrs.field(factory=dict)
    rejects: str | None = None
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
    carried: int = 0
    expected_seconds: float | None = None
    settled_run: int | None = None
    warnings: tuple[SyncWarning, ...] = ()
    error: str | None = None
    remedy: Remedy | None = None

    @property
    def changes(self) -> int:
        """IDs that were, or would be, sent."""
        return self.adds + self.removes + self.attribute_changes + self.resends + self.untracked_removals

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values, as in docs/reference/report.schema.json."""
        values: dict[str, Any] = _converter.unstructure(self)
        return {
            "format": _FORMAT,
            **values,
            "started": format_time(self.started),
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
    """Return the outcome of a run that raised *error*.

    Args:
        error: What the run raised.
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
    """Return the report of a run that failed: the one that its error carries, or what is known.

    Args:
        error: What the run raised.
        audience: The audience's name.
        mode: The run's mode.
        source: The name of the source, without secrets.
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
