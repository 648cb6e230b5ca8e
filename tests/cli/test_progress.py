from __future__ import annotations

import io
import time

import attrs
import pytest
from rich.console import Console

from aiobatch.cli._progress import Progress, _Left
from aiobatch.events import PauseEnded, PauseStarted, RequestFinished, RequestSent, RetryScheduled

PAUSE = PauseStarted(status=503, seconds=4.0, failures=1)


def _console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_pause_is_shown_beside_what_waits() -> None:
    """While the client is paused, the bars that still move say why, and those that are done do not."""
    console = _console()
    with Progress(console, pytest.fail, bars=True) as progress:
        with progress.stage("first", unit="id", total=1) as stage:
            stage.advance()
        with progress.stage("second", unit="id", total=2) as stage:
            progress.on_event(PAUSE)
            assert progress._bars is not None
            notes = [task.fields["note"] for task in progress._bars.tasks]
            assert notes == ["", "paused for 4 s: Batch answers 503"]
            progress.on_event(PauseEnded(seconds=4.0))
            assert [task.fields["note"] for task in progress._bars.tasks] == ["", ""]
            stage.reach(1)
    assert "1 of 2 ids" in _text(console)


def test_without_bars_a_pause_is_left_to_the_log() -> None:
    """Where there are no bars, events change nothing, and each stage is a line."""
    said: list[str] = []
    with (
        Progress(_console(), said.append, bars=False) as progress,
        progress.stage("send", unit="id") as stage,
    ):
        progress.on_event(PAUSE)
        progress.on_event(RequestSent(operation="view", method="GET", path="/", body_bytes=0))
        stage.advance(1)
    assert said == ["send: 1 id in 0.0 s"]


def test_a_transient_stage_leaves_nothing() -> None:
    """A stage of a transient display says nothing when it is done."""
    progress = Progress(_console(), pytest.fail, bars=False, transient=True)
    with progress, progress.stage("view", unit="audience", total=3) as stage:
        stage.advance(3)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Where the terminal's encoding has no check mark, there is a star."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    console = Console(file=file, force_terminal=True, width=100)
    with Progress(console, pytest.fail, bars=True) as progress, progress.stage("send", unit="id") as stage:
        stage.advance(2)
    assert isinstance(file.buffer, io.BytesIO)
    assert b"* send" in file.buffer.getvalue().replace(b"\x1b[32m", b"").replace(b"\x1b[0m", b"")


def test_a_retry_is_shown_until_something_goes_well() -> None:
    """A request that is tried again says why, unless the whole client pauses for it."""
    retry = RetryScheduled(operation="view", path="/", attempt=1, delay=3.0, reason="ConnectError")
    finished = RequestFinished(operation="view", method="GET", path="/", status=200, error=None, seconds=0.1)
    with (
        Progress(_console(), pytest.fail, bars=True) as progress,
        progress.stage("send", unit="id", total=9) as stage,
    ):
        assert progress.has_bars
        assert progress._bars is not None
        (task,) = progress._bars.tasks
        progress.on_event(attrs.evolve(retry, reason="503"))
        progress.on_event(finished)
        assert task.fields["note"] == ""
        progress.on_event(retry)
        assert task.fields["note"] == "trying again in 3 s: ConnectError"
        progress.on_event(attrs.evolve(finished, error="ConnectError"))
        assert task.fields["note"] == "trying again in 3 s: ConnectError"
        progress.on_event(finished)
        assert task.fields["note"] == ""
        stage.tell("1 of 2 calls")
        assert task.fields["detail"] == "1 of 2 calls"


def test_how_long_it_still_takes() -> None:
    """A bar that moves says how much time is left, as soon as its speed is known."""
    with Progress(_console(), pytest.fail, bars=True) as progress, progress.stage("send", unit="id") as stage:
        assert progress._bars is not None
        (task,) = progress._bars.tasks
        stage.expect(10**9)
        assert _Left().render(task).plain == ""
        for done in range(4):
            stage.reach(done)
            time.sleep(0.002)
        assert _Left().render(task).plain.endswith(" left")
