"""Every scenario runs and counts right, with small numbers; what is fast is for `make bench` to say."""

from __future__ import annotations

import json

import attrs
import pytest

pytest.importorskip("httpx", reason="a rival of the benchmarks: pip install 'aiobatch[bench]'")

from benchmarks import _ours, _rivals
from benchmarks.__main__ import main
from benchmarks._apart import run_apart, running_server
from benchmarks._control import Order
from benchmarks._measure import check, quantile
from benchmarks._registry import SCENARIOS
from benchmarks._scenario import Scenario
from benchmarks._scenarios_client import Import, Upload, ViewMany
from benchmarks._scenarios_tokens import Tokens, many_tokens, one_token, outage
from benchmarks._table import Rival, Row, Target, format_table, make_row

_FAST = Order(tokens=5, indexing=(0.1, 0.4), latency=0.001)

SMALL: dict[str, Scenario] = {
    "view_many": ViewMany(views=60, views_httpx=30, concurrency=5),
    "upload": Upload(ids=25_000, in_flight=2),
    "tokens_2x": attrs.evolve(many_tokens("2.11", requests=1.5, lag=0.6), order=_FAST),
    "tokens_1x": attrs.evolve(many_tokens("1.0", requests=3, lag=0.8), order=_FAST),
    "one_token": attrs.evolve(one_token(), order=attrs.evolve(_FAST, tokens=1), waiters=4),
    "outage": attrs.evolve(outage(), order=attrs.evolve(_FAST, outage=(0.0, 0.1))),
    "import": Import(),
}


def _row(ours: float | None = 1.0, ratio: float | None = None, target: Target | None = None) -> Row:
    return Row(scenario="s", what="w", ours=ours, ratio=ratio, target=target)


def test_every_scenario_has_a_small_form() -> None:
    """No scenario of the client goes without a test; those of the engine have a file of their own."""
    assert SMALL.keys() == {name for name in SCENARIOS if not name.startswith("sync_")}


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


def test_a_lost_wait_is_counted() -> None:
    """Who gives up at a 503 has lost the wait, and has no lag."""
    order = attrs.asdict(Order(tokens=3, outage=(0, 60)))
    with running_server() as url:
        theirs = run_apart(_rivals.await_tokens, url=url, order=order, version="1.0")
    assert (theirs["requests"], theirs["lost"]) == (3, 3)
    assert "lag_mean" not in theirs


def test_work_not_done_is_not_measured() -> None:
    """A contender that did something else than was asked fails."""
    check("requests", 3, 3)
    with pytest.raises(RuntimeError, match="requests: 2 in place of 3"):
        check("requests", 2, 3)


def test_a_quantile_is_one_of_the_values() -> None:
    """The p99 of a hundred values is the last but none; of one it is that one."""
    assert quantile(range(100), 0.99) == 99
    assert quantile([7.0], 0.5) == 7.0


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        (_row(ratio=0.85, target=Target(sign=">=", bound=0.85, of="ratio")), True),
        (_row(ratio=0.84, target=Target(sign=">=", bound=0.85, of="ratio")), False),
        (_row(ours=3.0, target=Target(sign="<=", bound=3)), True),
        (_row(ours=3.1, target=Target(sign="<=", bound=3)), False),
        (_row(ours=None, target=Target(sign="<=", bound=3)), None),
        (_row(), None),
    ],
)
def test_a_target_is_reached_at_its_bound(row: Row, *, reached: bool | None) -> None:
    """A bound itself is reached; what was not measured is neither reached nor missed."""
    assert row.reached is reached


def test_a_row_takes_medians() -> None:
    """A row shows the median of each side, and the median of the rounds' ratios."""
    row = make_row("s", "w", [1.0, 4.0, 6.0], Rival(name="r", values=[2.0, 2.0, 2.0]))
    assert (row.ours, row.theirs, row.ratio) == (4.0, 2.0, 2.0)


def test_a_rival_without_numbers_is_left_out() -> None:
    """A rival of which nothing is known is not named; one of zeroes has no ratio."""
    assert make_row("s", "w", [1.0], Rival(name="r", values=[])).rival == ""
    assert make_row("s", "w", [1.0], Rival(name="r", values=[0.0])).ratio is None


def test_a_miss_is_said_plainly() -> None:
    """The table names each target that was not reached, and counts."""
    rows = [_row(target=Target(sign="<=", bound=3)), _row(ours=4.0, target=Target(sign="<=", bound=3))]
    table = format_table(rows)
    assert "1 of 2 targets reached" in table
    assert "NOT reached: s: w" in table


@pytest.mark.parametrize("arguments", [["nothing"], ["upload", "--rounds", "0"]])
def test_what_cannot_be_run_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown scenario and no rounds are errors of usage, and nothing runs."""
    with pytest.raises(SystemExit):
        main(arguments)
    assert "error:" in capsys.readouterr().err


def test_tokens_have_rows_of_their_own() -> None:
    """A scenario of tokens shows the measures that it names, and no others."""
    scenario = SMALL["one_token"]
    assert isinstance(scenario, Tokens)
    assert [key for key, _, _ in scenario.rows] == ["requests", "lag_mean", "lost"]
