"""The sync engine: brings audiences in line with a source, and survives being killed.

It needs the extra `sync`; ``await sync_audience(client, "vip", "users.parquet")`` is all that most use.
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("duckdb") is None:
    _MISSING_EXTRA = "the sync engine needs its extra: pip install 'aiobatch-client[sync]'"
    raise ModuleNotFoundError(_MISSING_EXTRA, name="duckdb")

from .._remedy import Remedy
from ._engine import apply_plan, plan_audience, sync_audience
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
from ._guard import GuardPolicy, Overrides, Verdict
from ._maintenance import (
    Verification,
    adopt_audience,
    forget_audience,
    rollback_audience,
    settle_audience,
    verify_audience,
)
from ._options import BULK_RETRY, Mode, SyncOptions
from ._plan import Basis, Plan
from ._report import Phase, SyncProgress, SyncReport, SyncWarning, report_of
from .config._load import AudienceConfig, Config, ConfigError, TargetConfig, load_config
from .run._fan_out import fan_out
from .sources._source import Format, Source, SourceLike
from .sources._stage import StageCounts
from .state._diff import PlanRequest
from .state._history import Run, RunOutcome, list_runs, show_run
from .state._state import State, default_state_path
from .state._status import AudienceStatus, Status, read_status
from .state._thread import StateThread

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
    "Remedy",
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
    "SyncWarning",
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
