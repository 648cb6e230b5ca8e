from __future__ import annotations

import errno
from importlib.metadata import PackageNotFoundError

import pytest

from aiobatch import (
    AudienceNotFoundError,
    ConnectError,
    IndexingTimeoutError,
    InvalidInputError,
    TokenReplacedError,
    UploadError,
    ViewManyError,
)
from aiobatch.cli import ExitCode
from aiobatch.cli.output._errors import explain

GONE = AudienceNotFoundError("'a' is gone", status=404, method="GET", path="/")
BEYOND = ImportError("Cannot import module")
BEYOND.__cause__ = ImportError("x.so: failed to map segment from shared object")
LACKING = ImportError("Cannot import module")
LACKING.__cause__ = PackageNotFoundError("duckdb")
LATE = IndexingTimeoutError(token="a:update:x", audience="a", last_state=None, polls=1, waited=9.0)
LOST = UploadError(audience="a", tokens=[], sent=[], not_sent=[], unread={})


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InvalidInputError("bad"), ExitCode.USAGE, "bad"),
        (GONE, ExitCode.NOT_FOUND, "'a' is gone"),
        (LATE, ExitCode.NOT_APPLIED, "aiobatch wait a:update:x"),
        (TokenReplacedError(token="t", audience="a"), ExitCode.REPLACED, "superseded"),
        (ConnectError("nobody there"), ExitCode.FAILED, "nobody there"),
        (ConnectError("no trust", lasting=True), ExitCode.FAILED, "no trust"),
        (ViewManyError.of({"a": GONE}), ExitCode.NOT_FOUND, "'a' is gone"),
        (ViewManyError.of({"a": GONE, "b": ConnectError("x")}), ExitCode.FAILED, "'a' is gone"),
        (ExceptionGroup("some", [GONE, ConnectError("x")]), ExitCode.NOT_FOUND, "'a' is gone"),
        (LOST, ExitCode.FAILED, "the upload stopped"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.csv"), ExitCode.USAGE, "x.csv: No such file"),
        (OSError(errno.EIO, "I/O error"), ExitCode.FAILED, "I/O error"),
        (OSError(), ExitCode.FAILED, "OSError"),
        (MemoryError(), ExitCode.FAILED, "memory"),
        (BEYOND, ExitCode.FAILED, "memory"),
        (RuntimeError("can't start new thread"), ExitCode.FAILED, "thread"),
        (RuntimeError("hunter2"), ExitCode.FAILED, "RuntimeError at an unknown place"),
        (ImportError("hunter2"), ExitCode.FAILED, "ImportError at an unknown place"),
        (LACKING, ExitCode.FAILED, "The metadata of the package 'duckdb' is missing. If this is a frozen"),
        (
            ModuleNotFoundError("no", name="duckdb"),
            ExitCode.FAILED,
            "package 'duckdb' is missing. Install it",
        ),
        (ModuleNotFoundError("no", name="aiobatch.x"), ExitCode.FAILED, "ModuleNotFoundError at an unknown"),
        (KeyError("hunter2"), ExitCode.FAILED, "KeyError at an unknown place"),
    ],
)
def test_each_error_has_its_code(error: Exception, code: ExitCode, said: str) -> None:
    """Each kind of error has a code for scripts and a line for people."""
    explanation = explain(error)
    assert explanation.code == code
    assert said in explanation.lines[0]
    assert "hunter2" not in "".join(explanation.lines)


def test_connection_errors_name_the_fix() -> None:
    """A failed connection names what to check. A lasting reason has its own fix."""
    assert "BATCH_BASE_URL" in explain(ConnectError("nobody there")).lines[1]
    assert explain(ConnectError("no trust", lasting=True)).lines == ("no trust",)


def test_uploads_that_sent_nothing_report_their_cause() -> None:
    """An upload that failed at its first chunk is explained by what that met."""
    error = UploadError(audience="a", tokens=[], sent=[], not_sent=[], unread={})
    error.__cause__ = GONE
    assert explain(error) == explain(GONE)
