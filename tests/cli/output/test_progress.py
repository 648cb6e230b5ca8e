from __future__ import annotations

import io
import re
import time
from typing import Any

import attrs
import pytest
from rich.console import Console

from aiobatch.cli.output._progress import Progress, _clock, _CountColumn, _SpeedColumn
from aiobatch.events import PauseEnded, PauseStarted, RequestFinished, RequestSent, RetryScheduled

PAUSE = PauseStarted(status=503, seconds=4.0, failures=1)
REQUEST: dict[str, Any] = {
    "operation": "view",
    "method": "GET",
    "host": "api.batch.com",
    "path": "/",
    "audience": "vip",
    "body_bytes": 0,
    "request_id": 1,
    "attempt": 1,
}


def _retry(attempt: int, reason: str) -> RetryScheduled:
    return RetryScheduled(
        operation="view", path="/", audience="vip", request_id=1, attempt=attempt, delay=3.0, reason=reason
    )


def _console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=100)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_unfinished_bars_show_a_pause() -> None:
    """While the client is paused, unfinished bars show the reason, and finished ones do not."""
    console = _console()
    with Progress(console, pytest.fail, bars=True) as progress:
        with progress.stage("first", unit="ID", total=1) as stage:
            stage.advance()
        with progress.stage("second", unit="ID", total=2) as stage:
            progress.on_event(PAUSE)
            assert progress._bars is not None
            notes = [task.fields["note"] for task in progress._bars.tasks]
            assert notes == ["", "paused for 4 s: Batch answered 503"]
            progress.on_event(PauseEnded(seconds=4.0))
            assert [task.fields["note"] for task in progress._bars.tasks] == ["", ""]
            stage.update(1)
    assert "1 of 2 IDs" in _text(console)


def test_pauses_are_logged_without_bars() -> None:
    """Where there are no bars, events change nothing, and each stage is a line."""
    lines: list[str] = []
    with (
        Progress(_console(), lines.append, bars=False) as progress,
        progress.stage("send", unit="ID") as stage,
    ):
        progress.on_event(PAUSE)
        progress.on_event(RequestSent(**REQUEST))
        stage.advance(1)
    (line,) = lines
    assert re.fullmatch(r"send: 1 ID in \d+\.\d s", line)


def test_transient_stages_print_nothing() -> None:
    """A stage of a transient display prints nothing at its end."""
    progress = Progress(_console(), pytest.fail, bars=False, transient=True)
    with progress, progress.stage("view", unit="audience", total=3) as stage:
        stage.advance(3)


def test_terminals_without_unicode_show_ascii() -> None:
    """Where the terminal's encoding has no check mark, there is a star."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    console = Console(file=file, force_terminal=True, width=100)
    with Progress(console, pytest.fail, bars=True) as progress, progress.stage("send", unit="ID") as stage:
        stage.advance(2)
    assert isinstance(file.buffer, io.BytesIO)
    assert b"* send" in file.buffer.getvalue().replace(b"\x1b[32m", b"").replace(b"\x1b[0m", b"")


def test_retries_are_shown_until_a_success() -> None:
    """A retry shows its reason, unless the whole client is paused."""
    retry = _retry(1, "ConnectError")
    finished = RequestFinished(**REQUEST, status=200, error=None, seconds=0.1)
    with (
        Progress(_console(), pytest.fail, bars=True) as progress,
        progress.stage("send", unit="ID", total=9) as stage,
    ):
        assert progress.has_bars
        assert progress._bars is not None
        (task,) = progress._bars.tasks
        progress.on_event(attrs.evolve(retry, reason="503"))
        progress.on_event(finished)
        assert task.fields["note"] == ""
        progress.on_event(retry)
        assert task.fields["note"] == "retrying in 3 s: ConnectError"
        progress.on_event(attrs.evolve(finished, error="ConnectError"))
        assert task.fields["note"] == "retrying in 3 s: ConnectError"
        progress.on_event(finished)
        assert task.fields["note"] == ""
        stage.set_detail("1 of 2 calls")
        assert task.fields["detail"] == "1 of 2 calls"


def test_bars_show_the_time_left() -> None:
    """A bar shows the time left as soon as its speed is known, unless it is paused."""
    with Progress(_console(), pytest.fail, bars=True) as progress, progress.stage("send", unit="ID") as stage:
        assert progress._bars is not None
        (task,) = progress._bars.tasks
        stage.set_total(10**9)
        stage.set_detail("3 of 9 calls")
        assert _SpeedColumn().render(task).plain == "3 of 9 calls"
        for done in range(4):
            stage.update(done)
            time.sleep(0.002)
        assert re.fullmatch(r"3 of 9 calls, \d+:\d\d:\d\d left", _SpeedColumn().render(task).plain)
        assert task.start_time is not None
        task.start_time -= 2  # a rate needs a second at least
        assert re.fullmatch(r"[\d,]+/s, 3 of 9 calls, \d+:\d\d:\d\d left", _SpeedColumn().render(task).plain)
        progress.on_event(attrs.evolve(PAUSE, seconds=0.4))
        assert _SpeedColumn().render(task).plain == "paused for 0.4 s: Batch answered 503"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (65, "1:05"), (3599, "59:59"), (3730.9, "1:02:10")]
)
def test_times_have_hours_only_if_needed(seconds: float, text: str) -> None:
    """A time below an hour has minutes and seconds."""
    assert _clock(seconds) == text


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_bars_take_one_line(width: int) -> None:
    """Each stage takes one line of any terminal, with its bar and its percentage."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width)
    with (
        Progress(console, pytest.fail, bars=True) as progress,
        progress.stage("wait until APPLIED", unit="ID", total=1_500_000, done=700_000) as stage,
    ):
        stage.update(1_190_000)
        stage.set_detail("150 of 150 calls")
        assert progress._bars is not None
        table = progress._bars.make_tasks_table(progress._bars.tasks)
        lines = console.render_lines(table, pad=False)
    assert len(lines) == 1
    text = "".join(segment.text for segment in lines[0])
    assert "━" in text
    assert " 79% 1,190,000 of 1,500,000 IDs" in text
    assert text[0] in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
    assert "150 of 150 calls" in text or width < 80


def test_a_failed_stage_has_a_red_cross() -> None:
    """A stage that an error ended, or that failed, has a cross and no stale note."""
    console = _console()
    with Progress(console, pytest.fail, bars=True) as progress:
        with pytest.raises(KeyError), progress.stage("plan", unit="change", total=1):
            raise KeyError
        with progress.stage("send", unit="ID", total=9) as stage:
            progress.on_event(PAUSE)
            stage.fail()
            progress.on_event(PAUSE)
            assert progress._bars is not None
            assert [task.fields["note"] for task in progress._bars.tasks] == ["", ""]
            console.print(progress._bars.make_tasks_table(progress._bars.tasks))
    assert _text(console).count("\x1b[1;31m✗\x1b[0m plan") >= 1
    assert _text(console).count("\x1b[1;31m✗\x1b[0m send") >= 1


def test_a_finished_stage_loses_its_note() -> None:
    """The end of a pause ends the note of a stage that was finished in the meantime."""
    with (
        Progress(_console(), pytest.fail, bars=True) as progress,
        progress.stage("vip", unit="ID", total=1, suffix=" APPLIED") as stage,
    ):
        progress.on_event(PAUSE)
        stage.update(1)
        progress.on_event(PauseEnded(seconds=4.0))
        assert progress._bars is not None
        (task,) = progress._bars.tasks
        assert (task.finished, task.fields["note"]) == (True, "")
        assert _CountColumn().render(task).plain == "1 ID APPLIED"


def test_repeated_failures_are_printed_without_bars() -> None:
    """Without bars, a request that keeps failing is reported, and not again for a minute."""
    lines: list[str] = []
    with Progress(_console(), lines.append, bars=False) as progress:
        for attempt in range(1, 9):
            progress.on_event(_retry(attempt, "ClientConnectorError"))
    assert lines == ["view: retrying after 5 failures: ClientConnectorError"]
