from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.cli import ExitCode
from aiobatch.cli._arguments import name_default_state
from aiobatch.sandbox import Sandbox
from aiobatch.sync import default_state_path
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


def test_what_was_not_waited_for(run: Run, late: Sandbox) -> None:
    """The tokens of runs that did not wait are waited for, of all audiences or of those that are named."""
    run("sync", "vip", write(["a"]), "--create", "--no-wait")
    run("sync", "trial", write(["a"]), "--create", "--no-wait")
    assert run("wait", "vip", "--state").rows == [["vip", "1", "APPLIED"]]
    result = run("wait", "--state", str(default_state_path()), "--json")
    assert result.objects == [{"audience": "trial", "run": 2, "outcome": "APPLIED", "error": None}]
    assert run("wait", "vip", "vip", "--state").rows == [["vip", "1", "APPLIED"]]
    nothing = run("wait", "--state")
    assert (nothing.code, nothing.rows, nothing.err) == (ExitCode.DONE, [], "nothing is open\n")
    (_, vip) = run("status", "--json").objects
    assert (vip["name"], vip["members"], vip["known"]) == ("vip", 1, True)


def test_what_is_not_applied_in_time(run: Run, slow: Sandbox) -> None:
    """Waiting may end before the tokens do, and can go on."""
    run("sync", "vip", write(["a"]), "--no-wait")
    result = run("wait", "vip", "--state", "--timeout", "0.1")
    assert result.code == ExitCode.NOT_APPLIED
    assert result.rows == [["vip", "1", "TIMED_OUT"]]
    assert "timed out" in result.err


def test_what_somebody_else_replaced(run: Run, slow: Sandbox) -> None:
    """A token that is REPLACED weighs more than one that is late."""
    run("sync", "vip", write(["a"]), "--no-wait")
    slow.replace_behind_back("vip", ["z"])
    result = run("wait", "--state", "--json")
    assert result.code == ExitCode.REPLACED
    assert result.objects[0]["outcome"] == "REPLACED"
    assert "another writer" in result.objects[0]["error"]
    again = run("wait", "vip", "--state", "--json")
    assert (again.code, again.objects[0]["run"]) == (ExitCode.REPLACED, 1)
    assert "aiobatch resync vip" in again.err


def test_another_run_goes_on(run: Run, slow: Sandbox) -> None:
    """Nothing is waited for while another run has the state, and nothing is said of how it stands."""
    run("sync", "vip", write(["a"]), "--no-wait")
    with State.open(default_state_path(), what="sync vip"):
        result = run("wait", "vip", "--state", "--json")
    assert result.code == ExitCode.LOCKED
    assert (result.objects[0]["outcome"], result.objects[0]["run"]) == (None, None)


def test_an_audience_without_runs(run: Run, late: Sandbox) -> None:
    """Where only a dry run looked at an audience, there is nothing to wait for, and nothing was APPLIED."""
    run("create", "vip", "--wait")
    run("sync", "vip", write(["a"]), "--dry-run")
    result = run("wait", "vip", "--state")
    assert (result.code, result.rows) == (ExitCode.USAGE, [])
    assert "the state knows no audience 'vip'" in result.err


def test_a_state_that_breaks(run: Run, slow: Sandbox) -> None:
    """Whatever else goes wrong is a failure."""
    run("sync", "vip", write(["a"]), "--no-wait")
    slow.fail_next("500", times=10_000, operation="view")
    result = run("wait", "vip", "--state", "--timeout", "0.1")
    assert result.code in {ExitCode.FAILED, ExitCode.NOT_APPLIED}


def test_an_audience_that_the_state_does_not_know(run: Run, late: Sandbox) -> None:
    """A name that is none of this target's is refused."""
    run("sync", "vip", write(["a"]), "--create")
    result = run("wait", "trial", "--state")
    assert result.code == ExitCode.USAGE
    assert "the state knows no audience 'trial'" in result.err
    assert run("wait", "--state", "none.duckdb").code == ExitCode.FAILED
    assert not Path("none.duckdb").exists()


@pytest.mark.parametrize(
    ("argv", "filled"),
    [
        (["wait", "--state"], ["wait", "--state", "DEFAULT"]),
        (["wait", "--state", "--json"], ["wait", "--state", "DEFAULT", "--json"]),
        (["wait", "--state", "x"], ["wait", "--state", "x"]),
        (["wait", "--state=x"], ["wait", "--state=x"]),
        (["--state", "--state"], ["--state", "DEFAULT", "--state", "DEFAULT"]),
        (["view", "--", "--state"], ["view", "--", "--state"]),
        (["wait", "--state", "--", "vip"], ["wait", "--state", "DEFAULT", "--", "vip"]),
    ],
)
def test_a_bare_state_is_the_users_own(argv: list[str], filled: list[str]) -> None:
    """An option --state without a file means the one in the user's data directory."""
    expected = [str(default_state_path()) if word == "DEFAULT" else word for word in filled]
    assert name_default_state(argv) == expected
