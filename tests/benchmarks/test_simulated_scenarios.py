"""The scenarios in virtual time: contenders keep the budget, and none beats the oracle."""

from __future__ import annotations

import json
import random

import attrs
import pytest

pytest.importorskip("httpx", reason="httpx is not installed: make .venv/.bench")

from benchmarks.__main__ import main
from benchmarks.scenarios._registry import SCENARIOS
from benchmarks.scenarios.simulated import LeastLag, Simulated
from benchmarks.simulation.aiobatch import run_aiobatch
from benchmarks.simulation.lower_bound import least_lag
from benchmarks.simulation.model import Load, Token, draw, measure, run_oracle
from benchmarks.simulation.peers import PEERS, run_peer

_SMALL = Load(tokens=60)


@pytest.mark.parametrize("name", ["budget", "budget_spread"])
def test_simulation_has_all_ratios(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A simulation of few tokens has a ratio in every row."""
    scenario = SCENARIOS[name]
    assert isinstance(scenario, Simulated)
    small = attrs.evolve(scenario, load=attrs.evolve(scenario.load, tokens=60))
    main([name, "--json"], {name: small})
    shown = json.loads(capsys.readouterr().out)
    assert all(row["ratio"] is not None for row in shown["rows"])
    # Only tokens that arrive over time have a bound of views alone.
    assert len(shown["rows"]) == (10 if name == "budget_spread" else 8)


def test_least_lag_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The least lag is computed and shown."""
    assert isinstance(SCENARIOS["least_lag"], LeastLag)
    main(["least_lag"], {"least_lag": LeastLag(ages=50, requests=(2.5,))})
    assert "at 2.5 requests a token" in capsys.readouterr().out


@pytest.mark.sample(2)
@pytest.mark.parametrize("arrivals", [float("inf"), 2.0])
@pytest.mark.parametrize("version", ["1.0", "2.11"])
def test_aiobatch_keeps_the_budget_and_loses_no_wait(version: str, arrivals: float) -> None:
    """Aiobatch never exceeds the budget, loses no wait, and is reproducible."""
    load = attrs.evolve(_SMALL, arrivals=arrivals)
    tokens = draw(load, 3)
    measures = run_aiobatch(load, tokens, version, 3)
    again = run_aiobatch(load, tokens, version, 3)
    assert measures["lost"] == 0
    assert measures["peak"] <= load.rate
    assert {**again, "cpu": 0} == {**measures, "cpu": 0}


@pytest.mark.parametrize("peer", PEERS)
def test_no_peer_beats_the_oracle(peer: str) -> None:
    """The oracle makes one request per token and has the least lag."""
    tokens = draw(_SMALL, 1)
    oracle, measures = run_oracle(_SMALL, tokens), run_peer(PEERS[peer], _SMALL, tokens, 1)
    assert oracle["requests_a_token"] == 1
    assert oracle["lag_mean"] <= measures["lag_mean"]
    assert measures["peak"] <= _SMALL.rate


@pytest.mark.parametrize(
    ("peer", "polls", "elapsed", "delay"),
    [
        ("algoliasearch", 4, 0, 0),
        ("algoliasearch", 9, 0, 1),
        ("algoliasearch", 60, 0, 5),
        ("algoliasearch", 100, 0, None),
        ("aiobotocore", 39, 0, 15),
        ("aiobotocore", 40, 0, None),
        ("meilisearch", 5, 3_601, None),
        ("google-api-core", 5, 3_600, None),
        ("azure-core, 1 s", 500, 9_999, 1),
        ("openai", 500, 9_999, 1),
    ],
)
def test_peers_poll_as_their_code(peer: str, polls: int, elapsed: float, delay: float | None) -> None:
    """Each peer waits and stops as its code does."""
    assert PEERS[peer](polls, elapsed, 3_600, random.Random(1)) == delay


def test_lost_wait_lags_to_the_end() -> None:
    """A lost wait does not improve the lag."""
    measures = measure([Token(0, 5), Token(0, 6)], [None, 20.0], [1.0, 20.0])
    assert measures["lost"] == 1
    assert measures["lag_mean"] == pytest.approx((15 + 14) / 2)


def test_times_have_the_given_distribution() -> None:
    """Half of the times are below the median, and 99 % below the p99."""
    load = Load()
    taken = sorted(token.applied - token.born for token in draw(load, 0))
    assert taken[5_000] == pytest.approx(20, rel=0.05)
    assert taken[9_900] == pytest.approx(300, rel=0.1)
    assert load.share_applied(20) == pytest.approx(0.5)
    assert load.share_applied(300) == pytest.approx(0.99)
    assert load.share_applied(0) == 0


def test_least_lag_beats_equal_intervals() -> None:
    """For uniform times, polls that become more frequent are best."""
    ages = [step / 200 for step in range(201)]
    plan = least_lag(lambda age: age, ages, 1.5)
    assert plan.requests == pytest.approx(1.5, abs=0.05)
    assert plan.lag < 1 / 4  # two polls at equal distances need as many requests
    assert least_lag(lambda age: age, ages, 1.0).lag == pytest.approx(0.5)
