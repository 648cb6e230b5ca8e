from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiobatch
from aiobatch._logs import log

LOGGER = logging.getLogger("aiobatch.part")
PACKAGE = Path(aiobatch.__file__).parent
# A field in the template of a record: `seconds=%.1f`, `path=%(path)s`.
_FIELD = re.compile(r"(\w+)=%")
_LOGGER = re.compile(r'getLogger\("(aiobatch\.\w+)"\)')
_GUIDE = PACKAGE.parent / "docs" / "howto" / "telemetry.md"


def test_record_has_the_fields_of_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """Fields are in the text, rounded and quoted where needed, and as they are in the record."""
    log(LOGGER, logging.WARNING, "thing happened", seconds=1 / 3, status=503, path="/a b", audience=None)

    (record,) = caplog.records
    assert record.getMessage() == "thing happened: seconds=0.333 status=503 path='/a b'"
    fields = {"seconds": 1 / 3, "status": 503, "path": "/a b", "audience": None}
    assert fields.items() <= vars(record).items()
    assert (record.name, record.levelname, record.funcName) == (
        "aiobatch.part",
        "WARNING",
        "test_record_has_the_fields_of_its_text",
    )


def test_records_of_a_kind_share_their_template(caplog: pytest.LogCaptureFixture) -> None:
    """A collector that groups records by template puts different values into one group."""
    for status in (429, 503):
        log(LOGGER, logging.WARNING, "thing happened", status=status)

    assert {record.msg for record in caplog.records} == {"thing happened: status=%(status)s"}


def test_record_without_fields_is_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """A text without fields may contain a percent sign."""
    log(LOGGER, logging.WARNING, "100 % happened", audience=None)
    assert [record.getMessage() for record in caplog.records] == ["100 % happened"]


def test_disabled_level_formats_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A record that is not wanted costs no formatting."""
    caplog.set_level(logging.WARNING)

    class Unprintable:
        def __str__(self) -> str:
            raise AssertionError

    log(LOGGER, logging.INFO, "thing happened", value=Unprintable())
    assert caplog.records == []


def _logger_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a logger's method in the package, with its place."""
    levels = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in levels
                and isinstance(node.func.value, ast.Name)
                and "logger" in node.func.value.id
            ):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def test_every_field_of_a_text_is_in_extra() -> None:
    """A logger that is called with `key=%s` in its text gets `extra`. `log` adds it by itself."""
    calls = [(place, call) for place, call in _logger_calls() if "_logs.py" not in place]
    assert len(calls) > 5
    without = [
        place
        for place, call in calls
        if not any(keyword.arg == "extra" for keyword in call.keywords)
        and any(_FIELD.search(text) for text in _texts(call))
    ]
    assert without == []


def _texts(call: ast.Call) -> list[str]:
    constants = [node.value for node in call.args if isinstance(node, ast.Constant)]
    return [text for text in constants if isinstance(text, str)]


def test_the_guide_lists_every_logger() -> None:
    """The table of the guide names the loggers of the package, and no other one."""
    used = {name for path in PACKAGE.rglob("*.py") for name in _LOGGER.findall(path.read_text("utf-8"))}
    section = _GUIDE.read_text(encoding="utf-8").partition("## Logs")[2].partition("### ")[0]
    assert set(re.findall(r"^\| `(aiobatch\.\w+)`", section, re.MULTILINE)) == used
