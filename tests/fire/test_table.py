from __future__ import annotations

from .table import Row, first_line, format_document


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
