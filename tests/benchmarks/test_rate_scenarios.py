"""The scenarios of rate limits run with small numbers, and the models of limiters keep their rates."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

pytest.importorskip("httpx", reason="httpx is not installed: make .venv/.bench")
pytest.importorskip("requests", reason="requests is not installed: make .venv/.bench")

from benchmarks.__main__ import main
from benchmarks.results.scenario import Scenario
from benchmarks.scenarios.rate import SharedBudget, UnknownRate, rate_scenarios
from benchmarks.servers.rate_limiters import LIMITERS
from benchmarks.simulation.rate_discovery import Answer, Case, best_steady, fairness, refused, simulate, used
from benchmarks.simulation.virtual_loop import HaltingExecutor, VirtualClock, run_virtually

SMALL: dict[str, Scenario] = {
    "unknown_rate": UnknownRate(
        rates=(5, 20),
        limiters=("bucket of 1", "fixed window"),
        seconds=60,
        settled=30,
        fleets=(1, 2),
        fleet_rates=(5,),
    ),
    "shared_budget": SharedBudget(ids=2_000, chunk=100),
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the files of IDs out of the user's cache."""
    monkeypatch.setattr(
        "benchmarks.workload.id_files.platformdirs.user_cache_path",
        lambda name: tmp_path_factory.getbasetemp() / name,
    )


def test_every_scenario_is_tested() -> None:
    """Each scenario has a small form here."""
    assert SMALL.keys() == rate_scenarios().keys()


@pytest.mark.sweep
def test_unknown_rate_has_four_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """The tables of used shares and of 429 have targets for their worst cells. The others have none."""
    main(["unknown_rate", "--rounds", "1", "--json"], SMALL)
    output = json.loads(capsys.readouterr().out)
    assert [len(comparison["lines"]) for comparison in output["comparisons"]] == [2, 2, 4, 9]
    assert [row["what"] for row in output["rows"]] == [
        "the smallest used share, %",
        "the largest share of 429, %",
        "the smallest used share of clients with a shared limit, %",
    ]
    use = [value for line in output["comparisons"][0]["lines"] for value in line["values"]]
    assert output["rows"][0]["value"] == min(use)


def test_shared_budget_makes_the_fewest_requests(capsys: pytest.CaptureFixture[str]) -> None:
    """Each chunk is written once and confirmed once, in virtual time."""
    main(["shared_budget", "--rounds", "1", "--json"], SMALL)
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["of which write calls"]["value"] == 20
    assert rows["of which polls that found APPLIED"]["value"] == 20
    assert rows["429 responses"]["value"] == 0
    assert rows["virtual seconds from the first request to the last"]["value"] > 40


def test_fairness_is_jains_index() -> None:
    """Equal shares give 1, one client with everything gives 1/clients, and no request gives 0."""

    def answers(*shares: int) -> list[Answer]:
        return [Answer(0.0, True, client) for client, share in enumerate(shares) for _ in range(share)]

    assert fairness([*answers(5, 5), Answer(0.0, False, 0)], 2) == 1
    assert fairness(answers(8), 4) == 0.25
    assert fairness([], 4) == 0


@pytest.mark.parametrize("limiter", LIMITERS)
@pytest.mark.parametrize("rate", [1.0, 7.3, 50.0])
def test_limiter_admits_its_rate(limiter: str, rate: float) -> None:
    """A client that polls too often gets the rate, and at most one second's requests more."""
    model = LIMITERS[limiter](rate)
    admitted = sum(model.delay(tick / 1000) == 0 for tick in range(20_000))
    assert 0.9 * 20 * rate <= admitted <= 21 * rate + 1


@pytest.mark.parametrize("limiter", LIMITERS)
def test_limiter_admits_after_its_delay(limiter: str) -> None:
    """A request after the returned delay is admitted."""
    model, now = LIMITERS[limiter](5.0), 0.0
    for _ in range(50):
        now += model.delay(now)
        assert model.delay(now + 1e-6) >= 0
    model = LIMITERS[limiter](5.0)
    while not (delay := model.delay(0.0)):
        pass
    assert model.delay(delay + 1e-6) == 0


def test_simulation_is_reproducible() -> None:
    """The same seed gives the same responses, and another seed gives others."""
    case = Case(limiter="GCRA", rate=5.0, latency=(0.02, 0.2), retry_after=True, seconds=20)
    assert simulate(case) == simulate(case)
    assert simulate(case) != simulate(Case(limiter="GCRA", rate=5.0, latency=(0.02, 0.2), seconds=20, seed=2))


def test_clients_share_a_changing_limit() -> None:
    """Each client has a share, and a new limit is used up."""
    case = Case(limiter="bucket of a second", rate=10.0, clients=2, seconds=300, changed=(100.0, 20.0))
    answers = simulate(case)
    assert used(answers, 20.0, 200, 300) >= 90
    assert refused(answers) < 3
    late = [answer.client for answer in answers if answer.accepted and answer.when >= 200]
    assert min(late.count(0), late.count(1)) > 0.2 * len(late)


def test_used_and_refused_are_percentages() -> None:
    """Both shares are in percent."""
    answers = [Answer(float(when), when % 4 > 0, 0) for when in range(8)]
    assert used(answers, 1.0, 0, 8) == 75
    assert refused(answers) == 25


def test_best_steady_pace_depends_on_jitter() -> None:
    """Without jitter the best pace is the limit. With much jitter a bucket of one cannot be used up."""
    assert best_steady(Case(limiter="bucket of 1", rate=5.0), 3.0) == pytest.approx(100, abs=2)
    assert best_steady(Case(limiter="bucket of 1", rate=5.0, latency=(0.02, 0.4)), 3.0) < 80


def test_virtual_time_stops_for_threads() -> None:
    """An hour's sleep takes no time, and no sleeper wakes while a thread works."""

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        clock, executor = VirtualClock(loop), HaltingExecutor()
        await clock.sleep(3600)
        sleeper = asyncio.create_task(clock.sleep(60))
        await loop.run_in_executor(executor, time.sleep, 0.02)
        halted = clock.monotonic()
        await sleeper
        executor.shutdown()
        return halted, clock.monotonic()

    assert run_virtually(main) == (3600, 3660)


def test_deadlock_raises() -> None:
    """If nothing can happen any more, the loop raises instead of hanging."""

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="deadlock"):
        run_virtually(main)
