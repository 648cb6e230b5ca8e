from __future__ import annotations

import datetime as dt
import logging
import re
from pathlib import Path

import orjson
import pytest

from aiobatch.cli.options._common import GlobalOptions
from aiobatch.cli.output._logging import log_events, logging_to_stderr
from aiobatch.events import Event, PauseEnded
from aiobatch.sandbox import Sandbox

from ..conftest import Run

LOGGER = logging.getLogger("aiobatch.part")


def _log(options: GlobalOptions, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Log one line of each level and return what came out."""
    with logging_to_stderr(options):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            LOGGER.log(level, "hello %s", "there")
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (GlobalOptions(), 2),
        (GlobalOptions(verbose=1), 3),
        (GlobalOptions(verbose=2), 4),
        (GlobalOptions(verbose=5), 4),
        (GlobalOptions(quiet=True), 1),
        (GlobalOptions(quiet=True, verbose=1), 3),
        (GlobalOptions(log_level="debug", quiet=True), 4),
        (GlobalOptions(log_level="error", verbose=2), 1),
    ],
    ids=repr,
)
def test_options_set_the_level(
    options: GlobalOptions, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """--log-level decides, then -v, then --quiet. The default is warnings."""
    assert len(_log(options, capsys)) == lines


def test_text_has_time_level_and_part(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of text has the local time with its offset, the level and the logger."""
    *_, last = _log(GlobalOptions(), capsys)
    time, _, rest = last.partition(" ")
    assert dt.datetime.fromisoformat(time).tzinfo is not None
    assert rest == "ERROR aiobatch.part: hello there"


def test_json_lines_have_the_same_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of JSON has the same, and the traceback where there is one."""
    *_, last = _log(GlobalOptions(log_format="json"), capsys)
    record = orjson.loads(last)
    assert record.pop("time").endswith("Z")
    assert record == {"level": "error", "logger": "aiobatch.part", "message": "hello there"}
    with logging_to_stderr(GlobalOptions(log_format="json")):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            LOGGER.exception("oops")
    assert "ZeroDivisionError" in orjson.loads(capsys.readouterr().err)["traceback"]


@pytest.mark.parametrize(
    ("options", "logged"),
    [(GlobalOptions(), False), (GlobalOptions(verbose=1), True), (GlobalOptions(log_level="warning"), True)],
)
def test_pauses_are_shown_once(
    options: GlobalOptions, logged: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a terminal the bars show a pause, so the log leaves it out unless it was requested."""
    pacing = logging.getLogger("aiobatch.pacing")
    with logging_to_stderr(options):
        pacing.warning("paused in a file")
    monkeypatch.setattr("aiobatch.cli.output._logging.is_screen", lambda _: True)
    with logging_to_stderr(options):
        pacing.warning("paused at a terminal")
    err = capsys.readouterr().err
    assert "paused in a file" in err
    assert ("paused at a terminal" in err) is logged


def test_requests_and_waits_are_logged(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    """-v logs each request and each finished wait, -vv all events, and no log has an ID."""
    assert run("create", "vip", "--wait").code == 0
    ids = tmp_path / "ids"
    ids.write_text("user-7\n")
    quiet = run("update", "vip", "--add", str(ids))
    assert "audiences/update" not in quiet.err
    once = run("update", "vip", "--add", str(ids), "-v")
    assert re.search(
        r"INFO aiobatch.client: request finished: .*path=/2.11/audiences/update .*status=202", once.err
    )
    assert re.search(r"token settled: .*audience=vip .*outcome=APPLIED .*polls=\d", once.err)
    assert "request sent" not in once.err
    twice = run("update", "vip", "--add", str(ids), "-vv")
    assert "DEBUG aiobatch.client: request sent: operation=update method=POST host=127.0.0.1:" in twice.err
    assert "token polled: wait_id=1 audience=vip " in twice.err
    assert "user-7" not in quiet.err + once.err + twice.err


def test_events_reach_the_next_hook() -> None:
    """The hook behind the log gets each event, and may be missing."""
    seen: list[Event] = []
    event = PauseEnded(seconds=1.0)
    log_events(seen.append)(event)
    log_events(None)(event)
    assert seen == [event]


def test_record_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A path with control characters is one line of text, with escapes."""
    with logging_to_stderr(GlobalOptions()):
        LOGGER.warning("file left out: path=%s", "a\x1b[2Jb\n2026-01-01 ERROR forged")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("path=a\\x1b[2Jb 2026-01-01 ERROR forged")
