from __future__ import annotations

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import Sandbox

from ..conftest import Run


def _update(run: Run, stdin: Run, name: str = "vip") -> str:
    """Send an update and return its token."""
    stdin("u1\n")
    token: str = run("update", name, "--add", "-", "--no-wait").out.strip()
    return token


def test_each_token_has_a_line(run: Run, sandbox: Sandbox, stdin: Run) -> None:
    """Wait prints a line for each token, and as JSON an object."""
    run("create", "vip", "--wait")
    token = _update(run, stdin)
    assert run("wait", token).rows == [["vip", "update", "APPLIED", "1", token]]
    assert run("wait", token, "--json").objects == [
        {
            "audience": "vip",
            "operation": "update",
            "outcome": "APPLIED",
            "nb_ids": 1,
            "token": token,
            "error": None,
        }
    ]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "No token"),
        (["nonsense"], "token"),
        (["vip:frobnicate:x"], "token"),
    ],
)
def test_invalid_tokens_are_rejected(argv: list[str], said: str, run: Run, sandbox: Sandbox) -> None:
    """Wait rejects an invalid token before it sends a request."""
    result = run("wait", *argv)
    assert result.code == ExitCode.USAGE
    assert said in result.err
    assert sandbox.request_count == 0


def test_replaced_tokens_have_their_code(run: Run, sandbox: Sandbox, stdin: Run) -> None:
    """A token that a later replace superseded exits with 5."""
    run("create", "vip", "--wait")
    token = _update(run, stdin)
    run("wait", token)
    sandbox.replace_behind_back("vip", ["z"])
    result = run("wait", token)
    assert result.code == ExitCode.REPLACED
    assert result.rows[0][2] == "REPLACED"
    assert "REPLACED" in result.err


def test_most_severe_outcome_decides(run: Run, sandbox: Sandbox, stdin: Run) -> None:
    """Of several outcomes, a failure decides over a token that was replaced."""
    run("create", "vip", "--wait")
    token = _update(run, stdin)
    run("wait", token)
    sandbox.replace_behind_back("vip", ["z"])
    result = run("wait", token, "gone:update:abc")
    assert result.code == ExitCode.NOT_FOUND
    assert {row[2] for row in result.rows} == {"REPLACED", "FAILED"}


def test_many_failures_are_counted(run: Run, sandbox: Sandbox) -> None:
    """The first failures are printed, the rest is counted."""
    result = run("wait", *(f"gone:update:{number}" for number in range(25)))
    assert result.code == ExitCode.NOT_FOUND
    assert "5 more updates" in result.err


def test_late_tokens_have_their_code(run: Run, slow: Sandbox, stdin: Run) -> None:
    """A token that is not APPLIED in time exits with 4 and names the command to wait again."""
    token = _update(run, stdin)
    result = run("wait", token, "--timeout", "0.01")
    assert result.code == ExitCode.NOT_APPLIED
    assert result.rows[0][2] == "TIMED_OUT"
    assert f"aiobatch wait {token}" in result.err
