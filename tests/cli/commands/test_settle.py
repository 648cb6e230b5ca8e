from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import Sandbox
from aiobatch.sync import SyncEngine, default_state_path
from aiobatch.sync.state._state import State

from ..conftest import Run, SandboxThread, set_keys
from ..reports import write

pytestmark = pytest.mark.usefixtures("workdir")


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox in which updates are applied some tenths of a second later."""
    with SandboxThread(indexing_delay=0.3) as sandbox:
        set_keys(monkeypatch, sandbox)
        yield sandbox


def test_open_runs_are_settled(run: Run, late: Sandbox) -> None:
    """Open runs are settled, of all audiences or of the named ones."""
    run("sync", "vip", write(["a"]), "--create", "--no-wait")
    run("sync", "trial", write(["a"]), "--create", "--no-wait")
    assert run("settle", "vip").rows == [["vip", "1", "APPLIED"]]
    result = run("settle", "--state", str(default_state_path()), "--json")
    assert result.objects == [{"audience": "trial", "run": 2, "outcome": "APPLIED", "error": None}]
    assert run("settle", "vip", "vip").rows == [["vip", "1", "APPLIED"]]
    nothing = run("settle")
    assert (nothing.code, nothing.rows, nothing.err) == (ExitCode.DONE, [], "Nothing is open.\n")
    (_, vip) = run("status", "--json").objects
    assert (vip["audience"], vip["members"], vip["known"]) == ("vip", 1, True)


def test_late_runs_stay_open(run: Run, slow: Sandbox) -> None:
    """A timeout leaves the run open."""
    run("sync", "vip", write(["a"]), "--no-wait")
    result = run("settle", "vip", "--timeout", "0.1")
    assert result.code == ExitCode.NOT_APPLIED
    assert result.rows == [["vip", "1", "TIMED_OUT"]]
    assert "timed out" in result.err


def test_replaced_runs_have_their_code(run: Run, slow: Sandbox) -> None:
    """A run whose token is REPLACED has its own code, also when it is settled again."""
    run("sync", "vip", write(["a"]), "--no-wait")
    slow.replace_behind_back("vip", ["z"])
    result = run("settle", "--json")
    assert result.code == ExitCode.REPLACED
    assert result.objects[0]["outcome"] == "REPLACED"
    assert "another writer" in result.objects[0]["error"]
    again = run("settle", "vip", "--json")
    assert (again.code, again.objects[0]["run"]) == (ExitCode.REPLACED, 1)
    assert "aiobatch resync vip" in again.err


def test_locked_states_have_no_outcome(run: Run, slow: Sandbox) -> None:
    """While another run has the state, nothing is settled and the outcome is unknown."""
    run("sync", "vip", write(["a"]), "--no-wait")
    with State.open(default_state_path(), what="sync vip"):
        result = run("settle", "vip", "--json")
    assert result.code == ExitCode.LOCKED
    assert (result.objects[0]["outcome"], result.objects[0]["run"]) == (None, None)


def test_audiences_without_runs_are_rejected(run: Run, late: Sandbox) -> None:
    """An audience that had only a dry run is not in the state."""
    run("create", "vip", "--wait")
    run("sync", "vip", write(["a"]), "--dry-run")
    result = run("settle", "vip")
    assert (result.code, result.rows) == (ExitCode.USAGE, [])
    assert "'vip'" in result.err


def test_failing_service_is_a_failure(run: Run, slow: Sandbox) -> None:
    """If Batch fails for long, the run is not settled."""
    run("sync", "vip", write(["a"]), "--no-wait")
    slow.fail_next("500", times=10_000, operation="view")
    result = run("settle", "vip", "--timeout", "0.1")
    assert result.code in {ExitCode.FAILED, ExitCode.NOT_APPLIED}


def test_unknown_audiences_and_states_are_rejected(run: Run, late: Sandbox) -> None:
    """An unknown name or a missing state is rejected."""
    run("sync", "vip", write(["a"]), "--create")
    result = run("settle", "trial")
    assert result.code == ExitCode.USAGE
    assert "'trial'" in result.err
    assert run("settle", "--state", "none.duckdb").code == ExitCode.FAILED
    assert not Path("none.duckdb").exists()


def test_audiences_without_an_open_run_are_applied(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the engine finds no run to settle, nothing is open and the outcome is APPLIED."""

    async def settle(*_: object) -> None:
        """Find no run."""

    run("sync", "vip", write(["a"]), "--create")
    monkeypatch.setattr(SyncEngine, "settle", settle)
    assert run("settle", "vip").rows == [["vip", "", "APPLIED"]]
