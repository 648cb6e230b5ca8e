"""The sync engine: brings audiences in line with a source, and survives being killed.

It needs the extra `sync`. ``await sync_audience(client, "vip", "users.parquet")`` syncs one audience, and
``async with SyncEngine(...) as engine`` keeps one state open for many operations.
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("duckdb") is None:
    _MISSING_EXTRA = "The sync engine needs its extra: pip install 'aiobatch-client[sync]'"
    raise ModuleNotFoundError(_MISSING_EXTRA, name="duckdb")
if importlib.util.find_spec("fcntl") is None:
    _MISSING_LOCKS = "The sync engine needs the file locks of POSIX. On Windows, use it in WSL."
    raise ImportError(_MISSING_LOCKS, name="fcntl")

from ..errors import Remedy
from ._attempts import Attempt, read_attempts, record_attempts
from ._engine import SyncEngine, sync_audience
from ._errors import (
    AudienceGoneError,
    DriftError,
    GuardError,
    InterruptedRunError,
    JournalError,
    LockedError,
    LostLeaseError,
    NotAppliedError,
    OpenRunError,
    ReplacedElsewhereError,
    RunError,
    SendError,
    SourceBusyError,
    SourceError,
    StagingError,
    StalePlanError,
    StateError,
    TooManyRefusedError,
    UnknownMembersError,
    UnknownRunError,
)
from ._guard import GuardDecision, GuardPolicy, Overrides
from ._options import BULK_RETRY, Lint, Mode, SyncOptions
from ._places import PlaceStatus, configured_places, recorded_places
from ._plan import Basis, Plan
from ._plan_set import PlannedPlace, PlanSet, load_plans
from ._report import Phase, SyncProgress, SyncReport, SyncWarning, Verification, report_of
from .config._config import AudienceConfig, Config, ConfigError, Problem, TargetConfig
from .config._load import load_config
from .config._notify import AlertKind, NotifyConfig
from .sources._id_rules import Reason
from .sources._location import ArrowTable, Format
from .sources._source import Source, SourceLike
from .sources._stage import StageCounts
from .state._diff import PlanRequest
from .state._history import Run, RunOutcome
from .state._state import default_state_path
from .state._status import AudienceStatus, RunHistory, Status
from .state.ledger._ledger import StateLocation, StateUrl
from .state.objects._gc import Garbage, collect_garbage
from .state.objects._open_state import to_location
from .state.upkeep._copy import copy_state
from .state.upkeep._open_tokens import open_tokens

__all__ = [
    "BULK_RETRY",
    "AlertKind",
    "ArrowTable",
    "Attempt",
    "AudienceConfig",
    "AudienceGoneError",
    "AudienceStatus",
    "Basis",
    "Config",
    "ConfigError",
    "DriftError",
    "Format",
    "Garbage",
    "GuardDecision",
    "GuardError",
    "GuardPolicy",
    "InterruptedRunError",
    "JournalError",
    "Lint",
    "LockedError",
    "LostLeaseError",
    "Mode",
    "NotAppliedError",
    "NotifyConfig",
    "OpenRunError",
    "Overrides",
    "Phase",
    "PlaceStatus",
    "Plan",
    "PlanRequest",
    "PlanSet",
    "PlannedPlace",
    "Problem",
    "Reason",
    "Remedy",
    "ReplacedElsewhereError",
    "Run",
    "RunError",
    "RunHistory",
    "RunOutcome",
    "SendError",
    "Source",
    "SourceBusyError",
    "SourceError",
    "SourceLike",
    "StageCounts",
    "StagingError",
    "StalePlanError",
    "StateError",
    "StateLocation",
    "StateUrl",
    "Status",
    "SyncEngine",
    "SyncOptions",
    "SyncProgress",
    "SyncReport",
    "SyncWarning",
    "TargetConfig",
    "TooManyRefusedError",
    "UnknownMembersError",
    "UnknownRunError",
    "Verification",
    "collect_garbage",
    "configured_places",
    "copy_state",
    "default_state_path",
    "load_config",
    "load_plans",
    "open_tokens",
    "read_attempts",
    "record_attempts",
    "recorded_places",
    "report_of",
    "sync_audience",
    "to_location",
]
