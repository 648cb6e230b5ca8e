"""Failures of aiobatch as exceptions of Airflow: which ones a retry can fix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from aiobatch import (
    AiobatchError,
    AudienceNotFoundError,
    IndexingTimeoutError,
    InvalidInputError,
    SyncError,
    TokenReplacedError,
    UploadError,
)
from aiobatch.sync import (
    AudienceGoneError,
    DriftError,
    GuardError,
    InterruptedRunError,
    LockedError,
    NotAppliedError,
    OpenRunError,
    Remedy,
    ReplacedElsewhereError,
    SourceBusyError,
    SourceError,
    StalePlanError,
    UnknownMembersError,
    UnknownRunError,
)

# The exit codes of the command line, so that one page documents both. Subclasses come first.
_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (InvalidInputError, 2),
    (AudienceNotFoundError, 3),
    (AudienceGoneError, 3),
    (UnknownRunError, 3),
    (NotAppliedError, 4),
    (OpenRunError, 4),
    (IndexingTimeoutError, 4),
    (ReplacedElsewhereError, 5),
    (TokenReplacedError, 5),
    (GuardError, 11),
    (LockedError, 12),
    (DriftError, 13),
    (SourceBusyError, 75),
    (SourceError, 14),
    (StalePlanError, 15),
    (UnknownMembersError, 16),
    (InterruptedRunError, 130),
)
_FAILED: Final = 1
# A retry cannot fix these: a person has to look.
PERMANENT: Final = frozenset({2, 3, 5, 11, 13, 14, 15, 16})
# Modes of the operator that carry out the operation of a remedy.
_MODES: Final = {
    "adopt": "Run the task once with mode='adopt' and a source of the members that Batch has.",
    "resync": "Run the task once with mode='resync' and a source of all members.",
}


def exit_code(error: BaseException) -> int:
    """Return the exit code that the command line has for an error.

    Args:
        error: Any error.
    """
    if isinstance(error, UploadError) and error.__cause__ is not None and not error.sent:
        return exit_code(error.__cause__)
    if isinstance(error, BaseExceptionGroup):
        return exit_code(error.exceptions[0])
    return next((code for kind, code in _CODES if isinstance(error, kind)), _FAILED)


def to_airflow(error: AiobatchError) -> AirflowException:
    """Return the exception of Airflow for an error: one that is retried, or one that is not.

    Args:
        error: An error of aiobatch.
    """
    code = exit_code(error)
    kind = AirflowFailException if code in PERMANENT else AirflowException
    return kind(f"{_describe(error)} [exit code {code}]")


@contextmanager
def as_airflow() -> Iterator[None]:
    """Raise errors of aiobatch as exceptions of Airflow. Other errors pass.

    Raises:
        AirflowFailException: A retry cannot fix the error.
        AirflowException: A retry may fix it.
    """
    try:
        yield
    except AiobatchError as error:
        raise to_airflow(error) from None


def _describe(error: AiobatchError) -> str:
    """Return the text of an error, with its remedy in terms of the operator."""
    if not isinstance(error, SyncError):
        return str(error)
    remedy = error.remedy
    if isinstance(remedy, Remedy) and remedy.operation is None and remedy.options:
        return f"{error.text} To allow it once, run the task again with overrides={dict(remedy.options)!r}."
    if isinstance(remedy, Remedy) and remedy.operation in _MODES:
        return f"{error.text} {_MODES[remedy.operation]}"
    return str(error)
