from __future__ import annotations

import logging

import orjson
import pytest

from aiobatch.cli._logs import logging_to_stderr
from aiobatch.cli._options import GlobalOptions

LOGGER = logging.getLogger("aiobatch.part")


def _log(options: GlobalOptions, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Log one line of each level; return what came out."""
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
def test_the_level(options: GlobalOptions, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    """--log-level decides, then -v, then --quiet; warnings by default."""
    assert len(_log(options, capsys)) == lines


def test_text_has_time_level_and_part(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of text says when, how bad, and which part."""
    *_, last = _log(GlobalOptions(), capsys)
    assert last.endswith(" ERROR aiobatch.part: hello there")


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
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
    ("options", "said"),
    [(GlobalOptions(), False), (GlobalOptions(verbose=1), True), (GlobalOptions(log_level="warning"), True)],
)
def test_a_pause_is_not_said_twice(
    options: GlobalOptions, said: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal a pause stands beside the bars, and is no line unless the log is asked for."""
    pacing = logging.getLogger("aiobatch.pacing")
    with logging_to_stderr(options):
        pacing.warning("paused in a file")
    monkeypatch.setattr("aiobatch.cli._logs.is_screen", lambda _: True)
    with logging_to_stderr(options):
        pacing.warning("paused at a terminal")
    err = capsys.readouterr().err
    assert "paused in a file" in err
    assert ("paused at a terminal" in err) is said
