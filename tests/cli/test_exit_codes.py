from __future__ import annotations

import signal

import pytest

from aiobatch.cli import ExitCode

from .reports import REFERENCE


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (ExitCode.INTERRUPTED, signal.SIGINT),
        (ExitCode.BROKEN_PIPE, signal.SIGPIPE),
        (ExitCode.TERMINATED, signal.SIGTERM),
    ],
)
def test_signals_are_counted_as_a_shell_does(code: ExitCode, number: signal.Signals) -> None:
    """A code for a signal is 128 and its number."""
    assert code == 128 + number


def test_every_code_has_a_meaning_of_its_own() -> None:
    """No two codes share a number or a meaning."""
    assert len({code.meaning for code in ExitCode}) == len(ExitCode.__members__) == len(set(ExitCode))


def test_the_reference_lists_every_code() -> None:
    """docs/reference/exit-codes.md has each code with its name and meaning, in order, and no other."""
    text = (REFERENCE / "exit-codes.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [f"| {int(code)} | `{code.name}` | {code.meaning} |" for code in ExitCode]
