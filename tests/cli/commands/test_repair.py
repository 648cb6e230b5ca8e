from __future__ import annotations

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import Sandbox

from ..conftest import Run, Terminal
from ..reports import report, users, write

pytestmark = pytest.mark.usefixtures("workdir")


def test_verify_compares_the_counts(run: Run, sandbox: Sandbox) -> None:
    """Verify shows both counts, and exits with 13 and the fix where they differ."""
    run("sync", "vip", write(users(range(5))), "--create")
    assert run("verify", "vip").rows == [["vip", "5", "5", "0"]]
    sandbox.write_behind_back("vip", add=["z"])
    result = run("verify", "vip", "--json")
    assert result.code == ExitCode.DRIFTED
    assert result.objects == [{"audience": "vip", "known": True, "members": 5, "counted": 6, "drift": 1}]
    assert "aiobatch resync vip SOURCE" in result.err
    assert run("verify", "vip", "--drift", "1").code == ExitCode.DONE


def test_verify_of_unknown_members_has_its_code(run: Run, sandbox: Sandbox) -> None:
    """An audience that this state never filled is no drift, and can be adopted."""
    run("create", "vip", "--wait")
    sandbox.write_behind_back("vip", add=["z"])
    result = run("verify", "vip")
    assert result.code == ExitCode.UNKNOWN_MEMBERS
    assert "aiobatch adopt vip FILE" in result.err


def test_verify_of_a_missing_audience_has_its_code(run: Run, sandbox: Sandbox) -> None:
    """A missing audience cannot be verified."""
    assert run("verify", "vip").code == ExitCode.NOT_FOUND
    assert run("verify", "bad name").code == ExitCode.USAGE


def test_adopt_imports_members(run: Run, sandbox: Sandbox) -> None:
    """Adopt records the members of a file and sends nothing, and the next sync sends the difference."""
    run("create", "vip", "--wait")
    sandbox.write_behind_back("vip", add=users(range(5)))
    updates = sandbox.operation_counts["update"]
    result = run("adopt", "vip", write(users(range(5))), "--strict")
    assert "vip: done: adopted, nothing was sent (5 members" in result.out
    assert sandbox.operation_counts["update"] == updates
    assert report(run("sync", "vip", write(users(range(6))), "--json"))["adds"] == 1


def test_adopt_checks_the_count(run: Run, sandbox: Sandbox) -> None:
    """A file that cannot be all of the members is refused with --strict, and warned of without."""
    run("create", "vip", "--wait")
    sandbox.write_behind_back("vip", add=users(range(5)))
    strict = run("adopt", "vip", write(users(range(4))), "--strict", "--json")
    assert strict.code == ExitCode.DRIFTED
    assert report(strict)["mode"] == "adopt"
    assert report(run("adopt", "vip", "users.csv", "--json"))["warnings"]


def test_rollback_is_checked_by_the_guard(run: Run, sandbox: Sandbox) -> None:
    """The members after an earlier run come back as a difference, which the guard judges."""
    run("sync", "vip", write(users(range(10))), "--create")
    run("sync", "vip", write(users(range(200))))
    assert run("rollback", "vip", "--to", "1").code == ExitCode.GUARDED
    result = run("rollback", "vip", "--to", "1", "--allow-removals", "190", "--json")
    assert report(result)["source"] == "members after run 1"
    assert set(sandbox.members("vip")) == set(users(range(10)))


def test_rollback_needs_an_existing_run(run: Run, sandbox: Sandbox) -> None:
    """A run that there is not, or none at all, is an error of its own."""
    run("sync", "vip", write(["a"]), "--create")
    result = run("rollback", "vip", "--to", "9", "--json")
    assert result.code == ExitCode.NOT_FOUND
    assert report(result)["error_type"] == "UnknownRunError"
    assert run("rollback", "vip").code == ExitCode.USAGE


def test_resync_removes_untracked_ids(run: Run, sandbox: Sandbox) -> None:
    """Resync resends the source, and removes IDs of earlier runs that another program added again."""
    run("sync", "vip", write(users(range(5))), "--create")
    run("sync", "vip", write(users(range(1, 5))))
    sandbox.write_behind_back("vip", add=["u0"])
    result = report(run("resync", "vip", "users.csv", "--json"))
    assert (result["mode"], result["resends"], result["untracked_removals"]) == ("resync", 4, 1)
    assert set(sandbox.members("vip")) == set(users(range(1, 5)))


def test_forget_asks_for_confirmation(run: Run, sandbox: Sandbox) -> None:
    """Forget needs a confirmation."""
    run("sync", "vip", write(["a"]), "--create")
    refused = run("forget", "vip")
    assert refused.code == ExitCode.USAGE
    assert "--yes" in refused.err
    (vip,) = run("status", "--json").objects
    assert vip["target"] in refused.err
    assert run("forget", "vip", "--yes").err == "Forgot audience 'vip'.\n"
    assert run("sync", "vip", "users.csv").code == ExitCode.UNKNOWN_MEMBERS
    assert set(sandbox.members("vip")) == {"a"}


def test_forget_rejects_unknown_audiences(run: Run, sandbox: Sandbox) -> None:
    """Forget fails for a misspelt name."""
    assert run("forget", "vip", "--yes").code == ExitCode.FAILED
    run("sync", "vip", write(["a"]), "--create")
    result = run("forget", "vpi", "--yes")
    assert result.code == ExitCode.USAGE
    assert "'vpi'" in result.err


def test_forget_asks_in_a_terminal(terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal, yes is an answer."""
    assert terminal.run("sync", "vip", write(["a"]), "--create", "-q") == 0
    terminal.type("y\n")
    assert terminal.run("forget", "vip") == 0
    assert "Forget the members and the history of audience 'vip'" in terminal.screen()
