"""The scenarios of the rate run and count right, with small numbers; servers limit as their models say."""

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
    """Keep the files of ids out of the user's cache."""
    monkeypatch.setattr(
        "benchmarks.workload.id_files.platformdirs.user_cache_path",
        lambda name: tmp_path_factory.getbasetemp() / name,
    )


def test_every_scenario_has_a_small_form() -> None:
    """No scenario goes without a test."""
    assert SMALL.keys() == rate_scenarios().keys()


def test_an_unknown_limit_has_four_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """What is used and what is refused are judged by their worst cells; what else there is, is not judged."""
    main(["unknown_rate", "--rounds", "1", "--json"], SMALL)
    told = json.loads(capsys.readouterr().out)
    assert [len(board["lines"]) for board in told["boards"]] == [2, 2, 4, 6]
    assert [row["what"] for row in told["rows"]] == [
        "the least used of a limit, %",
        "the largest share of 429, %",
    ]
    use = [value for line in told["boards"][0]["lines"] for value in line["values"]]
    assert told["rows"][0]["ours"] == min(use)


def test_a_sync_in_a_small_budget_is_counted_by_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    """Every chunk is written once and confirmed once; time is virtual."""
    main(["shared_budget", "--rounds", "1", "--json"], SMALL)
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["of them write calls"]["ours"] == 20
    assert rows["of them polls that found a token APPLIED"]["ours"] == 20
    assert rows["answers 429"]["ours"] == 0
    assert rows["virtual seconds from the first request to the last"]["ours"] > 40


def test_fairness_is_an_index_of_shares() -> None:
    """It is 1 where all had the same, and one over their number where one had all; nothing is not fair."""

    def answers(*shares: int) -> list[Answer]:
        return [Answer(0.0, True, client) for client, share in enumerate(shares) for _ in range(share)]

    assert fairness([*answers(5, 5), Answer(0.0, False, 0)], 2) == 1
    assert fairness(answers(8), 4) == 0.25
    assert fairness([], 4) == 0


@pytest.mark.parametrize("limiter", LIMITERS)
@pytest.mark.parametrize("rate", [1.0, 7.3, 50.0])
def test_a_model_admits_its_rate(limiter: str, rate: float) -> None:
    """Whoever asks far too often gets the rate, and a second's worth more at most."""
    model = LIMITERS[limiter](rate)
    admitted = sum(model.delay(tick / 1000) == 0 for tick in range(20_000))
    assert 0.9 * 20 * rate <= admitted <= 21 * rate + 1


@pytest.mark.parametrize("limiter", LIMITERS)
def test_a_model_keeps_its_word(limiter: str) -> None:
    """Whoever waits as long as the answer says is admitted."""
    model, now = LIMITERS[limiter](5.0), 0.0
    for _ in range(50):
        now += model.delay(now)
        assert model.delay(now + 1e-6) >= 0
    model = LIMITERS[limiter](5.0)
    while not (delay := model.delay(0.0)):
        pass
    assert model.delay(delay + 1e-6) == 0


def test_a_simulation_is_the_same_each_time() -> None:
    """With the same seed, every answer comes at the same time; with another one it does not."""
    case = Case(limiter="GCRA", rate=5.0, latency=(0.02, 0.2), tells=True, seconds=20)
    assert simulate(case) == simulate(case)
    assert simulate(case) != simulate(Case(limiter="GCRA", rate=5.0, latency=(0.02, 0.2), seconds=20, seed=2))


def test_two_clients_share_a_limit_that_moves() -> None:
    """Each of them gets a part, and the new limit is used as well."""
    case = Case(limiter="bucket of a second", rate=10.0, clients=2, seconds=300, changed=(100.0, 20.0))
    answers = simulate(case)
    assert used(answers, 20.0, 200, 300) >= 90
    assert refused(answers) < 3
    late = [answer.client for answer in answers if answer.accepted and answer.when >= 200]
    assert min(late.count(0), late.count(1)) > 0.2 * len(late)


def test_what_was_used_and_refused_is_counted() -> None:
    """Both are shares, in percent."""
    answers = [Answer(float(when), when % 4 > 0, 0) for when in range(8)]
    assert used(answers, 1.0, 0, 8) == 75
    assert refused(answers) == 25


def test_the_best_steady_pace_uses_all_where_nothing_varies() -> None:
    """Without jitter it is the limit itself; with much of it a bucket of one cannot be used up."""
    assert best_steady(Case(limiter="bucket of 1", rate=5.0), 3.0) == pytest.approx(100, abs=2)
    assert best_steady(Case(limiter="bucket of 1", rate=5.0, latency=(0.02, 0.4)), 3.0) < 80


def test_virtual_time_passes_at_once_and_halts_for_threads() -> None:
    """An hour's sleep takes none, and while a thread works no sleeper wakes."""

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


def test_a_deadlock_is_told() -> None:
    """Where nothing can happen any more, the loop says so and does not hang."""

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="cannot happen"):
        run_virtually(main)
