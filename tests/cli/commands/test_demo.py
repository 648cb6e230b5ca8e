from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiobatch import AiobatchError
from aiobatch.cli import ExitCode
from aiobatch.cli._context import Context
from aiobatch.cli.commands import _demo, _demo_sync
from aiobatch.cli.commands._demo_sync import _Shell, show_sync
from aiobatch.cli.options._common import GlobalOptions
from aiobatch.testing import running_sandbox

from ...helpers.sweep import examples
from ..conftest import Run, Terminal

# IDs that the killed run sends.
MORE = examples(50_000, 150_000)
SAMPLE = Path(__file__).resolve().parents[3] / "docs" / "samples" / "users.csv"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the sandbox of the demo apply writes at once."""
    monkeypatch.setattr(_demo, "_INDEXING", (0.0, 0.0))
    monkeypatch.setattr(_demo_sync, "_MORE", MORE)


def test_demo_fills_three_audiences(run: Run) -> None:
    """The demo puts the shipped sample into three audiences and shows them applied."""
    result = run("demo", str(SAMPLE))
    assert result.code == 0
    assert [line.split()[:4] for line in result.out.splitlines() if "APPLIED" in line] == [
        ["newsletter", "custom_ids", "18,000", "APPLIED"],
        ["trial", "custom_ids", "7,500", "APPLIED"],
        ["vip", "custom_ids", "4,500", "APPLIED"],
    ]
    for text in (
        "listening on http://127.0.0.1:",
        "create audiences: 3 audiences",
        "upload IDs: 30,000 IDs",
        "wait until APPLIED: 4 updates",
        "30,000 IDs in 3 audiences",
    ):
        assert text in result.err
    _assert_in_order(
        result.err,
        ["1. A sync", "$ aiobatch sync everyone everyone.csv --create", "exactly the 30,000 IDs"],
        ["2. The file loses", "send: 500 IDs", "exactly the 29,900 IDs"],
        ["3. An upstream job", "the guard refused the plan", "(exit code 11)", "exactly the 29,900 IDs"],
        ["4. The file gains", "$ kill -9 ", "$ aiobatch status"],
        ["5. The same command", "finish the previous run", f"exactly the {29_900 + MORE:,} IDs"],
    )
    _assert_in_order(
        result.out,
        ["everyone: done: 30,000 added (30,000 members, 3 calls"],
        ["everyone: done: 200 added, 300 removed (29,900 members, 1 call,"],
        ["open_total", "\topen\t", "everyone: done: ", f"{29_900 + MORE:,} members"],
    )


def _assert_in_order(text: str, *parts: list[str]) -> None:
    """Assert that all is there, each after what is before it."""
    for part in [one for some in parts for one in some]:
        _, found, text = text.partition(part)
        assert found == part


@pytest.mark.sweep
def test_demo_needs_no_file_and_no_keys(run: Run) -> None:
    """Without a file the demo makes up a sample, and data are JSON where that is asked for."""
    result = run("demo", "--json", "--quiet")
    assert result.code == 0
    *audiences, first, second, third, status, last = result.objects
    assert {one["audience"]: one["nb_ids"] for one in audiences} == {
        "newsletter": 1_800,
        "trial": 750,
        "vip": 450,
    }
    assert [one["exit_code"] for one in (first, second, third, last)] == [0, 0, ExitCode.GUARDED, 0]
    assert (second["adds"], second["removes"], second["calls"]) == (200, 300, 1)
    assert status["open_run"] == last["settled_run"]
    assert last["members_after"] == 2_900 + MORE


def test_demo_shows_bars_in_a_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal the demo shows bars and a table."""

    async def skip(*_: object) -> None:
        """Leave out what takes longest and looks as it does in a terminal without a demo."""

    monkeypatch.setattr(_demo, "show_sync", skip)
    assert terminal.run("demo") == 0
    screen = terminal.screen()
    for text in ("━━━", "✓", "3 audiences", "3,000 IDs", "1,800", "newsletter"):
        assert text in screen


async def test_frozen_demo_leaves_the_sync_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A frozen program cannot start `python -m aiobatch`, so the demo explains that and ends."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    async with running_sandbox() as sandbox:
        await show_sync(sandbox, ["u1"], Context.of(GlobalOptions()))
    assert "a frozen program cannot start aiobatch again" in capsys.readouterr().err
    assert sandbox.requests == ()


async def test_failed_demos_name_the_command(tmp_path: Path) -> None:
    """An unexpected exit code or other members fail the demo."""
    context = Context.of(GlobalOptions(quiet=True))
    async with running_sandbox(indexing_delay=0) as sandbox:
        shell = _Shell(sandbox, context, tmp_path)
        with pytest.raises(AiobatchError, match="frobnicate ended with exit code 2 instead of 0"):
            await shell.run("frobnicate")
        with pytest.raises(AiobatchError, match="before it could be killed"):
            await shell.kill("frobnicate")
        await shell.title("a title", ["a"])
        await shell.run("sync", "everyone", "everyone.csv", "--create")
        with pytest.raises(AiobatchError, match="expected 2 IDs"):
            shell.compare(["a", "b"])


def test_demo_needs_its_columns(run: Run, tmp_path: Path) -> None:
    """A file without the sample's columns, or of other than audiences' names, is refused."""
    path = tmp_path / "users.csv"
    path.write_text("id\nu1\n")
    result = run("demo", str(path))
    assert result.code == ExitCode.USAGE
    assert "user_id and segment" in result.err
    path.write_text("user_id,segment\nu1,a b\n")
    result = run("demo", str(path))
    assert result.code == ExitCode.USAGE
    assert "audience name 'a b'" in result.err
