from __future__ import annotations

import io
import re
import time

import attrs
import pytest
from rich.console import Console

from aiobatch.cli.output._progress import Progress, _clock, _SpeedColumn
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
    (line,) = said
    assert re.fullmatch(r"send: 1 id in \d+\.\d s", line)


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
    """A bar that moves says how much time is left, as soon as its speed is known, unless it is paused."""
    with Progress(_console(), pytest.fail, bars=True) as progress, progress.stage("send", unit="id") as stage:
        assert progress._bars is not None
        (task,) = progress._bars.tasks
        stage.expect(10**9)
        stage.tell("3 of 9 calls")
        assert _SpeedColumn().render(task).plain == "3 of 9 calls"
        for done in range(4):
            stage.reach(done)
            time.sleep(0.002)
        assert re.fullmatch(r"[\d,]+/s, 3 of 9 calls, \d+:\d\d:\d\d left", _SpeedColumn().render(task).plain)
        progress.on_event(attrs.evolve(PAUSE, seconds=0.4))
        assert _SpeedColumn().render(task).plain == "paused for 0.4 s: Batch answers 503"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0:00"), (65, "1:05"), (3599, "59:59"), (3730.9, "1:02:10")]
)
def test_a_time_is_short(seconds: float, said: str) -> None:
    """Hours are shown where there are some."""
    assert _clock(seconds) == said


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_bar_is_one_line(width: int) -> None:
    """Each stage takes one line of any terminal; one that is narrow has no room for bars."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width)
    with (
        Progress(console, pytest.fail, bars=True) as progress,
        progress.stage("wait until APPLIED", unit="id", total=1_500_000, done=700_000) as stage,
    ):
        stage.reach(1_190_000)
        stage.tell("150 of 150 calls")
        assert progress._bars is not None
        table = progress._bars.make_tasks_table(progress._bars.tasks)
        lines = console.render_lines(table, pad=False)
    assert len(lines) == 1
    text = "".join(segment.text for segment in lines[0])
    assert ("━" in text) is (width >= 100)
    assert text[0] in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
    assert "150 of 150 calls" in text or width < 80


def test_a_request_that_keeps_failing_is_told_without_bars() -> None:
    """Who sees no bars is told of a request that failed many times, and not again for a minute."""
    said: list[str] = []
    with Progress(_console(), said.append, bars=False) as progress:
        for attempt in range(1, 9):
            progress.on_event(
                RetryScheduled(
                    operation="view", path="/", attempt=attempt, delay=1.0, reason="ClientConnectorError"
                )
            )
    assert said == ["view failed 5 times, and is tried again: ClientConnectorError"]
