"""Which failures Airflow retries."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from aiobatch import AiobatchError, IndexingTimeoutError, InvalidInputError, SyncError, UploadError
from aiobatch.cli._exit_codes import ExitCode
from aiobatch.cli.output import _errors, _sync_errors
from aiobatch.sync import (
    GuardError,
    LockedError,
    NotAppliedError,
    Remedy,
    ReplacedElsewhereError,
    SourceBusyError,
)
from airflow_provider_batchcom._failures import PERMANENT, as_airflow, exit_code, to_airflow


def _subclasses(kind: type[AiobatchError]) -> set[type[AiobatchError]]:
    found = {kind}
    for each in kind.__subclasses__():
        found |= _subclasses(each)
    return found


def _code_of_command(kind: type[BaseException]) -> int:
    """Return the exit code that the command line has for a class of errors."""
    codes: list[tuple[type[BaseException], ExitCode]] = [
        *_sync_errors._CODES.items(),
        *_errors._CODES,
        (IndexingTimeoutError, ExitCode.NOT_APPLIED),
    ]
    return next((int(code) for each, code in codes if issubclass(kind, each)), int(ExitCode.FAILED))


_KINDS: list[type[AiobatchError]] = list(_subclasses(AiobatchError))


@pytest.mark.parametrize("kind", sorted(_KINDS, key=str))
def test_codes_are_those_of_the_command_line(kind: type[AiobatchError]) -> None:
    """Each error has the exit code that the command line has for it."""
    if not issubclass(kind, BaseExceptionGroup):
        assert exit_code(kind.__new__(kind)) == _code_of_command(kind)


def test_permanent_codes_are_those_of_the_issue() -> None:
    """A retry cannot fix an input, a missing audience, a foreign writer, a refusal or a source."""
    assert {int(code) for code in ExitCode if code in PERMANENT} == {2, 3, 5, 11, 13, 14, 15, 16}


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (InvalidInputError("x"), True),
        (SyncError("x"), False),
        (LockedError(path="p", holder={}), False),
        (NotAppliedError("x", audience="vip"), False),
        (SourceBusyError("x", location="p"), False),
    ],
)
def test_only_lasting_failures_end_the_task(error: AiobatchError, is_final: bool) -> None:
    """A failure that passes is retried."""
    with pytest.raises(AirflowException) as caught, as_airflow():
        raise error
    assert isinstance(caught.value, AirflowFailException) is is_final
    assert caught.value.__suppress_context__


def test_remedies_are_in_terms_of_the_operator() -> None:
    """A refused plan names the overrides, and a replaced audience the mode."""
    refused = GuardError(audience="vip", reasons=["x"], options={"allow_removals": 9}, removals=9, members=10)
    assert "overrides={'allow_removals': 9}" in str(to_airflow(refused))
    replaced = ReplacedElsewhereError("x.", audience="vip", remedy=Remedy("resync", "vip"))
    assert "mode='resync'" in str(to_airflow(replaced))
    other = ReplacedElsewhereError("x.", audience="vip", remedy=Remedy("settle", "vip"))
    assert "Call `await engine.settle" in str(to_airflow(other))


def test_upload_that_sent_nothing_has_the_code_of_its_cause() -> None:
    """An upload fails for the reason of its first chunk."""
    error = UploadError(audience="vip", tokens=[], sent=[], not_sent=[], unread={})
    error.__cause__ = InvalidInputError("x")
    assert exit_code(error) == 2
    assert exit_code(ExceptionGroup("x", [InvalidInputError("x")])) == 2
