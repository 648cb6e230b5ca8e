"""The sync engine: brings audiences in line with a source, and survives being killed.

It needs the extra `sync`. ``report = await sync_audience(client, "vip", "users.parquet")`` is all of it that most use.
"""

from __future__ import annotations

from ._diff import PlanRequest
from ._errors import (
    DriftError,
    GuardError,
    InterruptedRunError,
    JournalError,
    LockedError,
    NotAppliedError,
    OpenRunError,
    ReplacedElsewhereError,
    RunError,
    SendError,
    SourceError,
    StagingError,
    StalePlanError,
    StateError,
    TooManyRefusedError,
    UnknownMembersError,
    UnknownRunError,
)
from ._guard import GuardPolicy, Overrides, Verdict
from ._history import Run, RunOutcome, list_runs, show_run
from ._options import SyncOptions
from ._plan import Mode, Plan
from ._report import Phase, SyncProgress, SyncReport
from ._sources import Format, Source
from ._staging import StageCounts
from ._state import State, default_state_path
from ._status import AudienceStatus, Status, read_status
from ._sync import (
    Verification,
    adopt_audience,
    apply_plan,
    fan_out,
    forget_audience,
    plan_audience,
    rollback_audience,
    settle_audience,
    sync_audience,
    verify_audience,
)
from ._thread import StateThread

__all__ = [
    "AudienceStatus",
    "DriftError",
    "Format",
    "GuardError",
    "GuardPolicy",
    "InterruptedRunError",
    "JournalError",
    "LockedError",
    "Mode",
    "NotAppliedError",
    "OpenRunError",
    "Overrides",
    "Phase",
    "Plan",
    "PlanRequest",
    "ReplacedElsewhereError",
    "Run",
    "RunError",
    "RunOutcome",
    "SendError",
    "Source",
    "SourceError",
    "StageCounts",
    "StagingError",
    "StalePlanError",
    "State",
    "StateError",
    "StateThread",
    "Status",
    "SyncOptions",
    "SyncProgress",
    "SyncReport",
    "TooManyRefusedError",
    "UnknownMembersError",
    "UnknownRunError",
    "Verdict",
    "Verification",
    "adopt_audience",
    "apply_plan",
    "default_state_path",
    "fan_out",
    "forget_audience",
    "list_runs",
    "plan_audience",
    "read_status",
    "rollback_audience",
    "settle_audience",
    "show_run",
    "sync_audience",
    "verify_audience",
]
