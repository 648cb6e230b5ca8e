"""What an error of the sync engine is on the command line."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import SyncError
from ...sync import (
    AudienceGoneError,
    DriftError,
    GuardError,
    InterruptedRunError,
    LockedError,
    NotAppliedError,
    OpenRunError,
    ReplacedElsewhereError,
    SourceError,
    StalePlanError,
    SyncReport,
    UnknownMembersError,
    UnknownRunError,
)
from .._exit_codes import ExitCode, Explanation
from ._command_hints import with_remedy

__all__ = ["explain_sync"]

_CODES: dict[type[SyncError], ExitCode] = {
    AudienceGoneError: ExitCode.NOT_FOUND,
    GuardError: ExitCode.GUARDED,
    LockedError: ExitCode.LOCKED,
    SourceError: ExitCode.BAD_SOURCE,
    StalePlanError: ExitCode.STALE,
    UnknownMembersError: ExitCode.UNKNOWN_MEMBERS,
    UnknownRunError: ExitCode.NOT_FOUND,
    InterruptedRunError: ExitCode.INTERRUPTED,
    ReplacedElsewhereError: ExitCode.REPLACED,
    NotAppliedError: ExitCode.NOT_APPLIED,
    OpenRunError: ExitCode.NOT_APPLIED,  # what an earlier run sent is not APPLIED yet
    DriftError: ExitCode.DRIFTED,
}


def explain_sync(error: SyncError) -> Explanation:
    """Return what to say of *error* and how to exit."""
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), ExitCode.FAILED)
    return Explanation(code, (with_remedy(error.text, error.remedy), *_rejected(error)))


def _rejected(error: SyncError) -> Iterator[str]:
    """Say what became of the rows where the guard has too few of them: it may be why."""
    report = error.report
    if isinstance(error, GuardError) and isinstance(report, SyncReport) and report.rejected:
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in report.reasons.items())
        rejected = f"{report.rejected:,} rejected ({reasons})"
        yield f"of {report.read:,} rows of the source, {rejected}; name a file for those with --rejects"
