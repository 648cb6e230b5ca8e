"""The report of the benchmarks: tables, JSON and the page docs/benchmarks.md."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

pytest.importorskip("duckdb", reason="duckdb is not installed: make .venv/.bench")
pytest.importorskip("httpx", reason="httpx is not installed: make .venv/.bench")
pytest.importorskip("requests", reason="requests is not installed: make .venv/.bench")

from benchmarks import __main__ as command
from benchmarks.measure.machine import Machine, describe_machine
from benchmarks.report.page import ScenarioRun, format_page, read_template
from benchmarks.report.text import format_results, format_text, target_summary
from benchmarks.results.comparison import Comparison, ComparisonLine, evaluate_targets, make_line
from benchmarks.results.rows import Baseline, Row, Target, make_row
from benchmarks.results.scenario import Result, Scenario
from benchmarks.scenarios._registry import SCENARIOS
from benchmarks.scenarios.sync import Load

_MACHINE = Machine(
    date="2018-06-29 13:12 UTC",
    processor="abacus",
    cores=2,
    memory=3 << 30,
    kernel="Linux 1.0 x86_64",
    load=(0.1, 0.2, 0.3),
    python="CPython 3.11.0",
    packages={"aiohttp": "3.14.0"},
)


@attrs.frozen(kw_only=True)
class _Measured:
    """Results that were measured already."""

    rounds: int = 2
    results: tuple[Result, ...]

    def run(self, _name: str, _rounds: int) -> tuple[Result, ...]:
        """Return it."""
        return self.results


@attrs.frozen(kw_only=True)
class _Broken:
    """A scenario that fails."""

    rounds: int = 2

    def run(self, _name: str, _rounds: int) -> tuple[Result, ...]:
        """Fail."""
        msg = "no such luck"
        raise RuntimeError(msg)


def _row(value: float | None = 1.0, ratio: float | None = None, target: Target | None = None) -> Row:
    return Row(scenario="s", what="w", value=value, ratio=ratio, target=target)


_MISSED = _row(value=4.0, target=Target(sign="<=", bound=3))
_REACHED = _row(target=Target(sign="<=", bound=3))
_COMPARISON = Comparison(
    scenario="tokens",
    what="three tokens",
    columns=("requests", "lag, s"),
    lines=(
        ComparisonLine(name="aiobatch", runs=3, values=(2.5, 0.25)),
        ComparisonLine(name="peer", runs=1, values=(9.0, None)),
    ),
    left_out=("absent: skipped, not installed: pip install 'absent'",),
    target_rows=(attrs.evolve(_MISSED, scenario="tokens", what="aiobatch: requests"),),
)


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        (_row(ratio=0.85, target=Target(sign=">=", bound=0.85, of="ratio")), True),
        (_row(ratio=0.84, target=Target(sign=">=", bound=0.85, of="ratio")), False),
        (_row(value=3.0, target=Target(sign="<=", bound=3)), True),
        (_row(value=3.1, target=Target(sign="<=", bound=3)), False),
        (_row(value=None, target=Target(sign="<=", bound=3)), None),
        (_row(), None),
    ],
)
def test_target_is_reached_at_its_bound(row: Row, *, reached: bool | None) -> None:
    """The bound itself is reached. A missing value is neither reached nor missed."""
    assert row.reached is reached


def test_row_has_medians() -> None:
    """A row has the median of each side, and the median of the rounds' ratios."""
    row = make_row("s", "w", [1.0, 4.0, 6.0], Baseline(name="r", values=[2.0, 2.0, 2.0]))
    assert (row.value, row.baseline_value, row.ratio) == (4.0, 2.0, 2.0)


def test_baseline_without_values_is_left_out() -> None:
    """A baseline without values is not named, and one of zeroes has no ratio."""
    assert make_row("s", "w", [1.0], Baseline(name="r", values=[])).baseline == ""
    assert make_row("s", "w", [1.0], Baseline(name="r", values=[0.0])).ratio is None


def test_line_has_medians() -> None:
    """A line has the median of each measure, and none if a round lacks it."""
    line = make_line("aiobatch", [{"a": 1.0, "b": 1.0}, {"a": 2.0}, {"a": 9.0}], ("a", "b"))
    assert (line.runs, line.values) == (3, (2.0, None))


def test_line_has_a_row_for_each_target() -> None:
    """Each target of a line becomes a row with that column's value."""
    line = ComparisonLine(name="aiobatch", runs=1, values=(2.0, 5.0))
    (row,) = evaluate_targets("s", line, {"a": "apples", "b": "pears"}, {"b": Target(sign="<=", bound=4)})
    assert (row.what, row.value, row.reached) == ("aiobatch: pears", 5.0, False)


def test_comparison_has_a_table_of_contenders_and_one_of_targets() -> None:
    """The tables have all contenders, a dash for missing values, notes, and the targets."""
    table, notes, targets = format_results([_COMPARISON])
    assert table.splitlines() == [
        "three tokens:",
        "",
        "| contender | runs | requests | lag, s |",
        "| --------- | ---: | -------: | -----: |",
        "| aiobatch  |    3 |     2.50 |   0.25 |",
        "| peer      |    1 |        9 |      - |",
    ]
    assert notes == "- absent: skipped, not installed: pip install 'absent'"
    assert targets.splitlines()[2] == "| aiobatch: requests |     4 | <= 3   | NO      |"


def test_missed_targets_are_listed() -> None:
    """The summary counts the reached targets, and lists each missed one with its value."""
    ratio = attrs.evolve(
        _row(ratio=0.5, target=Target(sign=">=", bound=0.85, of="ratio")), baseline="by hand"
    )
    unknown = _row(value=None, target=Target(sign="<=", bound=3))
    assert target_summary([_REACHED, _MISSED, ratio, unknown, _row(), _COMPARISON]) == [
        "1 of 5 targets reached",
        "NOT reached: s: w: 4, target <= 3",
        "NOT reached: s: w: 0.50x by hand, target >= 0.85x",
        "not measured: s: w",
        "NOT reached: tokens: aiobatch: requests: 4, target <= 3",
    ]


def test_text_ends_with_the_targets() -> None:
    """Each scenario has its tables below its name. The machine and the targets come last."""
    text = format_text([_REACHED, _row(), _COMPARISON], _MACHINE)
    assert text.startswith("s\n\n| measure ")
    assert "\n\ntokens\n\nthree tokens:\n" in text
    assert text.endswith("aiohttp 3.14.0\n1 of 2 targets reached\n" + target_summary([_COMPARISON])[1])


def test_page_is_complete() -> None:
    """The page has machine, command, every table, every missed target with its remark, and durations."""
    runs = [
        ScenarioRun(name="tokens", scenario=_Measured(results=()), seconds=61.0, results=(_COMPARISON,)),
        ScenarioRun(name="s", scenario=_Measured(results=()), seconds=1.0, results=(_REACHED, _row())),
        ScenarioRun(name="broken", scenario=_Broken(), seconds=0.0, results=None),
    ]
    page = format_page(runs, _MACHINE, "make bench")
    about, remark = read_template()[1]["tokens"]
    for text in (
        "- command: `make bench`\n",
        "- processor: abacus, 2 cores\n",
        "- memory: 3.0 GiB\n",
        "1 of 2 targets reached.\n\n- NOT reached: tokens: aiobatch: requests: 4, target <= 3\n",
        "- failed without results: broken\n",
        f"`tokens`: {remark}",
        f"## `tokens`\n\n{about}\n\nthree tokens:\n\n| contender |",
        "\n\n- absent: skipped, not installed: pip install 'absent'\n",
        "## `s`\n\nResults that were measured already.\n\n| measure |",
        "| all      |      62 |\n",
    ):
        assert text in page


def test_template_has_every_scenario() -> None:
    """Each scenario has a text in the template, and each text has a scenario."""
    introduction, sections = read_template()
    assert introduction.startswith("# Benchmarks")
    assert sections.keys() == SCENARIOS.keys()


def test_machine_is_described() -> None:
    """The machine has cores, memory, and the versions of installed packages."""
    machine = describe_machine()
    assert machine.cores >= 1
    assert machine.packages["aiohttp"]
    assert machine.packages["aiohttp"] in str(machine)
    assert "GiB" in str(machine)


def test_full_run_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run without arguments writes the page. Any other run does not, and names missing scenarios."""
    place = tmp_path / "benchmarks.md"
    monkeypatch.setattr(command, "PAGE", place)
    monkeypatch.delenv("BENCH_IDS", raising=False)
    scenarios = {"s": _Measured(results=(_REACHED,))}
    for arguments in (["s"], ["--quick"], ["--rounds", "1"], ["--json"]):
        command.main(arguments, scenarios)
    assert not place.exists()
    command.main([], scenarios)
    assert "- command: `make bench`\n" in place.read_text(encoding="utf-8")
    assert "1 of 1 targets reached" in capsys.readouterr().out


def test_write_writes_another_page(tmp_path: Path) -> None:
    """--write writes a page of a partial run, with its command."""
    place = tmp_path / "some.md"
    command.main(["s", "--write", str(place)], {"s": _Measured(results=(_REACHED,))})
    assert f"- command: `make bench ARGS='s --write {place}'`\n" in place.read_text(encoding="utf-8")


def test_failed_scenario_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """A failed scenario is named and makes the exit code 1. The others are shown."""
    scenarios: dict[str, Scenario] = {"broken": _Broken(), "s": _Measured(results=(_REACHED,))}
    with pytest.raises(SystemExit) as ended:
        command.main(["broken", "s", "--json"], scenarios)
    output = capsys.readouterr()
    assert ended.value.code == 1
    assert [row["scenario"] for row in json.loads(output.out)["rows"]] == ["s"]
    assert "RuntimeError: no such luck" in output.err
    assert "\ns: 0 s\n" in output.err
    assert output.err.endswith("failed: broken\n")


@pytest.mark.parametrize(
    ("arguments", "ids", "message"),
    [
        (["nothing"], "", "unknown scenario 'nothing'. The scenarios are tokens"),
        (["upload", "--rounds", "0"], "", "--rounds must be at least 1"),
        (["upload", "--write", "/nowhere/at/all.md"], "", "directory /nowhere/at"),
        (["upload"], "1e6", "BENCH_IDS must be an integer of at least 10,000 without separators, not '1e6'"),
        (["upload"], "9999", "BENCH_IDS must be an integer"),
    ],
)
def test_invalid_arguments_run_nothing(
    arguments: list[str],
    ids: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An invalid argument or variable is a usage error that names it."""
    monkeypatch.setenv("BENCH_IDS", ids)
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "ids", "expected", "rounds"),
    [([], "", 10_000_000, 7), (["--quick"], "", 100_000, 1), (["--quick"], "20000", 20_000, 1)],
)
def test_quick_and_bench_ids_set_the_size(
    arguments: list[str], ids: str, expected: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--quick runs one round with few IDs, and BENCH_IDS sets their number."""
    seen = []

    def run(self: Load, _name: str, rounds: int) -> list[Row]:
        seen.append((self.ids, rounds))
        return []

    monkeypatch.setenv("BENCH_IDS", ids)
    monkeypatch.setattr(Load, "run", run)
    command.main(["sync_load", *arguments], {"sync_load": attrs.evolve(Load(), rounds=7)})
    assert seen == [(expected, rounds)]


def test_help_describes_bench_ids(capsys: pytest.CaptureFixture[str]) -> None:
    """--help describes BENCH_IDS and the run that writes the page."""
    with pytest.raises(SystemExit):
        command.main(["--help"])
    output = capsys.readouterr().out
    assert "BENCH_IDS=100000 make bench" in output
    assert "writes docs/benchmarks.md" in output
