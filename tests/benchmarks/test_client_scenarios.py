"""The scenarios of the client run with small numbers. `make bench` measures the speed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import attrs
import orjson
import pytest

pytest.importorskip("httpx", reason="httpx is not installed: make .venv/.bench")
pytest.importorskip("requests", reason="requests is not installed: make .venv/.bench")

from benchmarks.__main__ import main
from benchmarks.contenders import AIOBATCH_1X, AIOBATCH_2X, CONTENDERS, Contender, aiobatch_client, by_hand
from benchmarks.measure.processes import run_in_subprocess, running_server
from benchmarks.measure.resources import check, quantile
from benchmarks.measure.server_control import Order
from benchmarks.results.comparison import Comparison
from benchmarks.results.scenario import Scenario
from benchmarks.scenarios._registry import PARTS, SCENARIOS
from benchmarks.scenarios.client import Import, Upload, ViewMany
from benchmarks.scenarios.cloud_source import CloudSource
from benchmarks.scenarios.commands import Commands
from benchmarks.scenarios.idle import IdleWaits
from benchmarks.scenarios.object_state import ObjectState
from benchmarks.scenarios.sandboxed_tests import SandboxedTests
from benchmarks.scenarios.telemetry import Telemetry
from benchmarks.scenarios.tokens import (
    WaitComparison,
    aiobatch_alone,
    cpu_beside_azure,
    lag_beside_bound,
)
from benchmarks.servers.stub import StubServer

_FAST = Order(tokens=5, indexing=(0.1, 0.4), latency=0.001)


def _small(name: str, *names: str, order: Order = _FAST, waiters: int = 1) -> WaitComparison:
    """Return a scenario of the registry with few tokens and contenders."""
    scenario = SCENARIOS[name]
    assert isinstance(scenario, WaitComparison)
    contenders = tuple(contender for contender in CONTENDERS if contender.name in names)
    return attrs.evolve(scenario, contenders=contenders, order=order, waiters=waiters)


SMALL: dict[str, Scenario] = {
    "tokens": _small("tokens", AIOBATCH_2X, "aiohttp by hand"),
    "one_token": _small("one_token", AIOBATCH_1X, order=attrs.evolve(_FAST, tokens=1), waiters=4),
    "outage": _small(
        "outage", AIOBATCH_2X, order=attrs.evolve(_FAST, indexing=(1.0, 1.2), outage=(0.6, 0.8))
    ),
    "view_many": ViewMany(views=60, views_httpx=30, concurrency=5),
    "upload": Upload(ids=25_000, in_flight=2),
    "import": Import(),
    "commands": Commands(ids=1_000),
    "sandboxed_tests": SandboxedTests(tests=2),
    "idle_waits": IdleWaits(waits=(50,), seconds=0.1),
    "cloud_source": CloudSource(ids=2_000),
    "object_state": ObjectState(ids=2_000),
}


def test_every_scenario_is_tested() -> None:
    """Each scenario is named in a test of this folder."""
    folder = Path(__file__).parent
    tests = "".join(path.read_text(encoding="utf-8") for path in folder.glob("test_*.py"))
    assert {name for name in SCENARIOS if f'"{name}"' not in tests} == set()


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", SMALL)
def test_scenario_has_all_values(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A scenario runs once, and each of its rows has a value."""
    main([name, "--rounds", "1", "--json"], SMALL)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["scenario"] for row in rows} == {name}
    assert all(row["value"] is not None for row in rows if not row["what"].startswith("memory growth"))


def test_both_sides_upload_the_same() -> None:
    """Aiobatch and the loop send the same IDs in as many requests, by the server's count."""
    with running_server() as url:
        client = run_in_subprocess(aiobatch_client.upload, url=url, count=20_001)
        loop = run_in_subprocess(by_hand.upload, url=url, count=20_001, in_flight=2)
    assert client["requests"] == loop["requests"] == 3
    assert client["ids"] == loop["ids"] == 20_001


def test_waits_are_counted_by_the_server() -> None:
    """A wait whose first poll finds APPLIED costs one request."""
    order = attrs.asdict(Order(tokens=3))
    with running_server() as url:
        loop = run_in_subprocess(by_hand.await_tokens, url=url, order=order, version="2.11")
    assert (loop["requests"], loop["requests_a_token"], loop["lost"]) == (3, 1, 0)
    assert loop["lag_p99"] >= loop["lag_mean"] >= 0


def test_lost_waits_are_counted(capfd: pytest.CaptureFixture[str]) -> None:
    """A wait that ends with an error is lost and has no lag. The error is printed."""
    order = attrs.asdict(Order(tokens=3, outage=(0, 60)))
    with running_server() as url:
        loop = run_in_subprocess(by_hand.await_tokens, url=url, order=order, version="1.0")
    assert (loop["requests"], loop["lost"]) == (3, 3)
    assert "lag_mean" not in loop
    assert "waits lost: 3 by ClientResponseError" in capfd.readouterr().err


def test_check_fails_for_other_counts() -> None:
    """A contender that did other work than asked fails."""
    check("requests", 3, 3)
    with pytest.raises(RuntimeError, match="requests: 2 instead of 3"):
        check("requests", 2, 3)


def test_quantile_is_one_of_the_values() -> None:
    """The p99 of a hundred values is the last one, and of one value it is that value."""
    assert quantile(range(100), 0.99) == 99
    assert quantile([7.0], 0.5) == 7.0


def test_tokens_has_the_agreed_targets() -> None:
    """Aiobatch has targets with both APIs, and may lose no wait."""
    scenario = SCENARIOS["tokens"]
    assert isinstance(scenario, WaitComparison)
    bounds = {
        who: {key: target.bound for key, target in targets.items()}
        for who, targets in scenario.targets.items()
    }
    assert bounds == {
        AIOBATCH_2X: {"requests_a_token": 1.12, "lag_mean": 0.3, "late_above": 1.5, "lost": 0},
        AIOBATCH_1X: {"lost": 0},
    }


def test_cpu_is_compared_with_azure_core() -> None:
    """The round of both counts. Without azure-core there is no row."""
    ours = [{"cpu": 1.0}, {"cpu": 9.0}]
    (row,) = cpu_beside_azure("tokens", Order(), {AIOBATCH_2X: ours, "azure-core": [{"cpu": 20.0}]})
    assert (row.ratio, row.reached) == (0.05, True)
    assert cpu_beside_azure("tokens", Order(), {AIOBATCH_2X: ours}) == []


@pytest.mark.parametrize(("lag", "reached"), [(0.35, False), (0.33, True)])
def test_lag_is_compared_with_the_bound(lag: float, reached: bool) -> None:
    """With 1.5 views of a token that takes up to a second, 0.23 s are the least."""
    order = Order(indexing=(0.0, 1.0), latency=0.1)
    (row,) = lag_beside_bound("tokens", order, {AIOBATCH_1X: [{"requests_a_token": 1.5, "lag_mean": lag}]})
    assert row.value == pytest.approx(lag - 0.1)
    assert row.reached is reached
    assert row.baseline_value == pytest.approx(0.23, abs=0.005)
    assert lag_beside_bound("tokens", order, {}) == []


def test_burst_after_an_outage_is_counted() -> None:
    """It is the busiest 100 ms after the outage, as a multiple of the busiest before."""
    server = StubServer()
    assert server.answer("GET", "/control", b"")[1].find(b'"burst":null') > 0
    now = time.time()
    server.answer("POST", "/control", orjson.dumps({"tokens": 1, "outage": (0.5, 1.0)}))
    with pytest.MonkeyPatch.context() as patch:
        for seconds, requests in ((0.0, 2), (0.7, 9), (2.0, 3)):
            patch.setattr(time, "time", lambda seconds=seconds: now + seconds)
            for _ in range(requests):
                server.answer("GET", "/2.11/audiences/view?name=a0", b"")
    assert orjson.loads(server.answer("GET", "/control", b"")[1])["burst"] == 1.5


def test_parts_measure_aiobatch_alone() -> None:
    """The parts of `tokens` have only aiobatch and the same targets."""
    scenario = SCENARIOS["tokens"]
    assert isinstance(scenario, WaitComparison)
    assert PARTS["tokens_2x"] == aiobatch_alone(scenario, AIOBATCH_2X)
    assert PARTS["tokens_1x"] == aiobatch_alone(scenario, AIOBATCH_1X)
    assert [contender.name for contender in aiobatch_alone(scenario, AIOBATCH_1X).contenders] == [AIOBATCH_1X]


def test_missing_and_failing_peers_are_named() -> None:
    """A peer that is not installed or fails is left out, with a note."""
    absent = Contender(
        name="absent", how="", module="nowhere", requirement="absent[it]>=1", packages=("aiobatch-absent",)
    )
    broken = Contender(name="broken", how="", module="benchmarks.workload.ids")
    scenario = attrs.evolve(_small("tokens"), contenders=(absent, broken))
    (comparison,) = scenario.run("tokens", 1)
    assert isinstance(comparison, Comparison)
    assert comparison.lines == ()
    assert comparison.left_out == (
        "absent: skipped, not installed: pip install 'absent[it]>=1'",
        "broken: failed, with a traceback on standard error",
    )


def test_failure_of_aiobatch_fails_the_scenario() -> None:
    """If aiobatch fails, the scenario fails."""
    broken = Contender(name=AIOBATCH_2X, how="", module="benchmarks.workload.ids")
    with pytest.raises(Exception, match="non-zero exit status"):
        attrs.evolve(_small("tokens"), contenders=(broken,)).run("tokens", 1)


@pytest.mark.sweep
def test_telemetry_compares_hooks() -> None:
    """Each hook has its seconds, with and without latency, and its CPU beside those without a hook."""
    scenario = SCENARIOS["telemetry"]
    assert isinstance(scenario, Telemetry)
    rows = attrs.evolve(scenario, views=8, blocks=2, latency=0.001).run("telemetry", 1)
    hooks = ["Prometheus", "OpenTelemetry, metrics", "OpenTelemetry, traces and metrics"]
    assert [row.what.rpartition(": ")[2] for row in rows] == hooks * 3
    assert {row.baseline for row in rows} == {"no hook"}
    assert [row.target is not None for row in rows] == [True] * 6 + [False] * 3
