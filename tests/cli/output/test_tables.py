from __future__ import annotations

import datetime as dt
import io
import sys

import pytest

from aiobatch.cli.output._tables import Column, Output, clean

WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
COLUMNS = (Column("name", "name"), Column("when", "when"), Column("count", "count"))
RECORD = {"name": "a\tb\nc", "when": WHEN, "count": None, "more": 1}


def test_fields_are_parted_by_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of text has each column once, and no tab or newline of a value."""
    with Output(as_json=False).rows(COLUMNS) as add:
        add(RECORD)
        assert capsys.readouterr().out.splitlines()[1:] == ["a b c\t2026-01-02T03:04:05Z\t"]


def test_json_has_what_columns_leave_out(capsys: pytest.CaptureFixture[str]) -> None:
    """An object has every field as it is, and appears at once."""
    with Output(as_json=True).rows(COLUMNS) as add:
        add(RECORD)
        assert capsys.readouterr().out == (
            '{"name":"a\\tb\\nc","when":"2026-01-02T03:04:05Z","count":null,"more":1}\n'
        )


def test_what_the_encoding_has_not_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that knows ASCII only gets escapes, not an error."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    Output(as_json=True).json({"name": "é"})
    assert isinstance(stream.buffer, io.BytesIO)
    assert stream.buffer.getvalue() == b'{"name":"\\xe9"}\n'


def test_lines_or_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """What is lines of text is one object as JSON."""
    Output(as_json=False).lines(["a", "b"], {"x": 1})
    Output(as_json=True).lines(["a", "b"], {"x": 1})
    assert capsys.readouterr().out == 'a\nb\n{"x":1}\n'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("users\x1b[31m.csv", "users\\x1b[31m.csv"),
        ("a\x07b\x7f", "a\\x07b\\x7f"),
        ("name\udcff", "name\\udcff"),
        ("left\u202eright", "left\\u202eright"),
        ("line\nforged\r\nline", "line forged  line"),
        ("prix\u00a0: 3\u20ac", "prix : 3\u20ac"),
    ],
)
def test_control_characters_are_shown_as_escapes(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name or a path cannot control the terminal, and cannot begin a line of its own."""
    assert clean(text) == shown
    Output(as_json=False).line(f"3 rows\t{text}")
    assert capsys.readouterr().out == f"3 rows\t{shown}\n"
