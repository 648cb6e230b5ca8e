"""The scenarios of the sync engine run with small numbers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import attrs
import duckdb
import orjson
import pytest

pytest.importorskip("httpx", reason="httpx is not installed: make .venv/.bench")
pytest.importorskip("requests", reason="requests is not installed: make .venv/.bench")

import requests

from aiobatch import AudienceClient, Project
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY
from aiobatch.testing import running_sandbox
from benchmarks.__main__ import main
from benchmarks.contenders import aiobatch_sync, sync_by_hand
from benchmarks.results.scenario import Scenario
from benchmarks.scenarios._registry import PARTS, SCENARIOS
from benchmarks.scenarios.huge import Huge, LittleMemory, calls_of, huge_scenarios
from benchmarks.scenarios.many_audiences import ManyAudiences
from benchmarks.scenarios.sync import (
    Load,
    PlanOnly,
    Rate,
    RepeatedSync,
    SyncBaseline,
    _most,
    extrapolate,
    sync_scenarios,
)
from benchmarks.servers.sync_stub import NAME, AudienceStubServer, SyncOrder
from benchmarks.workload.id_files import changed, ids_file

_IDS = 25_000

SMALL: dict[str, Scenario] = {
    "sync_huge": Huge(ids=_IDS),
    "sync_little_memory": LittleMemory(ids=_IDS),
    "sync_load": Load(ids=_IDS),
    "sync_delta": RepeatedSync(ids=_IDS, changed=changed(_IDS), seconds=12, scans=9),
    "sync_nothing": RepeatedSync(ids=_IDS, changed=0, seconds=6, scans=9),
    "sync_rate": Rate(chunks=10, chunk=10, rate=50),
    "sync_plan": PlanOnly(ids=2_000, shares=(0.5, 1.0), extrapolated=10_000),
    "sync_baseline": SyncBaseline(ids=_IDS),
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the files of IDs out of the user's cache."""
    monkeypatch.setattr(
        "benchmarks.workload.id_files.platformdirs.user_cache_path",
        lambda name: tmp_path_factory.getbasetemp() / name,
    )


def _rows(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    """Run a small scenario and return its rows by measure."""
    main([name, "--rounds", "1", "--json"], SMALL)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["scenario"] for row in rows} == {name}
    assert all(row["value"] is not None for row in rows)
    return {row["what"]: row for row in rows}


def test_every_scenario_is_tested() -> None:
    """Each scenario has a small form here."""
    assert SMALL.keys() == sync_scenarios().keys() | huge_scenarios().keys()


@pytest.mark.parametrize(("name", "calls"), [("sync_load", 3), ("sync_delta", 1), ("sync_nothing", 0)])
def test_job_makes_the_fewest_calls(name: str, calls: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A load, a change and no change make only as many write calls as their IDs need."""
    rows = _rows(name, capsys)
    assert rows["write calls"]["value"] == calls
    assert rows["write calls"]["reached"] is True
    assert all(row["reached"] is None for what, row in rows.items() if what != "write calls")


@pytest.mark.sweep
def test_huge_jobs_make_the_fewest_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """A load, no change and 1 % of changes make as many calls as their IDs need. Only calls have targets."""
    rows = _rows("sync_huge", capsys)
    calls = [row["value"] for what, row in rows.items() if what.endswith("write calls")]
    assert calls == [3, 0, 1]
    assert [row["reached"] for row in rows.values()].count(True) == 3
    assert [calls_of(job, 100_000_000) for job in ("load", "nothing", "delta")] == [10_000, 0, 200]


@pytest.mark.sweep
def test_little_memory_is_compared_with_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Each job has its seconds, their share of those of the default limit, and its memory."""
    rows = _rows("sync_little_memory", capsys)
    assert len([what for what in rows if "times the seconds of the default limit" in what]) == 3
    assert len([what for what in rows if what.endswith("peak bytes")]) == 3


def test_huge_scenarios_have_targets_at_full_size_and_run_by_name_alone() -> None:
    """The default run has neither of them. A number of IDs applies to both."""
    assert not huge_scenarios().keys() & SCENARIOS.keys()
    assert huge_scenarios().items() <= PARTS.items()
    assert huge_scenarios(20_000) == {
        "sync_huge": Huge(ids=20_000),
        "sync_little_memory": LittleMemory(ids=20_000),
    }


def test_sync_rate_sends_all_chunks(capsys: pytest.CaptureFixture[str]) -> None:
    """All chunks are sent, and the used share of the limit is measured."""
    rows = _rows("sync_rate", capsys)
    assert rows["of which write calls"]["value"] == 10
    used = next(row for what, row in rows.items() if what.endswith("used share of the limit, %"))
    assert isinstance(used["value"], float)
    assert used["value"] > 0


@pytest.mark.sweep
def test_sync_plan_is_extrapolated(capsys: pytest.CaptureFixture[str]) -> None:
    """Each size has memory and seconds, and the last row is extrapolated."""
    rows = _rows("sync_plan", capsys)
    assert [what for what in rows if "peak" in what] == [
        "1,000 IDs, peak bytes",
        "2,000 IDs, peak bytes",
        "10,000 IDs, extrapolated from the last two, peak bytes",
    ]


@pytest.mark.sweep
def test_baseline_sends_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Aiobatch sends only changes. The loop sends everything and leaves one chunk meanwhile."""
    rows = _rows("sync_baseline", capsys)
    calls, fewest = (
        rows["250 of them added and removed, write calls"],
        rows["250 of them added and removed, fewest members during the run"],
    )
    assert (calls["value"], calls["baseline_value"]) == (1, 3)
    assert (fewest["value"], fewest["baseline_value"]) == (_IDS, 10_000)


def test_id_files_share_the_ids_of_common_numbers() -> None:
    """Overlapping ranges of numbers share IDs, and every ID has 37 characters."""
    before, after = _ids(ids_file(0, 1000)), _ids(ids_file(10, 1010))
    assert len(before) == len(after) == 1000
    assert len(before & after) == 990
    assert {len(id_) for id_ in before | after} == {37}


async def test_aiobatch_syncs_a_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aiobatch leaves exactly the IDs of each file in the sandbox."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    project = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
    async with running_sandbox() as sandbox, AudienceClient(project, base_url=sandbox.url) as client:
        await _create(client)
        for source in (ids_file(0, 1000), ids_file(10, 1010)):
            await aiobatch_sync.mirror(client, str(source), str(tmp_path / "state.duckdb"), chunk=400)
            assert set(sandbox.members(NAME)) == _ids(source)


async def test_baseline_syncs_a_sandbox() -> None:
    """The loop does the same, so that it is a fair baseline."""
    source = ids_file(0, 12_000, "csv")
    project = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
    sandbox_at_once = running_sandbox(indexing_delay=0.0)
    async with sandbox_at_once as sandbox, AudienceClient(project, base_url=sandbox.url) as client:
        await _create(client)
        with requests.Session() as session:
            session.headers.update(
                {"Authorization": f"Bearer {REST_API_KEY}", "X-Batch-Project": PROJECT_KEY}
            )
            await asyncio.to_thread(sync_by_hand.mirror, session, sandbox.url, source)
        assert set(sandbox.members(NAME)) == _ids(source)


def test_stub_counts_members() -> None:
    """The stub counts the members after replaces and updates, and records the fewest."""
    server = AudienceStubServer()
    server.answer("POST", "/control", _order(members=5))
    for operation, body in (
        ("replace", {"ids": [{"id": "u1"}, {"id": "u2"}]}),
        ("update", {"ids": [{"action": "add", "id": "u3"}]}),
        ("update", {"ids": [{"action": "add", "id": "u4"}, {"action": "remove", "id": "u1"}]}),
    ):
        server.answer("POST", f"/2.11/audiences/{operation}", json.dumps(body).encode())
    counts = orjson.loads(server.answer("GET", "/control", b"")[1])
    assert (counts["members"], counts["lowest"], counts["ids"]) == (3, 2, 5)
    view = orjson.loads(server.answer("GET", f"/2.11/audiences/view?name={NAME}", b"")[1])
    assert (view["nb_ids"], view["indexing_state"]) == (3, "APPLIED")


def test_stub_enforces_its_rate() -> None:
    """One second's requests are admitted at once. The next one is refused, counted and writes nothing."""
    server = AudienceStubServer()
    server.answer("POST", "/control", _order(rate=3))
    body = b'{"ids":[{"action":"add","id":"u1"}]}'
    statuses = [server.answer("POST", "/2.11/audiences/update", body)[0] for _ in range(4)]
    counts = orjson.loads(server.answer("GET", "/control", b"")[1])
    assert statuses == [202, 202, 202, 429]
    assert (counts["admitted"], counts["too_many"], counts["members"]) == (3, 1, 3)


def test_extrapolation_never_falls() -> None:
    """The last two points define the line. If it falls, it is level."""
    assert extrapolate([(1, 90.0), (10, 100.0), (20, 110.0)], 100) == 190.0
    assert extrapolate([(10, 100.0), (20, 90.0)], 100) == 90.0


@pytest.mark.parametrize(
    ("ids", "load", "plan", "baseline"),
    [(None, 10_000_000, 20_000_000, 1_000_000), (20_000, 20_000, 20_000, 20_000)],
)
def test_number_of_ids_applies_to_all_scenarios(ids: int | None, load: int, plan: int, baseline: int) -> None:
    """A number of IDs applies to each scenario. Otherwise each has its own."""
    scenarios = sync_scenarios(ids)
    assert scenarios["sync_load"] == Load(ids=load)
    assert scenarios["sync_delta"] == RepeatedSync(ids=load, changed=load // 100, seconds=7, scans=2.5)
    assert scenarios["sync_plan"] == PlanOnly(ids=plan)
    large = PlanOnly(ids=300_000_000, shares=(1 / 3, 1.0), extrapolated=1_000_000_000)
    assert sync_scenarios(300_000_000)["sync_plan"] == large
    assert scenarios["sync_baseline"] == SyncBaseline(ids=baseline)


def test_targets_apply_at_full_size() -> None:
    """Seconds and bytes have targets for ten million IDs only."""
    assert _most(10_000_000, 40, scans=4).keys() == {"seconds", "scans", "peak"}
    assert not _most(1_000_000, 40, scans=4)


def _ids(source: Path) -> set[str]:
    """Return the IDs of a file."""
    with duckdb.connect() as connection:
        return {id_ for (id_,) in connection.execute(f"SELECT id FROM '{source}'").fetchall()}


async def _create(client: AudienceClient) -> None:
    """Create the audience of the benchmarks."""
    token = await client.create(NAME)
    assert token is not None
    await client.await_applied(token)


def _order(**fields: float) -> bytes:
    """Return an order as JSON."""
    return orjson.dumps(attrs.asdict(SyncOrder(**fields)))  # type: ignore[arg-type]  # fields of any type


@pytest.mark.sweep
def test_a_config_of_many_audiences_is_beside_its_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides write each audience once, and the rows have the CPU of each. Only calls have a target."""
    main(["sync_many", "--rounds", "1", "--json"], {"sync_many": ManyAudiences(audiences=3, ids=10, jobs=2)})
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["3 audiences of 10 IDs, seconds"]["ratio"] > 0
    assert rows["CPU per audience, ms"]["value"] > 0
    assert (rows["write calls"]["value"], rows["requests"]["value"]) == (3, 12)
    assert [row["reached"] for row in rows.values()].count(True) == 1


def test_many_audiences_have_the_agreed_targets() -> None:
    """At full size, the scenario is the issue's line."""
    full = SCENARIOS["sync_many"]
    assert isinstance(full, ManyAudiences)
    assert (full.audiences, full.ids) == (500, 2_000)
    assert {key: (target.bound, target.of) for key, target in full.targets.items()} == {
        "seconds": (1.2, "ratio"),
        "each": (25, "value"),
    }


def test_the_stub_counts_the_members_of_each_audience() -> None:
    """Writes to one audience leave the count of another."""
    stub = AudienceStubServer()
    for name in ("a", "b", "b"):
        body = orjson.dumps({"name": name, "ids": [{"action": "add", "id": "u1"}]})
        stub.answer("POST", "/2.11/audiences/update", body)
    views = (stub.answer("GET", f"/2.11/audiences/view?name={name}", b"")[1] for name in ("a", "b", "c"))
    assert [orjson.loads(view)["nb_ids"] for view in views] == [1, 2, 0]
