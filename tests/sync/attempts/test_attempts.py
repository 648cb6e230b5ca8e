"""The record of attempts beside a state."""

from __future__ import annotations

import datetime as dt
import fcntl
import logging
import os
import stat
import threading
from pathlib import Path

import pytest

from aiobatch.sync import Attempt, Mode, RunOutcome, StateError, read_attempts, record_attempts, report_of
from aiobatch.sync import _attempts as attempts_module


def _at(minute: int, **values: object) -> Attempt:
    started = dt.datetime(2026, 1, 1, 3, minute, tzinfo=dt.UTC)
    return Attempt(**({"command": "sync", "audience": "vip", "started": started} | values))  # type: ignore[arg-type]


def test_attempts_survive_beside_any_state(tmp_path: Path) -> None:
    """Attempts are recorded beside a state that is missing or damaged, in order, with mode 0600."""
    state = tmp_path / "new" / "state.duckdb"
    assert read_attempts(state) == []
    first, second = _at(1), _at(2, audience="trial")
    record_attempts(state, [second, first])
    assert read_attempts(state) == [first, second]
    (path,) = state.parent.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    state.write_text("no database")
    error = StateError("It is damaged.", path=str(state), reason="damaged")
    report = report_of(error, audience="vip", mode=Mode.MIRROR, source="users.csv")
    ended = first.reported(report, exit_code=1, error="It is damaged.")
    record_attempts(state, [ended])
    assert read_attempts(state) == [ended, second]
    assert (ended.outcome, ended.exit_code, ended.source) == (RunOutcome.FAILED, 1, "users.csv")
    assert "@" in ended.who


@pytest.mark.parametrize("torn", [b'{"attempt":"x","comm', b"\xff\n", b"[1]\n", b'{"attempt": 1}\n'])
def test_broken_lines_hide_no_others(torn: bytes, tmp_path: Path) -> None:
    """A line that a full disk cut, or that another version wrote, is skipped, and the next one is whole."""
    state = tmp_path / "state.duckdb"
    record_attempts(state, [_at(1)])
    path = tmp_path / "state.duckdb.attempts"
    path.write_bytes(path.read_bytes() + torn)
    record_attempts(state, [_at(2)])
    assert [one.started.minute for one in read_attempts(state)] == [1, 2]


@pytest.mark.parametrize(("large", "kept"), [(4000, 5), (1200, 1)])
def test_large_files_keep_the_latest_attempts_of_each_place(
    large: int, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file does not grow without limit, and the last attempt of each place stays."""
    monkeypatch.setattr(attempts_module, "_LARGE", large)
    state = tmp_path / "state.duckdb"
    record_attempts(state, [_at(0, audience="rare"), _at(0, audience=None, config="/a.toml")])
    for minute in range(1, 50):
        record_attempts(state, [_at(minute)])
    found = read_attempts(state)
    assert [one.audience for one in found[:2]] == ["rare", None]
    assert found[-1].started.minute == 49
    assert len([one for one in found if one.audience == "vip"]) >= kept
    assert (tmp_path / "state.duckdb.attempts").stat().st_size <= large + 1000


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one writer rewrites the file, the attempts of others still arrive in it."""
    monkeypatch.setattr(attempts_module, "_LARGE", 3000)
    state = tmp_path / "state.duckdb"

    def write(name: str) -> None:
        for minute in range(15):
            record_attempts(state, [_at(minute, audience=name)])

    threads = [threading.Thread(target=write, args=[f"a{number}"]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latest = {one.audience: one.started.minute for one in read_attempts(state)}
    assert latest == {f"a{number}": 14 for number in range(4)}


def test_failures_to_record_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note that cannot be written fails no run."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(os, "open", refuse)
    with caplog.at_level(logging.WARNING, logger="aiobatch.sync"):
        record_attempts(tmp_path / "state.duckdb", [_at(1)])
    assert "attempt not recorded" in caplog.text
    assert "Read-only" in caplog.text


def test_a_replaced_file_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waited for the lock of a file that was replaced, or deleted, writes into the new one."""
    state = tmp_path / "state.duckdb"
    path = tmp_path / "state.duckdb.attempts"
    record_attempts(state, [_at(1)])
    flock, times = fcntl.flock, []

    def replace_first(descriptor: int, operation: int) -> None:
        times.append(operation)
        if len(times) == 1:
            path.unlink()
        elif len(times) == 2:
            path.rename(tmp_path / "old")
            path.write_bytes(b"")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", replace_first)
    record_attempts(state, [_at(2)])
    assert [one.started.minute for one in read_attempts(state)] == [2]
    assert len(times) == 3
