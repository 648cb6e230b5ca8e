from __future__ import annotations

from pathlib import Path

import pytest

from aiobatch.cli import ExitCode, _demo

from .conftest import Run, Terminal

SAMPLE = Path(__file__).resolve().parent.parent.parent / "docs" / "samples" / "users.csv"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo's sandbox apply at once."""
    monkeypatch.setattr(_demo, "_INDEXING", (0.0, 0.0))


def test_the_demo_fills_three_audiences(run: Run) -> None:
    """The demo puts the shipped sample into three audiences and shows them applied."""
    result = run("demo", str(SAMPLE))
    assert result.code == 0
    assert [line.split()[:4] for line in result.out.splitlines() if "APPLIED" in line] == [
        ["newsletter", "custom_ids", "18,000", "APPLIED"],
        ["trial", "custom_ids", "7,500", "APPLIED"],
        ["vip", "custom_ids", "4,500", "APPLIED"],
    ]
    for text in (
        "listens on http://127.0.0.1:",
        "create audiences: 3 audiences",
        "upload ids: 30,000 ids",
        "wait until APPLIED: 4 updates",
        "30,000 ids in 3 audiences",
    ):
        assert text in result.err


def test_the_demo_needs_no_file_and_no_keys(run: Run) -> None:
    """Without a file the demo makes up a sample."""
    result = run("demo", "--json")
    assert result.code == 0
    assert {one["name"]: one["nb_ids"] for one in result.objects} == {
        "newsletter": 1_800,
        "trial": 750,
        "vip": 450,
    }


def test_the_demo_at_a_terminal(terminal: Terminal) -> None:
    """At a terminal the demo shows bars and a table."""
    assert terminal.run("demo") == 0
    screen = terminal.screen()
    for text in ("━━━", "✓", "3 audiences", "3,000 ids", "1,800", "newsletter"):
        assert text in screen


def test_the_demo_wants_its_columns(run: Run, tmp_path: Path) -> None:
    """A file without the sample's columns, or of other than audiences' names, is refused."""
    path = tmp_path / "users.csv"
    path.write_text("id\nu1\n")
    result = run("demo", str(path))
    assert result.code == ExitCode.USAGE
    assert "the columns user_id and segment" in result.err
    path.write_text("user_id,segment\nu1,a b\n")
    result = run("demo", str(path))
    assert result.code == ExitCode.USAGE
    assert "audience name 'a b'" in result.err
