"""The checks of `doctor`: each broken set-up has its finding and its fix, and no secret is printed."""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import json
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import duckdb
import jsonschema
import platformdirs
import pytest
import trustme

from aiobatch import Project
from aiobatch.cli import ExitCode
from aiobatch.cli.commands.doctor import _doctor, _route, _state, _versions
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox
from aiobatch.sync import Status, SyncEngine
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import TargetKey

from ...helpers.ports import reserved_port
from ..conftest import Run
from ..reports import REFERENCE, users, write

pytestmark = pytest.mark.usefixtures("workdir")

_SCHEMA = json.loads((REFERENCE / "doctor.schema.json").read_text(encoding="utf-8"))
CONFIG = """
[defaults]
create = true
state = "state.duckdb"
[projects.web]
rest_api_key = "${BATCH_REST_API_KEY}"
project_key = "${BATCH_PROJECT_KEY}"
[audiences.vip]
source = "users.csv"
"""


def diagnose(run: Run, *argv: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code and the findings, each of which fits the schema. A problem has a fix."""
    result = run("doctor", "--json", *argv)
    found = result.objects
    for one in found:
        jsonschema.validate(one, _SCHEMA, cls=jsonschema.Draft7Validator)
        assert (one["status"] != "problem") or one["fix"]
    has_problem = any(one["status"] == "problem" for one in found)
    assert result.code == (ExitCode.UNHEALTHY if has_problem else ExitCode.DONE)
    return result.code, found


def problems(run: Run, *argv: str) -> dict[str, str]:
    """Return the text and the fix of the problems, by check."""
    _, found = diagnose(run, *argv)
    return {one["check"]: f"{one['text']} | {one['fix']}" for one in found if one["status"] == "problem"}


@pytest.fixture
def config(sandbox: Sandbox) -> str:
    """Write a config of one place, with its source."""
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    write(users(range(5)))
    return "aiobatch.toml"


def test_a_sound_set_up_has_no_problem(run: Run, config: str, home: Path) -> None:
    """Before and after a run all checks pass, and nothing is written."""
    code, found = diagnose(run)
    assert code == ExitCode.DONE
    assert {one["check"] for one in found if one["status"] == "ok"} == {
        *("versions", "config", "keys", "proxy", "connection", "clock", "access", "state", "locks", "disk")
    }
    assert not Path("state.duckdb").exists()
    run("run")
    _, found = diagnose(run, "--config", config)
    assert any("1 audiences with runs" in one["text"] for one in found)
    table = run("doctor")
    assert table.heading == ["status", "check", "target", "text", "fix"]
    assert str(home) not in table.out


def test_without_any_configuration(run: Run) -> None:
    """Without keys and without a config, the keys are the problem."""
    with reserved_port() as port:
        found = problems(run, "--env-file", _env_file(BATCH_BASE_URL=f"http://127.0.0.1:{port}"))
    assert "No keys are set" in found["keys"]
    assert found["connection"].startswith("Test of the connection failed: no connection to 127.0.0.1:")


def _env_file(mode: int = 0o600, **values: str) -> str:
    path = Path("keys.env")
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")
    path.chmod(mode)
    return str(path)


def test_the_env_file(run: Run, sandbox: Sandbox) -> None:
    """An env file that is missing, no text of KEY=VALUE lines or open to others is a problem."""
    keys = {"BATCH_REST_API_KEY": REST_API_KEY, "BATCH_PROJECT_KEY": PROJECT_KEY}
    path = _env_file(0o644, BATCH_BASE_URL=sandbox.url, **keys)
    assert problems(run, "--env-file", path)["keys"].endswith(f"Run `chmod 600 {path}`.")
    Path(path).write_text("no assignment", encoding="utf-8")
    assert "not a KEY=VALUE line" in run("doctor", "--env-file", path, "--json").out
    assert "No such file" in run("doctor", "--env-file", "none.env", "--json").out


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("'quoted'", "quote"),
        ("<your key>", "printable ASCII"),
        ("your-key-here", "placeholder"),
        (PROJECT_KEY, "the same key"),
    ],
)
def test_the_form_of_keys(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, key: str, words: str
) -> None:
    """A key in quotes, a placeholder or a key that is used twice is found, and not shown."""
    monkeypatch.setenv("BATCH_REST_API_KEY", key)
    found = problems(run)
    assert words in found["keys"]
    assert key not in str(found)


def test_a_wrong_key_is_refused(run: Run, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a key that Batch refuses are named, and the key is not."""
    monkeypatch.setenv("BATCH_REST_API_KEY", "wrong-rest-key")
    found = problems(run)
    assert list(found) == ["access"]
    assert "401" in found["access"]
    assert "BATCH_REST_API_KEY and BATCH_PROJECT_KEY" in found["access"]
    assert "wrong-rest-key" not in str(found)


def test_a_broken_config(run: Run, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault of a config and each variable that is not set is a finding of its own."""
    Path(config).write_text(f"{CONFIG}moed = 'add'\n[audiences.b]\n", encoding="utf-8")
    _, found = diagnose(run)
    wrong = [one["text"] for one in found if one["check"] == "config"]
    assert len(wrong) == 2
    assert any("moed" in one for one in wrong)
    Path(config).write_text("[", encoding="utf-8")
    assert "is not TOML" in problems(run)["config"]
    monkeypatch.delenv("BATCH_PROJECT_KEY")
    Path(config).write_text(CONFIG, encoding="utf-8")
    missing = problems(run)
    assert "BATCH_PROJECT_KEY is not set" in missing["keys"]
    assert "No such file" in problems(run, "--config", "none.toml")["config"]
    assert "no app or project" in problems(run, "--target", "none")["config"]


def test_a_config_without_targets_uses_the_environment(run: Run, sandbox: Sandbox) -> None:
    """The keys of the environment are checked if the config names no app or project."""
    Path("aiobatch.toml").write_text('[audiences.vip]\nsource = "users.csv"\n', encoding="utf-8")
    code, found = diagnose(run)
    assert (code, [one["target"] for one in found if one["check"] == "access"]) == (0, [None])


class _Answer(NamedTuple):
    """The answer of a server to each request."""

    status: int = 401
    ahead: int | None = 0


@contextlib.contextmanager
def _server(answer: _Answer, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve one answer on the loopback address, from a thread."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                peer = plain if context is None else context.wrap_socket(plain, server_side=True)
                peer.recv(65536)
                head = [f"HTTP/1.1 {answer.status} X", "Content-Length: 2", "Connection: close"]
                if answer.ahead is not None:
                    moment = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=answer.ahead)
                    head.append(f"Date: {email.utils.format_datetime(moment, usegmt=True)}")
                peer.sendall(("\r\n".join(head) + "\r\n\r\n{}").encode())
                peer.close()
            plain.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_Answer(ahead=3600), "ahead of the server's"),
        (_Answer(ahead=-3600), "behind the server's"),
        (_Answer(status=302), "redirects elsewhere"),
        (_Answer(status=200, ahead=None), "cannot be read"),
    ],
)
def test_the_clock_and_the_server(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, answer: _Answer, words: str
) -> None:
    """A clock that differs from the server's, and a server that is not Batch, are problems."""
    with _server(answer) as port:
        monkeypatch.setenv("BATCH_BASE_URL", f"http://127.0.0.1:{port}")
        assert words in str(problems(run))


@pytest.mark.parametrize(
    ("name", "expires", "words"),
    [
        ("localhost", -1, "has expired"),
        ("elsewhere.example", 1, "another host"),
        (None, 1, "not trusted"),
    ],
)
def test_certificates(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str | None, expires: int, words: str
) -> None:
    """An expired certificate, one of another host and an untrusted one have their own text."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=expires)
    since = until - dt.timedelta(days=9)
    authority.issue_cert(name or "localhost", not_after=until, not_before=since).configure_cert(context)
    (trustme.CA() if name is None else authority).cert_pem.write_to_path("ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", "ca.pem")
    with _server(_Answer(), context) as port:
        monkeypatch.setenv("BATCH_BASE_URL", f"https://localhost:{port}")
        found = problems(run)
    assert words in found["connection"]
    assert "clock" not in found
    assert "session" not in found["connection"]


def test_the_proxy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses, is not there or has a wrong form is a problem."""
    with _server(_Answer(status=403)) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://jo:s3same@127.0.0.1:{port}")
        assert all(word in problems(run)["connection"] for word in ("403", "password, in HTTPS_PROXY"))
        assert "with credentials" in run("doctor").out
        assert "s3same" not in run("doctor").out
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    assert "Check the address of the proxy" in problems(run)["connection"]
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    assert "no usable proxy" in problems(run)["route"]


def test_names_that_cannot_be_resolved(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without an address, and a resolver that hangs, are problems. The name is not shown."""
    monkeypatch.setenv("BATCH_BASE_URL", "https://batch.example.invalid")
    monkeypatch.setenv("NO_PROXY", "*")
    found = problems(run)
    assert found["dns"].startswith("HOST cannot be resolved")
    assert "example" not in str(found)
    hanging = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hanging.wait())
    monkeypatch.setattr(_route, "TIMEOUT", 0.05)
    slow = problems(run)
    hanging.set()
    assert "was not resolved within" in slow["dns"]
    assert "connection" in slow


def test_slow_lists_and_other_answers(run: Run, config: str, sandbox: Sandbox) -> None:
    """A list that fails for another reason than the keys has Batch's advice."""
    sandbox.fail_for("503", 60.0)
    found = problems(run)
    assert "503" in found["access"]


def test_states_that_cannot_be_used(run: Run, config: str) -> None:
    """A state of another version, another program's database and rubbish are problems, each with a fix."""
    State.open(Path("state.duckdb"), what="test").close()
    with duckdb.connect("state.duckdb") as connection:
        connection.execute("UPDATE aiobatch_state SET version = 999")
    assert "it has version 999" in problems(run)["state"]
    with duckdb.connect("other.duckdb") as connection:
        connection.execute("CREATE TABLE t (i INT)")
    assert "not a state of aiobatch" in str(diagnose(run, "--state", "other.duckdb")[1])
    Path("other.duckdb").chmod(0o644)
    assert "chmod 600 other.duckdb" in problems(run, "--state", "other.duckdb")["state"]
    Path("bad.duckdb").write_bytes(b"rubbish" * 999)
    Path("bad.duckdb").chmod(0o600)
    assert "state" in problems(run, "--state", "bad.duckdb")


def test_runs_that_did_not_finish(run: Run, config: str, slow: Sandbox) -> None:
    """An interrupted run is a problem whose fix settles it, and an audience of no config is a note."""
    run("sync", "vip", "--no-wait")
    found = problems(run, "--config", config)
    assert "did not finish" in found["state"]
    assert "`aiobatch settle vip --config aiobatch.toml --target web" in found["state"]
    Path(config).write_text(CONFIG.replace(".vip", ".gold"), encoding="utf-8")
    run("settle", "vip", "--timeout", "0.01", "--state", "state.duckdb")
    with State.open(Path("state.duckdb"), what="test") as state:
        state.rows("UPDATE runs SET settled = true")
    _, rest = diagnose(run, "--config", config)
    assert [one["check"] for one in rest if one["status"] == "note"] == ["state"]


def test_locks_have_a_holder(run: Run, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that a process holds is a problem that names the process, on whatever machine it is."""
    with State.open(Path("state.duckdb"), what="sync vip"):
        assert "(sync vip) holds a lock since" in problems(run)["locks"]
        lock = Path("state.duckdb.lock")
        lock.write_bytes(b'{"pid": 7, "host": "elsewhere", "user": "x"}')
        assert "another machine" in problems(run)["locks"]
        lock.write_bytes(b"")
        assert "unknown process" in problems(run)["locks"]
    assert "locks" not in problems(run)


def test_leases_have_an_audience(run: Run, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of a state on object storage that a process holds is a problem that names the audience."""
    Path("objects").mkdir()
    run("sync", "vip", "--state", state := (Path.cwd() / "objects").as_uri())
    assert any("No process holds a lease" in one["text"] for one in diagnose(run, "--state", state)[1])
    key = TargetKey.of(Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)).audience_key("vip")
    status = SyncEngine.status

    async def held(engine: SyncEngine) -> Status:
        return attrs.evolve(await status(engine), held=(key,), live=True)

    monkeypatch.setattr(SyncEngine, "status", held)
    assert problems(run, "--state", state)["locks"].startswith("vip → web: a process holds the lease.")


@pytest.mark.parametrize("part", ["config", "disk"])
def test_a_drive_that_hangs_ends_in_a_problem(
    part: str, run: Run, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network drive that never answers costs a problem, and not the rest of the checks."""
    module, name = {"config": (_doctor, "read_setup"), "disk": (_state, "_check_disk")}[part]
    released = threading.Event()
    monkeypatch.setattr(module, name, lambda _: released.wait(60))
    monkeypatch.setattr(module, "TIMEOUT", 0.05 if part == "config" else 1.0)
    try:
        assert "network drive" in problems(run)[part]
    finally:
        released.set()


def test_the_disk(run: Run, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without space, and a folder that cannot be written, are problems."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 1000, 0))
    assert "Free 0.2 GB" in problems(run)["disk"]
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written" in problems(run, "--state", "a/b/c.duckdb")["state"]
    found = diagnose(run, "--state", (Path.cwd() / "objects").as_uri())[1]
    assert any(one["check"] == "disk" for one in found)


def test_a_user_without_a_home(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home there is no default state, and the fix names one."""

    def fail(*_: object) -> Path:
        raise RuntimeError

    monkeypatch.setattr(platformdirs, "user_data_path", fail)
    monkeypatch.setattr(Path, "home", fail)
    assert "no home directory" in problems(run)["state"]


def test_a_state_that_hangs(run: Run, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that does not open in time is a problem."""
    hanging = threading.Event()
    monkeypatch.setattr(_state, "read_attempts", lambda _: hanging.wait())
    monkeypatch.setattr(_state, "TIMEOUT", 0.05)
    found = problems(run)
    hanging.set()
    assert "did not open within" in found["state"]


def test_missing_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen program has no metadata, which is a note. A missing extra is named."""
    assert _versions._version("no-such-distribution") is None
    monkeypatch.setattr(_versions, "_version", lambda name: None if name == "redis" else "1")
    assert "Not installed: redis" in [one.text for one in _versions.check_versions()][1]
    monkeypatch.setattr(_versions, "_DISTRIBUTION", "no-such-distribution")
    assert "metadata" in [one.text for one in _versions.check_versions()][1]
