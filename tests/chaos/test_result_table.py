from __future__ import annotations

from pathlib import Path

import pytest

from . import conftest
from .cases import list_cases
from .result_table import DOCUMENT, Row, first_line, format_document, read_beginnings


def test_a_table_has_a_line_for_each_case() -> None:
    """What failed and what did not run is said so, and no text breaks the table."""
    rows = [
        Row(part="Wires", done="a|b", holds="c\nd", happened="e", seconds=1.24, outcome="passed"),
        Row(part="Disks", done="f", holds="g", happened="h", seconds=2.0, outcome="failed"),
        Row(part="Wires", done="i", holds="j", happened="k", seconds=None, outcome="skipped"),
    ]
    document = format_document(rows)
    assert "3 cases, 1 passed, 1 failed, 1 skipped; " in document
    assert document.endswith(
        "\n## Wires\n\n| done | must hold | happened |\n|---|---|---|\n"
        "| a\\|b | c d | e; 1.2 s |\n| i | j | *not run* k |\n"
        "\n## Disks\n\n| done | must hold | happened |\n|---|---|---|\n| f | g | **FAILED** h; 2.0 s |\n"
    )


def test_an_error_is_one_short_line() -> None:
    """Of a long text the first line is shown, and not all of it."""
    assert first_line("\n  a\nb") == "a"
    assert first_line("a" * 999) == "a" * 200 + "…"
    assert first_line("") == ""


def test_the_document_tells_of_every_case() -> None:
    """docs/reliability.md has one line for each case that there is, in its words: else, `make fire`."""
    told = read_beginnings(DOCUMENT.read_text(encoding="utf-8"))
    cases = [(case.part, case.beginning) for case in list_cases()]
    assert sorted(told) == sorted(cases)
    assert len(set(told)) == len(told)


def test_what_a_page_tells_of_is_read_from_it() -> None:
    """A page can be held against the cases, whatever stands in their words."""
    rows = [
        Row(part="Wires", done="a | b", holds="c", happened="d | e", seconds=1.0, outcome="passed"),
        Row(part="Disks", done="f", holds="g", happened="h", seconds=None, outcome="skipped"),
    ]
    assert read_beginnings(format_document(rows)) == [(row.part, row.beginning) for row in rows]


@pytest.mark.parametrize(
    ("left_out", "says"),
    [
        pytest.param(0, "written: docs/page.md", id="none"),
        pytest.param(
            1, "docs/page.md is left as it is: 1 cases were left out", id="one, or stopped before it"
        ),
    ],
)
def test_only_a_whole_campaign_writes_the_document(
    left_out: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a case was left out the document stays as it was, and that is said."""
    page = tmp_path / "page.md"
    monkeypatch.setattr(conftest, "DOCUMENT", page)
    assert conftest.write_document(list_cases()[left_out:]) == says
    assert page.exists() == (left_out == 0)
