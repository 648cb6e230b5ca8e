"""The places of a config: what was loaded when, what was tried, and the alarm."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiobatch import Project
from aiobatch.cli import ExitCode
from aiobatch.cli.commands._status import StatusRecord
from aiobatch.cli.output._exposition import exposition
from aiobatch.sandbox import API_KEY, Sandbox
from aiobatch.sync import Attempt, PlaceStatus, RunOutcome, StateUrl, record_attempts
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import TargetKey
from aiobatch.sync.state.objects._layout import Place
from aiobatch.sync.state.objects._lease import LeaseObject
from aiobatch.sync.state.objects._open import open_store

from ..conftest import Run
from ..reports import REFERENCE, users, write

pytestmark = pytest.mark.usefixtures("workdir")

_SCHEMA = json.loads((REFERENCE / "history.schema.json").read_text(encoding="utf-8"))
CONFIG = """
[defaults]
create = true
state = "${STATE_DIR}/state.duckdb"
[projects.web]
rest_api_key = "${BATCH_REST_API_KEY}"
project_key = "${BATCH_PROJECT_KEY}"
[apps.ios]
rest_api_key = "${BATCH_REST_API_KEY}"
api_key = "${BATCH_IOS_KEY}"
[audiences.vip]
source = "users.csv"
projects = ["web"]
apps = ["ios"]
[audiences.lost]
source = "lost.csv"
projects = ["web"]
"""


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, workdir: Path) -> str:
    """Write a config of three places, one of which has no source."""
    monkeypatch.setenv("BATCH_IOS_KEY", API_KEY)
    monkeypatch.setenv("STATE_DIR", str(workdir / "state"))
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    write(users(range(5)))
    return "aiobatch.toml"


def places(run: Run, *argv: str) -> dict[str, dict[str, Any]]:
    """Return the records of a status by audience and target."""
    found = run("status", "--json", *argv).objects
    for one in found:
        jsonschema.validate(one, _SCHEMA, cls=jsonschema.Draft7Validator)
    return {f"{one['audience']} {one['target']}": one for one in found}


def _without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BATCH_REST_API_KEY", "BATCH_PROJECT_KEY", "BATCH_IOS_KEY"):
        monkeypatch.delenv(name)


def test_every_configured_place_is_listed(run: Run, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place has its last success and its last attempt, before the first run and after, without keys."""
    first = places(run, "--config", config)
    assert list(first) == ["vip ios", "vip web", "lost web"]
    assert all(one["last_attempt"] is None for one in first.values())
    assert run("run").code == ExitCode.BAD_SOURCE
    _without_keys(monkeypatch)
    found = places(run, "--config", config)
    assert [one["members"] for one in found.values()] == [5, 5, None]
    assert [one["last_success"] is None for one in found.values()] == [False, False, True]
    attempts = [one["last_attempt"] for one in found.values()]
    assert [one["exit_code"] for one in attempts] == [0, 0, 14]
    assert [one["outcome"] for one in attempts] == ["done", "done", "failed"]
    assert "lost.csv" in attempts[2]["error"]
    assert [one["read"] for one in attempts] == [5, 5, 0]
    rows = {tuple(row[:2]): row for row in run("status").rows}  # ./aiobatch.toml
    assert rows["lost", "web"][5:9] == ["failed", "14", "0", attempts[2]["error"]]
    assert list(places(run, "--target", "i*")) == ["vip ios"]
    assert run("status", "--target", "nope").code == ExitCode.USAGE
    assert run("status", "--state", "x.duckdb", "--target", "ios").code == ExitCode.USAGE


def test_the_alarm_has_a_line_for_each_place(run: Run, config: str) -> None:
    """--max-age prints what is older or was never loaded, and is silent and 0 if all is well."""
    silent = run("status", "--max-age", "26h", "--config", config)
    assert silent.code == ExitCode.FAILED  # there is no state
    assert len(silent.err.splitlines()) == 4
    run("run")
    alarm = run("status", "--max-age", "26h", "--config", config)
    assert (alarm.code, alarm.out) == (ExitCode.OVERDUE, "")
    (line,) = alarm.err.splitlines()
    assert line.startswith("aiobatch: lost → web: never loaded, last attempt ")
    assert "failed: Source lost.csv" in line
    assert run("status", "--max-age", "26h", "--target", "ios").code == ExitCode.DONE
    old = run("status", "--max-age", "0.0001s", "--config", config)
    assert old.code == ExitCode.OVERDUE
    assert "vip → ios: last success" in old.err
    assert len(places(run, "--max-age", "0.0001")) == 3
    for wrong in ("soon", "0", "-1", "26 h", "1e3", "٣"):
        refused = run("status", "--max-age", wrong)
        assert refused.code == ExitCode.USAGE
        assert "max-age" in refused.err


def test_the_alarm_needs_a_loaded_audience(run: Run, sandbox: Sandbox) -> None:
    """A state without audiences, a missing one and an unreadable one raise the alarm."""
    assert run("status", "--max-age", "26h").code == ExitCode.FAILED
    State.open(Path("empty.duckdb"), what="test").close()
    empty = run("status", "--max-age", "26h", "--state", "empty.duckdb")
    assert empty.code == ExitCode.OVERDUE
    assert "no audience was ever loaded" in empty.err
    run("sync", "vip", write(["a"]), "--create", "--state", "own.duckdb")
    assert run("status", "--max-age", "26h", "--state", "own.duckdb").code == ExitCode.DONE
    Path("own.duckdb").write_bytes(b"rubbish" * 1000)
    broken = run("status", "--max-age", "26h", "--state", "own.duckdb")
    assert broken.code == ExitCode.FAILED
    assert "own.duckdb" in broken.err


def test_failures_before_the_run_are_recorded(
    run: Run, config: str, monkeypatch: pytest.MonkeyPatch, workdir: Path
) -> None:
    """Missing keys, a broken config, a locked state and a refusal are attempts with their reason."""
    run("run")
    monkeypatch.delenv("BATCH_IOS_KEY")
    assert run("run").code == ExitCode.USAGE
    found = places(run)
    assert all("BATCH_IOS_KEY" in one["last_attempt"]["error"] for one in found.values())
    assert run("sync", "vip", "--target", "ios").code == ExitCode.USAGE
    assert places(run)["vip ios"]["last_attempt"]["command"] == "sync"
    monkeypatch.setenv("BATCH_IOS_KEY", API_KEY)
    with State.open(workdir / "state" / "state.duckdb", what="sync vip"):
        assert run("run", "--only", "vip").code == ExitCode.LOCKED
    found = places(run)
    assert [one["last_attempt"]["exit_code"] for one in found.values()] == [12, 12, 2]
    write([])
    assert run("sync", "vip", "--target", "web").code == ExitCode.GUARDED
    found = places(run)
    assert found["vip web"]["last_attempt"]["outcome"] == "refused"
    assert "--allow-" in found["vip web"]["last_attempt"]["error"]
    assert found["vip ios"]["last_attempt"]["exit_code"] == 12
    Path("aiobatch.toml").write_text(CONFIG + 'moed = "add"\n', encoding="utf-8")
    assert run("run").code == ExitCode.USAGE
    assert run("status").code == ExitCode.USAGE
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    assert all("moed" in one["last_attempt"]["error"] for one in places(run).values())
    Path("aiobatch.toml").write_text("[", encoding="utf-8")
    assert run("run").code == ExitCode.USAGE  # its state is unknown
    monkeypatch.delenv("STATE_DIR")
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    assert "STATE_DIR" in run("run").err


def test_killed_attempts_are_visible(run: Run, sandbox: Sandbox) -> None:
    """An attempt without an end was killed, or is in progress."""
    run("sync", "vip", write(["a"]), "--create", "--state", "own.duckdb")
    record_attempts(Path("own.duckdb"), [Attempt(command="sync", audience="vip")])
    (row,) = run("status", "--state", "own.duckdb").rows
    assert (row[5], row[6]) == ("killed", "")
    alarm = run("status", "--state", "own.duckdb", "--max-age", "0.0001")
    assert ": killed." in alarm.err


def test_a_config_without_targets_uses_the_environment(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The places of such a config are found by the keys of the environment, or else by their names."""
    Path("aiobatch.toml").write_text('[audiences.vip]\nsource = "users.csv"\ncreate = true\n')
    write(["a"])
    run("run")
    (found,) = places(run).values()
    assert (found["members"], found["last_attempt"]["exit_code"]) == (1, 0)
    monkeypatch.delenv("BATCH_PROJECT_KEY")
    (found,) = places(run).values()
    assert (found["members"], found["last_attempt"]["exit_code"]) == (1, 0)
    assert run("status", "--target", "x").code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("ahead", "why"), [(0, None), (3600, None), (-3600 * 30, "ago"), (3600 * 30, "future")]
)
def test_a_wrong_clock_does_not_silence_the_alarm(ahead: int, why: str | None) -> None:
    """A success that is far in the future is as suspicious as an old one."""
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    place = PlaceStatus(audience="vip", target=None, last_success=now + dt.timedelta(seconds=ahead))
    found = place.overdue(now, 26 * 3600.0)
    assert (found is None) == (why is None)
    assert why != "future" or "(in the future)" in str(found)


def test_the_latest_outcome_is_of_a_run_or_of_an_attempt() -> None:
    """A run may have been settled since its attempt, and a program's run has no attempt."""
    now = dt.datetime.now(dt.UTC)
    settled = PlaceStatus(
        audience="vip", target="web", key="k", outcome=RunOutcome.DONE, last_run=3, last_success=now
    )
    failed = Attempt(command="sync", audience="vip", outcome=RunOutcome.FAILED)
    earlier = now - dt.timedelta(hours=1)

    def last(**values: Any) -> RunOutcome | None:
        return attrs.evolve(settled, last_attempt=attrs.evolve(failed, **values)).last_outcome

    assert settled.last_outcome is RunOutcome.DONE
    assert last(started=now + dt.timedelta(hours=1)) is RunOutcome.FAILED
    assert last(started=earlier) is RunOutcome.DONE
    assert last(run=3, outcome=RunOutcome.NOT_APPLIED) is RunOutcome.DONE
    assert settled.label == "vip → web"


def test_the_alarm_of_the_guide_works_from_an_empty_environment(run: Run, config: str, workdir: Path) -> None:
    """Cron's line needs no variable, no home and no keys."""
    Path("aiobatch.toml").write_text(CONFIG.replace("${STATE_DIR}", "state"), encoding="utf-8")
    run("run")
    command = [
        sys.executable,
        "-m",
        "aiobatch",
        "status",
        "--config",
        str(workdir / config),
        "--max-age",
        "26h",
    ]
    done = subprocess.run(["env", "-i", *command], cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (ExitCode.OVERDUE, "")
    assert done.stderr.startswith("aiobatch: lost → web: never loaded")
    fine = [*command, "--target", "ios"]
    done = subprocess.run(["env", "-i", *fine], cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_attempts_of_a_whole_config_are_no_place(run: Run, sandbox: Sandbox) -> None:
    """Without a config, an attempt that could not read its config is about no audience."""
    run("sync", "vip", write(["a"]), "--create", "--state", "own.duckdb")
    record_attempts(Path("own.duckdb"), [Attempt(command="run", config="/a.toml")])
    assert len(run("status", "--state", "own.duckdb").rows) == 1


def test_runs_without_an_end_are_open() -> None:
    """A run that is not settled, and whose outcome is unknown, is open."""
    now = dt.datetime.now(dt.UTC)
    place = PlaceStatus(audience="vip", target="web", last_run=1, open_run=1, open_ids={"sending": 1200})
    row = StatusRecord.of(place, now).row()
    assert (row["outcome"], row["open"], row["open_total"]) == ("open", "1,200 sending", 1200)


def test_a_config_that_cannot_be_read_has_no_known_state(run: Run, sandbox: Sandbox) -> None:
    """A command is not recorded anywhere if the config that names its state is no TOML."""
    Path("aiobatch.toml").write_text("[", encoding="utf-8")
    assert run("sync", "vip").code == ExitCode.USAGE
    assert not list(Path().rglob("*.attempts"))


def _samples(text: str) -> dict[str, float]:
    families = text_string_to_metric_families(text)
    return {
        " ".join([sample.name.removeprefix("aiobatch_"), *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_prometheus_format(run: Run, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, a scraper reads each place of the config, also one that was never loaded."""
    run("run", config, "--quiet")
    _without_keys(monkeypatch)
    result = run("status", "--format", "prometheus", "--config", config)
    assert result.code == ExitCode.DONE
    samples = _samples(result.out)
    now = dt.datetime.now(dt.UTC).timestamp()
    assert samples["members vip web"] == 5
    assert samples["last_attempt_exit_code vip ios"] == 0
    assert samples["last_run vip web"] >= 1
    assert samples["open_ids vip web"] == 0
    assert now - 600 < samples["last_success_timestamp_seconds vip web"] < now + 1
    assert samples["last_success_timestamp_seconds lost web"] == 0
    assert samples["last_attempt_exit_code lost web"] == ExitCode.BAD_SOURCE
    assert "members lost web" not in samples
    assert samples["state_readable"] == 1


def test_prometheus_format_with_an_alarm(run: Run, config: str) -> None:
    """The metrics of all places are printed, whatever the exit code."""
    run("run", config, "--quiet")
    result = run("status", "--format", "prometheus", "--config", config, "--max-age", "1h")
    assert result.code == ExitCode.OVERDUE
    assert _samples(result.out)["open_ids vip web"] == 0


def test_prometheus_format_of_a_broken_state(run: Run, workdir: Path) -> None:
    """A state that cannot be read is a metric too, beside the error."""
    (workdir / "state.duckdb").write_bytes(b"no database" * 1000)
    result = run("status", "--format", "prometheus", "--state", "state.duckdb")
    assert result.code != ExitCode.DONE
    assert _samples(result.out) == {"state_readable": 0}


def test_prometheus_labels_are_escaped() -> None:
    """A name with quotes, backslashes and control characters is read back, and a missing target is empty."""
    places = [PlaceStatus(audience="vip", target='a "b" \\ c\nd'), PlaceStatus(audience="vip", target=None)]
    samples = _samples("\n".join(exposition(places, is_readable=True)) + "\n")
    assert samples['open_ids vip a "b" \\ c d'] == 0
    assert samples["open_ids vip "] == 0


def test_prometheus_format_or_json(run: Run) -> None:
    """Both formats at once are a usage error."""
    result = run("status", "--format", "prometheus", "--json")
    assert result.code == ExitCode.USAGE
    assert "--json and --format exclude each other" in result.err


def test_audiences_on_object_storage_are_live_one_by_one(run: Run, sandbox: Sandbox) -> None:
    """The attempt of the audience that a process holds is running, and that of another one was killed."""
    Path("store").mkdir()
    state = f"file://{Path('store').absolute()}"
    for name in ("vip", "trial"):
        run("sync", name, write(["a"]), "--create", "--state", state)
        record_attempts(StateUrl(state), [Attempt(command="sync", audience=name)])
    store = open_store(state)
    target = TargetKey.of(Project.from_env())
    lease = Place(target.digest, target.audience_key("vip")).lease
    found = store.get(lease)
    assert found is not None
    held = attrs.evolve(LeaseObject.from_json(found.data, state), who={"pid": 1}, beat=99)
    store.replace(lease, held.to_json(), found.tag)
    result = run("status", "--state", state)
    shown = [dict(zip(result.heading, row, strict=True)) for row in result.rows]
    assert {one["audience"]: one["outcome"] for one in shown} == {"vip": "running", "trial": "killed"}
    assert "vip → " in result.err
    assert result.err.count("a run is in progress") == 1
    records = run("status", "--state", state, "--json").objects
    assert {row["audience"]: row["live"] for row in records} == {"vip": True, "trial": False}
