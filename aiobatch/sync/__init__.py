"""The sync engine: brings audiences in line with a source, and survives being killed.

It needs the extra `sync`; ``await sync_audience(client, "vip", "users.parquet")`` is all that most use.
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("duckdb") is None:
    _MISSING_EXTRA = "the sync engine needs its extra: pip install 'aiobatch[sync]'"
    raise ModuleNotFoundError(_MISSING_EXTRA, name="duckdb")

from ._config import AudienceConfig, Config, ConfigError, TargetConfig, load_config
from ._diff import PlanRequest
from ._errors import (
    AudienceGoneError,
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
from ._fan_out import fan_out
from ._guard import GuardPolicy, Overrides, Verdict
from ._history import Run, RunOutcome, list_runs, show_run
from ._options import BULK_RETRY, SyncOptions
from ._plan import Basis, Mode, Plan
from ._report import Phase, SyncProgress, SyncReport, report_of
from ._sources import Format, Source, SourceLike
from ._staging import StageCounts
from ._state import State, default_state_path
from ._status import AudienceStatus, Status, read_status
from ._sync import apply_plan, plan_audience, sync_audience
from ._thread import StateThread
from ._upkeep import (
    Verification,
    adopt_audience,
    forget_audience,
    rollback_audience,
    settle_audience,
    verify_audience,
)

__all__ = [
    "BULK_RETRY",
    "AudienceConfig",
    "AudienceGoneError",
    "AudienceStatus",
    "Basis",
    "Config",
    "ConfigError",
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
    "SourceLike",
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
    "TargetConfig",
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
    "load_config",
    "plan_audience",
    "read_status",
    "report_of",
    "rollback_audience",
    "settle_audience",
    "show_run",
    "sync_audience",
    "verify_audience",
]
