"""A state that is named is sufficient: no home, no passwd entry and no variable is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiobatch import InvalidInputError
from aiobatch.cli import ExitCode
from aiobatch.cli.output._command_hints import command, command_context
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox
from aiobatch.sync import default_state_path
from aiobatch.sync.state._lock import audience_lock

from ..conftest import Run
from ..reports import users, write

_UNKNOWN_UID = "54321"
# Reads Python's own files wherever they are, and writes only what its user may.
_AS_UNKNOWN = (
    *("setpriv", "--reuid", _UNKNOWN_UID, "--regid", _UNKNOWN_UID, "--clear-groups"),
    *("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"),
)
as_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)


def _run(
    prefix: tuple[str, ...], *argv: str, variables: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*prefix, "env", "-i", *variables, sys.executable, "-m", "aiobatch", *argv]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "prefix", [(), pytest.param(_AS_UNKNOWN, marks=as_root)], ids=["own user", "unknown user"]
)
@pytest.mark.parametrize("variables", [(), ("HOME=/proc/1",)], ids=["no home", "read-only home"])
def test_a_named_state_needs_no_home(
    prefix: tuple[str, ...], variables: tuple[str, ...], workdir: Path, sandbox: Sandbox
) -> None:
    """A job from an empty environment keeps its locks and notes beside the state."""
    place = workdir / "state"
    place.mkdir()
    place.chmod(0o777)
    source = workdir / write(users(range(3)))
    keys = workdir / "keys.env"
    keys.write_text(
        f"BATCH_BASE_URL={sandbox.url}\nBATCH_REST_API_KEY={REST_API_KEY}\nBATCH_PROJECT_KEY={PROJECT_KEY}\n"
    )
    state = ("--state", str(place / "state.duckdb"))
    done = _run(
        prefix, "sync", "vip", str(source), "--create", "--env-file", str(keys), *state, variables=variables
    )
    assert done.returncode == 0, done.stderr
    assert set(sandbox.members("vip")) == set(users(range(3)))
    assert {path.name for path in place.iterdir()} >= {"state.duckdb", "state.duckdb.attempts"}
    assert _run(prefix, "status", *state, "--max-age", "26h", variables=variables).returncode == 0


@as_root
def test_a_user_without_a_home_has_no_default_state() -> None:
    """Without a home, the error asks for a state instead of writing into the working directory."""
    done = _run(_AS_UNKNOWN, "status")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == (
        "aiobatch: This user has no home directory for the default state. Name a state file.\n"
    )


def test_users_without_a_home_are_asked_for_a_state(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Without a home, the error asks for a state, and a printed command names the one that is used."""

    def fail(*_: object) -> Path:
        msg = "Could not determine home directory."
        raise RuntimeError(msg)

    monkeypatch.setattr("platformdirs.user_data_path", fail)
    with pytest.raises(InvalidInputError, match="no home"):
        default_state_path()
    assert run("runs").code == ExitCode.USAGE
    with command_context(state=Path("s")):
        assert command("runs") == "`aiobatch runs --state s`"
    assert not audience_lock("key", "https://example.org").path.parent.exists()


def test_locks_are_beside_the_state_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the home cannot be written, the lock file is beside the state, and excludes its own process."""
    monkeypatch.setenv("XDG_DATA_HOME", "/dev/null/home")
    state = tmp_path / "state.duckdb"
    with audience_lock("key", "https://example.org", state=state).acquire("sync vip") as lock:
        assert lock.path == tmp_path / "state.duckdb.locks" / "key.lock"
        assert lock.path.exists()
