from __future__ import annotations

from pathlib import Path

import pytest

from . import conftest
from .case_rows import case_rows
from .result_table import Row, first_line, format_document, read_case_columns


def test_table_has_a_row_for_each_case() -> None:
    """A row shows whether its case failed or did not run, and no text breaks the table."""
    rows = [
        Row(part="Wires", done="a|b", holds="c\nd", happened="e", seconds=1.24, outcome="passed"),
        Row(part="Disks", done="f", holds="g", happened="h", seconds=2.0, outcome="failed"),
        Row(part="Wires", done="i", holds="j", happened="k", seconds=None, outcome="skipped"),
    ]
    document = format_document(rows)
    assert "3 cases, 1 passed, 1 failed, 1 skipped." in document
    assert document.endswith(
        "\n## Wires\n\n| fault | must hold | happened |\n|---|---|---|\n"
        "| a\\|b | c d | e (1.2 s) |\n| i | j | *not run* k |\n"
        "\n## Disks\n\n| fault | must hold | happened |\n|---|---|---|\n| f | g | **FAILED** h (2.0 s) |\n"
    )


def test_error_is_one_short_line() -> None:
    """Only the first line of a long text is shown, and only its start."""
    assert first_line("\n  a\nb") == "a"
    assert first_line("a" * 999) == "a" * 200 + "…"
    assert first_line("") == ""


def test_cases_are_distinct() -> None:
    """No two cases have the same columns, so that each has a row of its own."""
    cases = [(case.part, case.case_columns) for case in case_rows()]
    assert len(set(cases)) == len(cases)


def test_case_columns_are_read_from_a_page() -> None:
    """The sections and constant columns are read back from a page, whatever their text."""
    rows = [
        Row(part="Wires", done="a | b", holds="c", happened="d | e", seconds=1.0, outcome="passed"),
        Row(part="Disks", done="f", holds="g", happened="h", seconds=None, outcome="skipped"),
    ]
    assert read_case_columns(format_document(rows)) == [(row.part, row.case_columns) for row in rows]


@pytest.mark.parametrize(
    ("left_out", "says"),
    [
        pytest.param(0, "written: docs/page.md", id="none"),
        pytest.param(1, "docs/page.md is unchanged: 1 cases did not run", id="one, or stopped before it"),
    ],
)
def test_only_a_full_campaign_writes_the_page(
    left_out: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a case did not run, the page is unchanged and the message reports it."""
    page = tmp_path / "page.md"
    monkeypatch.setattr(conftest, "DOCUMENT", page)
    assert conftest.write_document(case_rows()[left_out:]) == says
    assert page.exists() == (left_out == 0)
