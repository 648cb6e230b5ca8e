"""Every scenario runs and counts right, with small numbers; what is fast is for `make bench` to say."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

pytest.importorskip("httpx", reason="httpx is not installed: make .venv/.bench")
pytest.importorskip("requests", reason="requests is not installed: make .venv/.bench")

from benchmarks.__main__ import main
from benchmarks.contenders import ENTRANTS, OURS_1X, OURS_2X, Entrant
from benchmarks.contenders import aiobatch_client as _ours
from benchmarks.contenders import by_hand as _rivals
from benchmarks.measure.processes import run_apart, running_server
from benchmarks.measure.resources import check, quantile
from benchmarks.measure.server_control import Order
from benchmarks.results.scenario import Scenario
from benchmarks.scenarios._registry import PARTS, SCENARIOS
from benchmarks.scenarios.client import Import, Upload, ViewMany
from benchmarks.scenarios.tokens import SideBySide, ours_alone

_FAST = Order(tokens=5, indexing=(0.1, 0.4), latency=0.001)


def _small(name: str, *who: str, order: Order = _FAST, waiters: int = 1) -> SideBySide:
    """Return a scenario of the registry, with few tokens and few who wait for them."""
    scenario = SCENARIOS[name]
    assert isinstance(scenario, SideBySide)
    entrants = tuple(entrant for entrant in ENTRANTS if entrant.name in who)
    return attrs.evolve(scenario, entrants=entrants, order=order, waiters=waiters)


SMALL: dict[str, Scenario] = {
    "tokens": _small("tokens", OURS_2X, "aiohttp by hand"),
    "one_token": _small("one_token", OURS_1X, order=attrs.evolve(_FAST, tokens=1), waiters=4),
    "outage": _small("outage", OURS_2X, order=attrs.evolve(_FAST, outage=(0.0, 0.1))),
    "view_many": ViewMany(views=60, views_httpx=30, concurrency=5),
    "upload": Upload(ids=25_000, in_flight=2),
    "import": Import(),
}


def test_every_scenario_is_tested() -> None:
    """Each scenario is named in a test of this folder."""
    folder = Path(__file__).parent
    tests = "".join(path.read_text(encoding="utf-8") for path in folder.glob("test_*.py"))
    assert {name for name in SCENARIOS if f'"{name}"' not in tests} == set()


@pytest.mark.parametrize("name", SMALL)
def test_a_scenario_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A scenario runs once, and each of its rows has a number of ours and belongs to it."""
    main([name, "--rounds", "1", "--json"], SMALL)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["scenario"] for row in rows} == {name}
    assert all(row["ours"] is not None for row in rows if row["what"] != "the client grows by, bytes")


def test_both_sides_do_the_same_uploading() -> None:
    """Ours and the one by hand send the same ids in as many requests, by the server's count."""
    with running_server() as url:
        ours = run_apart(_ours.upload, url=url, count=20_001)
        theirs = run_apart(_rivals.upload, url=url, count=20_001, in_flight=2)
    assert ours["requests"] == theirs["requests"] == 3
    assert ours["ids"] == theirs["ids"] == 20_001


def test_waits_are_counted_by_the_server() -> None:
    """A rival's wait of one poll that finds its token applied costs one request, and none is lost."""
    order = attrs.asdict(Order(tokens=3))
    with running_server() as url:
        theirs = run_apart(_rivals.await_tokens, url=url, order=order, version="2.11")
    assert (theirs["requests"], theirs["requests_a_token"], theirs["lost"]) == (3, 1, 0)
    assert theirs["lag_p99"] >= theirs["lag_mean"] >= 0


def test_a_lost_wait_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    """Who gives up at a 503 has lost the wait and has no lag; what ended it is told."""
    order = attrs.asdict(Order(tokens=3, outage=(0, 60)))
    with running_server() as url:
        theirs = run_apart(_rivals.await_tokens, url=url, order=order, version="1.0")
    assert (theirs["requests"], theirs["lost"]) == (3, 3)
    assert "lag_mean" not in theirs
    assert "waits lost: 3 by ClientResponseError" in capfd.readouterr().err


def test_work_not_done_is_not_measured() -> None:
    """A contender that did something else than was asked fails."""
    check("requests", 3, 3)
    with pytest.raises(RuntimeError, match="requests: 2 in place of 3"):
        check("requests", 2, 3)


def test_a_quantile_is_one_of_the_values() -> None:
    """The p99 of a hundred values is the last but none; of one it is that one."""
    assert quantile(range(100), 0.99) == 99
    assert quantile([7.0], 0.5) == 7.0


def test_the_first_scenario_has_the_agreed_targets() -> None:
    """Ours is judged over both APIs; no wait may be lost over either."""
    scenario = SCENARIOS["tokens"]
    assert isinstance(scenario, SideBySide)
    bounds = {
        who: {key: target.bound for key, target in targets.items()}
        for who, targets in scenario.targets.items()
    }
    assert bounds == {
        OURS_2X: {"requests_a_token": 1.25, "lag_mean": 0.4, "late_p99": 5, "cpu": 1.5, "lost": 0},
        OURS_1X: {"requests_a_token": 2.5, "lag_mean": 0.6, "lost": 0},
    }


def test_a_part_is_ours_alone() -> None:
    """The parts of the first scenario have nobody beside ours, and all that is asked of it."""
    scenario = SCENARIOS["tokens"]
    assert isinstance(scenario, SideBySide)
    assert PARTS["tokens_2x"] == ours_alone(scenario, OURS_2X)
    assert PARTS["tokens_1x"] == ours_alone(scenario, OURS_1X)
    assert [entrant.name for entrant in ours_alone(scenario, OURS_1X).entrants] == [OURS_1X]


def test_who_is_missing_or_fails_is_named() -> None:
    """A peer that is not installed, or that fails, is left out of the table and named with what to do."""
    absent = Entrant(
        name="absent", how="", module="nowhere", requirement="absent[it]>=1", packages=("aiobatch-absent",)
    )
    broken = Entrant(name="broken", how="", module="benchmarks.workload.ids")
    scenario = attrs.evolve(_small("tokens"), entrants=(absent, broken))
    (board,) = scenario.run("tokens", 1)
    assert board.lines == ()
    assert board.left_out == (
        "absent: skipped, not installed: pip install 'absent[it]>=1'",
        "broken: failed; standard error has its traceback",
    )


def test_ours_does_not_fail_quietly() -> None:
    """A failure of ours is one of the whole scenario."""
    broken = Entrant(name=OURS_2X, how="", module="benchmarks.workload.ids")
    with pytest.raises(Exception, match="non-zero exit status"):
        attrs.evolve(_small("tokens"), entrants=(broken,)).run("tokens", 1)
