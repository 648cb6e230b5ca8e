"""Every scenario of the sync engine runs and counts right, with small numbers; see test_benchmarks."""

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
from benchmarks.contenders import aiobatch_sync as _sync_ours
from benchmarks.contenders import sync_by_hand as _sync_rival
from benchmarks.results.scenario import Scenario
from benchmarks.scenarios.sync import (
    Again,
    BesideLoop,
    Load,
    PlanOnly,
    Rate,
    _most,
    extrapolate,
    sync_scenarios,
)
from benchmarks.servers.sync_stub import NAME, AudienceStandIn, SyncOrder
from benchmarks.workload.id_files import changed, ids_file

_IDS = 25_000

SMALL: dict[str, Scenario] = {
    "sync_load": Load(ids=_IDS),
    "sync_delta": Again(ids=_IDS, changed=changed(_IDS), seconds=12),
    "sync_nothing": Again(ids=_IDS, changed=0, seconds=6),
    "sync_rate": Rate(chunks=10, chunk=10, rate=50),
    "sync_plan": PlanOnly(ids=2_000, shares=(0.5, 1.0), on_paper=10_000),
    "sync_rival": BesideLoop(ids=_IDS),
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the files of ids out of the user's cache."""
    monkeypatch.setattr(
        "benchmarks.workload.id_files.platformdirs.user_cache_path",
        lambda name: tmp_path_factory.getbasetemp() / name,
    )


def _rows(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    """Run a small scenario; return its rows by what they say."""
    main([name, "--rounds", "1", "--json"], SMALL)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["scenario"] for row in rows} == {name}
    assert all(row["ours"] is not None for row in rows)
    return {row["what"]: row for row in rows}


def test_every_scenario_has_a_small_form() -> None:
    """No scenario goes without a test."""
    assert SMALL.keys() == sync_scenarios().keys()


@pytest.mark.parametrize(("name", "calls"), [("sync_load", 3), ("sync_delta", 1), ("sync_nothing", 0)])
def test_a_job_makes_the_fewest_calls(name: str, calls: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A load, a difference and no difference take as many write calls as their ids fill, and no more."""
    rows = _rows(name, capsys)
    assert rows["write calls"]["ours"] == calls
    assert rows["write calls"]["reached"] is True
    assert all(row["reached"] is None for what, row in rows.items() if what != "write calls")


def test_a_rate_is_counted_by_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    """All chunks are sent, and what is used of the limit is a share of it."""
    rows = _rows("sync_rate", capsys)
    assert rows["of them write calls, the others are polls and looks"]["ours"] == 10
    used = next(row for what, row in rows.items() if what.endswith("of the limit is used, %"))
    assert isinstance(used["ours"], float)
    assert used["ours"] > 0


def test_a_plan_has_a_curve(capsys: pytest.CaptureFixture[str]) -> None:
    """Each size has its memory and its seconds, and the line through them ends on paper."""
    rows = _rows("sync_plan", capsys)
    assert [what for what in rows if "peak" in what] == [
        "1,000 ids against as many, peak bytes",
        "2,000 ids against as many, peak bytes",
        "10,000 on paper, along the last two, peak bytes",
    ]


def test_the_loop_sends_all_and_empties_the_audience(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours sends what differs; the loop sends everything, and leaves one chunk of members meanwhile."""
    rows = _rows("sync_rival", capsys)
    calls, fewest = (
        rows["250 of them in and out, write calls"],
        rows["250 of them in and out, fewest members meanwhile"],
    )
    assert (calls["ours"], calls["theirs"]) == (1, 3)
    assert (fewest["ours"], fewest["theirs"]) == (_IDS, 10_000)


def test_files_share_the_ids_of_shared_numbers() -> None:
    """Two ranges of numbers have in common what they overlap by; every id has 37 characters."""
    before, after = _ids(ids_file(0, 1000)), _ids(ids_file(10, 1010))
    assert len(before) == len(after) == 1000
    assert len(before & after) == 990
    assert {len(id_) for id_ in before | after} == {37}


async def test_ours_brings_a_sandbox_in_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours leaves exactly the ids of each file, in a server that checks all that Batch checks."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    project = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
    async with running_sandbox() as sandbox, AudienceClient(project, base_url=sandbox.url) as client:
        await _create(client)
        for source in (ids_file(0, 1000), ids_file(10, 1010)):
            await _sync_ours.mirror(client, str(source), str(tmp_path / "state.duckdb"), chunk=400)
            assert set(sandbox.members(NAME)) == _ids(source)


async def test_the_loop_brings_a_sandbox_in_line() -> None:
    """The loop does too, so that it is no straw man."""
    source = ids_file(0, 12_000, "csv")
    project = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
    sandbox_at_once = running_sandbox(indexing_delay=0.0)
    async with sandbox_at_once as sandbox, AudienceClient(project, base_url=sandbox.url) as client:
        await _create(client)
        with requests.Session() as session:
            session.headers.update(
                {"Authorization": f"Bearer {REST_API_KEY}", "X-Batch-Project": PROJECT_KEY}
            )
            await asyncio.to_thread(_sync_rival.mirror, session, sandbox.url, source)
        assert set(sandbox.members(NAME)) == _ids(source)


def test_the_server_counts_members() -> None:
    """A replace states the members, an update adds and removes, and the fewest are remembered."""
    server = AudienceStandIn()
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


def test_the_server_enforces_its_rate() -> None:
    """A second's worth of requests passes at once; the next one is refused, counted, and writes nothing."""
    server = AudienceStandIn()
    server.answer("POST", "/control", _order(rate=3))
    body = b'{"ids":[{"action":"add","id":"u1"}]}'
    statuses = [server.answer("POST", "/2.11/audiences/update", body)[0] for _ in range(4)]
    counts = orjson.loads(server.answer("GET", "/control", b"")[1])
    assert statuses == [202, 202, 202, 429]
    assert (counts["admitted"], counts["too_many"], counts["members"]) == (3, 1, 3)


def test_a_line_goes_on_and_never_falls() -> None:
    """The last two points make the line; where they fall it is level."""
    assert extrapolate([(1, 90.0), (10, 100.0), (20, 110.0)], 100) == 190.0
    assert extrapolate([(10, 100.0), (20, 90.0)], 100) == 90.0


@pytest.mark.parametrize(
    ("ids", "load", "plan", "rival"),
    [(None, 10_000_000, 20_000_000, 1_000_000), (20_000, 20_000, 20_000, 20_000)],
)
def test_a_size_holds_for_all(ids: int | None, load: int, plan: int, rival: int) -> None:
    """A size holds for every scenario that has ids; else each has what its target speaks of."""
    scenarios = sync_scenarios(ids)
    assert scenarios["sync_load"] == Load(ids=load)
    assert scenarios["sync_delta"] == Again(ids=load, changed=load // 100, seconds=12)
    assert scenarios["sync_plan"] == PlanOnly(ids=plan)
    assert scenarios["sync_rival"] == BesideLoop(ids=rival)


def test_targets_hold_at_full_size() -> None:
    """What may be taken is said of ten million ids only."""
    assert _most(10_000_000, 40).keys() == {"seconds", "peak"}
    assert not _most(1_000_000, 40)


def _ids(source: Path) -> set[str]:
    """Read the ids of a file."""
    with duckdb.connect() as connection:
        return {id_ for (id_,) in connection.execute(f"SELECT id FROM '{source}'").fetchall()}


async def _create(client: AudienceClient) -> None:
    """Make the audience of the benchmarks."""
    token = await client.create(NAME)
    assert token is not None
    await client.await_applied(token)


def _order(**fields: float) -> bytes:
    """Write an order to the server."""
    return orjson.dumps(attrs.asdict(SyncOrder(**fields)))  # type: ignore[arg-type]  # fields of any type
