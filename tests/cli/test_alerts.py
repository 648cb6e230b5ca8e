"""Alerts: one for each change of state, to a real webhook and a real SMTP server, and never a failure."""

from __future__ import annotations

import email.message
import importlib.util
import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from aiobatch._secret import Secret
from aiobatch.cli import ExitCode
from aiobatch.cli import _alerts as alerts
from aiobatch.cli._alerts import News, fresh, news_of, send_alerts, stale
from aiobatch.sandbox import Sandbox
from aiobatch.sync import AlertKind, Attempt, NotifyConfig, RunOutcome, to_location
from aiobatch.sync.state.upkeep import read_open_alerts, write_open_alerts

from ..helpers.ports import reserved_port
from .conftest import KEYS, Run
from .reports import users, write

pytestmark = [
    pytest.mark.usefixtures("workdir"),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated"),  # an import of Apprise, on Python 3.11
]

CONFIG = """
[defaults]
create = true
state = "state.duckdb"
[notify]
urls = ["${ALERT_URL}"]
[projects.web]
rest_api_key = "${BATCH_REST_API_KEY}"
project_key = "${BATCH_PROJECT_KEY}"
[audiences.vip]
source = "users.csv"
"""


class Webhook:
    """A webhook that keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                hook.received.append(json.loads(self.rfile.read(size)))
                self.send_response(hook.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://robot:hook-secret@127.0.0.1:{self.server.server_port}/hook-path"
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()

    def titles(self) -> list[str]:
        """Return the titles since the last call."""
        titles = [one["title"].removeprefix("aiobatch: ") for one in self.received]
        assert not any(key in json.dumps(self.received) for key in KEYS)
        self.received.clear()
        return titles


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """Run a webhook, whose URL the config's variable has."""
    hook = Webhook()
    monkeypatch.setenv("ALERT_URL", hook.url)
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


def test_each_change_of_state_is_one_alert(run: Run, sandbox: Sandbox, webhook: Webhook) -> None:
    """A failure, a refusal and a recovery are one alert each, however often they are repeated."""
    assert run("run").code == ExitCode.BAD_SOURCE
    (alert,) = webhook.received
    assert alert["type"] == "failure"
    assert "Source users.csv: it cannot be read" in alert["message"]
    assert webhook.titles() == ["vip → web failed"]
    assert run("run").code == ExitCode.BAD_SOURCE
    assert webhook.titles() == []
    write(users(range(9000, 9100)))
    assert run("run").code == ExitCode.DONE
    assert [one["type"] for one in webhook.received] == ["success"]
    assert webhook.titles() == ["vip → web recovered"]
    write(users(range(9000, 9003)))
    for expected in (["vip → web refused by the guard"], []):
        assert run("sync", "vip").code == ExitCode.GUARDED
        assert "u90" not in json.dumps(webhook.received)
        assert webhook.titles() == expected
    assert run("run", "--only", "vip", "--allow-removals", "97").code == ExitCode.DONE
    assert webhook.titles() == ["vip → web recovered"]
    assert run("run").code == ExitCode.DONE
    assert webhook.titles() == []
    assert Path("state.duckdb.alerts").stat().st_mode & 0o777 == 0o600


def test_staleness_is_one_alert(run: Run, sandbox: Sandbox, webhook: Webhook) -> None:
    """`status --max-age` reports a place once, until a run succeeds."""
    for expected in (["vip → web without a recent success"], []):
        # The state does not exist yet.
        assert run("status", "--max-age", "26h").code == ExitCode.FAILED
        assert webhook.titles() == expected
    write(users(range(3)))
    assert run("run").code == ExitCode.DONE
    assert webhook.titles() == ["vip → web recovered"]
    assert run("status", "--max-age", "26h").code == ExitCode.DONE
    assert webhook.titles() == []


def test_a_broken_config_is_one_alert(
    run: Run, sandbox: Sandbox, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config that misses a key is reported once by `run`, and its recovery with the next run."""
    write(users(range(3)))
    with monkeypatch.context() as patch:
        patch.delenv("BATCH_PROJECT_KEY")
        for expected in (1, 0):
            assert run("run").code == ExitCode.USAGE
            assert len(webhook.titles()) == expected
        assert run("sync", "vip").code == ExitCode.USAGE
        assert webhook.titles() == ["vip failed"]
    assert run("run").code == ExitCode.DONE
    assert webhook.titles() == ["2 places changed"]
    assert run("sync", "vip", "--env-file", "none").code == ExitCode.USAGE
    Path("aiobatch.toml").write_text("= no TOML", encoding="utf-8")
    assert run("run", "--state", "state.duckdb").code == ExitCode.USAGE
    assert webhook.titles() == []


def test_a_failed_alert_changes_nothing_and_is_sent_later(
    run: Run, sandbox: Sandbox, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook that refuses or never answers costs a warning without its URL. The next run tries again."""
    webhook.status = 500
    result = run("run")
    assert result.code == ExitCode.BAD_SOURCE
    assert "alert not sent" in result.err
    assert webhook.titles() == ["vip → web failed"]
    with socket.socket() as silent, monkeypatch.context() as patch:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        patch.setattr(alerts, "_PATIENCE", 0.1)
        patch.setenv("ALERT_URL", f"json://robot:hook-secret@127.0.0.1:{silent.getsockname()[1]}/hook-path")
        result = run("run")
    assert result.code == ExitCode.BAD_SOURCE
    assert "did not answer in time" in result.err
    assert "hook-" not in result.err
    webhook.status = 200
    assert run("run").code == ExitCode.BAD_SOURCE
    assert webhook.titles() == ["vip → web failed"]


@pytest.mark.parametrize("url", [None, "hook-secret", "json://"])
def test_a_wrong_url_is_a_warning(
    url: str | None, run: Run, sandbox: Sandbox, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is missing or holds no URL changes no exit code. `run --check` names a missing one."""
    monkeypatch.delenv("ALERT_URL") if url is None else monkeypatch.setenv("ALERT_URL", url)
    result = run("run")
    assert result.code == ExitCode.BAD_SOURCE
    assert "ALERT_URL" in result.err
    assert "hook-secret" not in result.err
    assert ("ALERT_URL" in run("run", "--check").err) == (url is None)


def test_the_extra_is_named(
    run: Run, sandbox: Sandbox, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra, the warning names it."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    result = run("run")
    assert (result.code, "aiobatch-client[notify]" in result.err) == (ExitCode.BAD_SOURCE, True)


def test_an_exception_is_a_warning(
    run: Run, sandbox: Sandbox, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception of a service shows its type alone, because its text may have the URL."""

    def fail() -> None:
        raise RuntimeError(webhook.url)

    monkeypatch.setattr(alerts, "_sender", fail)
    result = run("run")
    assert (result.code, "RuntimeError" in result.err) == (ExitCode.BAD_SOURCE, True)
    assert "hook-" not in result.err


def test_doctor_checks_the_alerts(
    run: Run, sandbox: Sandbox, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sound URL passes. A missing or invalid one, and a missing extra, have a fix. Nothing is sent."""

    def finding() -> str:
        found = [one for one in run("doctor", "--json").objects if one["check"] == "alerts"]
        return " ".join(f"{one['status']} {one['text']} {one['fix']}" for one in found)

    assert finding().startswith("ok Alerts go to the URLs in ALERT_URL.")
    monkeypatch.setenv("ALERT_URL", "hook-secret")
    assert "ALERT_URL holds no Apprise URL" in finding()
    assert "hook-secret" not in finding()
    monkeypatch.delenv("ALERT_URL")
    assert "ALERT_URL is not set" in finding()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "aiobatch-client[notify]" in finding()
    assert webhook.titles() == []


def test_unknown_keys_of_notify_are_problems(run: Run, webhook: Webhook) -> None:
    """An URL in the config, an unknown change of state and an empty list are refused."""
    for line in ('urls = ["json://x"]', 'urls = ["${A}"]\non = ["error"]', "urls = []"):
        Path("aiobatch.toml").write_text(f"[notify]\n{line}\n[audiences.a]\nsource='a.csv'", encoding="utf-8")
        result = run("run", "--check")
        assert (result.code, "notify." in result.err) == (ExitCode.USAGE, True)


class Mailbox:
    """Keeps the mails that an SMTP server receives."""

    def __init__(self) -> None:
        self.mails: list[email.message.Message] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        """Keep a mail."""
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 OK"


def test_an_alert_is_a_mail() -> None:
    """A real SMTP server receives the alert, with the place in the subject."""
    box = Mailbox()
    with reserved_port() as port:
        server = Controller(box, hostname="127.0.0.1", port=port)
        server.start()
        try:
            url = f"mailto://127.0.0.1:{port}?from=etl@example.com&to=crm@example.com&mode=insecure"
            notify = NotifyConfig(urls={"ALERT_URL": Secret(url)})
            send_alerts(notify, Path("state.duckdb"), [stale("vip", "Never loaded."), stale("gold", "Old.")])
            send_alerts(notify, Path("state.duckdb"), [stale("vip", "Never loaded.")])
        finally:
            server.stop()
    (mail,) = box.mails
    assert "2 places changed" in str(email.header.make_header(email.header.decode_header(mail["Subject"])))


def _attempt(code: int | None, outcome: RunOutcome = RunOutcome.FAILED, **values: Any) -> Attempt:
    base: dict[str, Any] = {"command": "run", "audience": "vip", "target": "web"}
    return Attempt(**base | {"exit_code": code, "outcome": outcome} | values)


@pytest.mark.parametrize(
    ("attempt", "kind"),
    [
        (_attempt(0, RunOutcome.DONE), AlertKind.RECOVERY),
        (_attempt(10, RunOutcome.DONE), AlertKind.RECOVERY),
        (_attempt(0, RunOutcome.SENT), None),
        (_attempt(11, RunOutcome.REFUSED), AlertKind.REFUSAL),
        (_attempt(1), AlertKind.FAILURE),
        (_attempt(4, RunOutcome.NOT_APPLIED), AlertKind.FAILURE),
        (_attempt(12), None),
        (_attempt(75), None),
        (_attempt(130, RunOutcome.INTERRUPTED), None),
        (_attempt(143, RunOutcome.INTERRUPTED), None),
    ],
)
def test_the_kind_of_an_attempt(attempt: Attempt, kind: AlertKind | None) -> None:
    """Each exit code is a failure, a refusal or a recovery, or decides nothing."""
    found = {one.place: one.kind for one in news_of([attempt])}
    assert found.get("vip → web") == kind


def test_open_alerts_close_each_other() -> None:
    """A failure follows a refusal, a recovery closes all, and only what was sent is open."""
    every, failed = frozenset(AlertKind), News(place="vip", kind=AlertKind.FAILURE)
    assert stale("vip", "").after({"failure"}, every) == {"failure", "staleness"}
    assert not failed.is_change({"failure"}, every)
    assert failed.after((), {AlertKind.RECOVERY}) == frozenset()
    assert not failed.is_change((), {AlertKind.RECOVERY})
    assert not fresh("vip").is_change({"failure", "staleness"}, every)
    assert fresh("vip").after({"failure", "staleness"}, every) == {"failure"}
    assert fresh("vip").is_change({"staleness"}, every)


@pytest.mark.parametrize("state", ["state.duckdb", "file://{}/objects"])
def test_open_alerts_are_kept_beside_the_state(state: str, workdir: Path, caplog: Any) -> None:
    """The records of a place are replaced, and those of the others stay. Broken records are none."""
    location = to_location(state.format(workdir))
    assert read_open_alerts(location) == {}
    write_open_alerts(location, {"vip": ["failure"], "gold": ["refusal", "staleness"]})
    write_open_alerts(location, {"vip": ["staleness"]})
    write_open_alerts(location, {"gold": []})
    assert read_open_alerts(location) == {"vip": {"staleness"}}
    for path in workdir.rglob("*alerts*"):
        for file in [path] if path.is_file() else path.iterdir():
            file.write_bytes(b"{" if "vip" in file.read_text(encoding="utf-8") else b"[]")
    assert read_open_alerts(location) == {}


def test_records_that_cannot_be_written_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A directory in the place of the records costs a warning."""
    Path("state.duckdb.alerts").mkdir()
    write_open_alerts(Path("state.duckdb"), {"vip": ["failure"]})
    assert "alert not recorded" in caplog.text
