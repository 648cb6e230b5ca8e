"""Explanations of errors of the sync engine."""

from __future__ import annotations

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
    SourceBusyError,
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
    SourceBusyError: ExitCode.BUSY,  # before its base class
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
    """Return how to report *error*, with a command to paste, and the exit code."""
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), ExitCode.FAILED)
    lines = [with_remedy(error.text, error.remedy)]
    report = error.report
    if isinstance(error, GuardError) and isinstance(report, SyncReport) and report.rejected:
        # Rejected rows may be why the guard sees too few of them.
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in report.reasons.items())
        lines.append(
            f"{report.rejected:,} of {report.read:,} rows were rejected ({reasons}). Pass --rejects FILE to "
            "write them to a file."
        )
    return Explanation(code, tuple(lines))
