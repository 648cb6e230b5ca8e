"""What the benchmarks measured is told in full, by the command line and in the document."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import pytest

pytest.importorskip("duckdb", reason="duckdb is not installed: make .venv/.bench")
pytest.importorskip("httpx", reason="httpx is not installed: make .venv/.bench")
pytest.importorskip("requests", reason="requests is not installed: make .venv/.bench")

from benchmarks import __main__ as command
from benchmarks.measure.machine import Machine, describe_machine
from benchmarks.report.document import Outcome, format_document
from benchmarks.report.prose import ABOUT, TRIED
from benchmarks.report.text import format_text, make_tables, tell_verdict
from benchmarks.results.board import Board, Line, judge, make_line
from benchmarks.results.rows import Rival, Row, Target, make_row
from benchmarks.results.scenario import Result, Scenario
from benchmarks.scenarios._registry import PARTS, SCENARIOS
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
    """Something that was measured already."""

    rounds: int = 2
    results: tuple[Result, ...]

    def run(self, _name: str, _rounds: int) -> tuple[Result, ...]:
        """Return it."""
        return self.results


@attrs.frozen(kw_only=True)
class _Broken:
    """What cannot be measured."""

    rounds: int = 2

    def run(self, _name: str, _rounds: int) -> tuple[Result, ...]:
        """Fail."""
        msg = "no such luck"
        raise RuntimeError(msg)


def _row(ours: float | None = 1.0, ratio: float | None = None, target: Target | None = None) -> Row:
    return Row(scenario="s", what="w", ours=ours, ratio=ratio, target=target)


_MISSED = _row(ours=4.0, target=Target(sign="<=", bound=3))
_REACHED = _row(target=Target(sign="<=", bound=3))
_BOARD = Board(
    scenario="tokens",
    what="three tokens",
    columns=("requests", "lag, s"),
    lines=(Line(name="ours", runs=3, values=(2.5, 0.25)), Line(name="peer", runs=1, values=(9.0, None))),
    left_out=("absent: skipped, not installed: pip install 'absent'",),
    judged=(attrs.evolve(_MISSED, scenario="tokens", what="ours: requests"),),
)


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


def test_a_line_takes_medians() -> None:
    """A line shows the median of the rounds, and nothing where a round had no value."""
    line = make_line("ours", [{"a": 1.0, "b": 1.0}, {"a": 2.0}, {"a": 9.0}], ("a", "b"))
    assert (line.runs, line.values) == (3, (2.0, None))


def test_a_line_is_judged_by_its_columns() -> None:
    """Each target of a line becomes a row with that column's value."""
    line = Line(name="ours", runs=1, values=(2.0, 5.0))
    (row,) = judge("s", line, {"a": "apples", "b": "pears"}, {"b": Target(sign="<=", bound=4)})
    assert (row.what, row.ours, row.reached) == ("ours: pears", 5.0, False)


def test_a_board_has_a_line_for_each() -> None:
    """A board's table has everybody, a dash for what there is not, who was left out, and the verdicts."""
    board, judged = make_tables([_BOARD])
    assert board.as_text().splitlines() == [
        "three tokens",
        "      runs  requests  lag, s",
        "----  ----  --------  ------",
        "ours     3      2.50    0.25",
        "peer     1         9       -",
        "absent: skipped, not installed: pip install 'absent'",
    ]
    assert judged.as_markdown().splitlines() == [
        "| judged | measured | target | reached |",
        "|---|--:|---|---|",
        "| ours: requests | 4 | <= 3 | NO |",
    ]


def test_a_miss_is_said_plainly() -> None:
    """The verdict counts, and names each target that was not reached, with what was measured."""
    ratio = attrs.evolve(_row(ratio=0.5, target=Target(sign=">=", bound=0.85, of="ratio")), rival="by hand")
    unknown = _row(ours=None, target=Target(sign="<=", bound=3))
    assert tell_verdict([_REACHED, _MISSED, ratio, unknown, _row(), _BOARD]) == [
        "1 of 5 targets reached",
        "NOT reached: s: w: 4, target <= 3",
        "NOT reached: s: w: 0.50x by hand, target >= 0.85x",
        "not measured: s: w",
        "NOT reached: tokens: ours: requests: 4, target <= 3",
    ]


def test_the_text_ends_with_the_verdict() -> None:
    """Each scenario has its tables under its name; the machine and the verdict come last."""
    text = format_text([_REACHED, _row(), _BOARD], _MACHINE)
    assert text.startswith("s\nwhat")
    assert "\n\ntokens\nthree tokens\n" in text
    assert text.endswith("aiohttp 3.14.0\n1 of 2 targets reached\n" + tell_verdict([_BOARD])[1])


def test_the_document_is_complete() -> None:
    """The document has machine, versions, command, every table, every miss with what was tried, seconds."""
    outcomes = [
        Outcome(name="tokens", scenario=_Measured(results=()), seconds=61.0, results=(_BOARD,)),
        Outcome(name="s", scenario=_Measured(results=()), seconds=1.0, results=(_REACHED, _row())),
        Outcome(name="broken", scenario=_Broken(), seconds=0.0, results=None),
    ]
    document = format_document(outcomes, _MACHINE, "make bench")
    for said in (
        "| command | `make bench` |",
        "| processor | abacus, 2 cores |",
        "| memory | 3.0 GiB |",
        "| packages | aiohttp 3.14.0 |",
        "1 of 2 targets reached.\n\n- NOT reached: tokens: ours: requests: 4, target <= 3\n",
        "- failed, and measured nothing: broken\n",
        f"`tokens`: {TRIED['tokens'].strip()}",
        f"## `tokens`\n\n{ABOUT['tokens'].strip()}\n\nthree tokens:\n\n|  | runs |",
        "\n\n- absent: skipped, not installed: pip install 'absent'\n",
        "## `s`\n\nSomething that was measured already.\n\n| what | ours |",
        "| all | 62 |\n",
    ):
        assert said in document


def test_nothing_is_explained_that_is_not_there() -> None:
    """Every text of the document is of a scenario that there is."""
    assert ABOUT.keys() | TRIED.keys() <= SCENARIOS.keys() | PARTS.keys()


def test_the_document_has_every_scenario() -> None:
    """docs/benchmarks.md tells of the scenarios that there are, in their order: else, `make bench`."""
    document = command.DOCUMENT.read_text(encoding="utf-8")
    assert re.findall(r"^## `(\w+)`$", document, re.MULTILINE) == list(SCENARIOS)
    assert re.findall(r"^\| `(\w+)` \| [\d,]+ \|$", document, re.MULTILINE) == list(SCENARIOS)


def test_this_machine_is_described() -> None:
    """A description has cores, memory where the system tells, and the versions of what is installed only."""
    machine = describe_machine()
    assert machine.cores >= 1
    assert machine.packages["aiohttp"]
    assert machine.packages["aiohttp"] in str(machine)
    assert "GiB" not in str(attrs.evolve(machine, memory=None))


def test_a_run_of_everything_writes_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without arguments the document is written; any other run leaves it alone."""
    place = tmp_path / "benchmarks.md"
    monkeypatch.setattr(command, "DOCUMENT", place)
    monkeypatch.delenv("BENCH_IDS", raising=False)
    scenarios = {"s": _Measured(results=(_REACHED,))}
    for arguments in (["s"], ["--quick"], ["--rounds", "1"], ["--json"]):
        command.main(arguments, scenarios)
    assert not place.exists()
    command.main([], scenarios)
    assert "| command | `make bench` |" in place.read_text(encoding="utf-8")
    assert "1 of 1 targets reached" in capsys.readouterr().out


def test_a_part_may_be_written_elsewhere(tmp_path: Path) -> None:
    """With --write, a run of some leaves a document of its own, with the command that it takes."""
    place = tmp_path / "some.md"
    command.main(["s", "--write", str(place)], {"s": _Measured(results=(_REACHED,))})
    assert f"| command | `make bench ARGS='s --write {place}'` |" in place.read_text(encoding="utf-8")


def test_a_failure_leaves_the_others_their_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """A scenario that fails is named and makes the exit code 1; what the others measured is shown."""
    scenarios: dict[str, Scenario] = {"broken": _Broken(), "s": _Measured(results=(_REACHED,))}
    with pytest.raises(SystemExit) as ended:
        command.main(["broken", "s", "--json"], scenarios)
    told = capsys.readouterr()
    assert ended.value.code == 1
    assert [row["scenario"] for row in json.loads(told.out)["rows"]] == ["s"]
    assert "RuntimeError: no such luck" in told.err
    assert "\ns: 0 s\n" in told.err
    assert told.err.endswith("failed: broken\n")


@pytest.mark.parametrize(
    ("arguments", "ids", "said"),
    [
        (["nothing"], "", "there is no scenario 'nothing'; there are tokens"),
        (["upload", "--rounds", "0"], "", "--rounds must be at least 1"),
        (["upload", "--write", "/nowhere/at/all.md"], "", "there is no directory /nowhere/at"),
        (["upload"], "1e6", "BENCH_IDS must be a whole number, 10,000 or more, without separators: '1e6'"),
        (["upload"], "9999", "BENCH_IDS must be a whole number"),
    ],
)
def test_what_cannot_be_run_is_refused(
    arguments: list[str],
    ids: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A bad argument or variable is an error of usage that names it, and nothing runs."""
    monkeypatch.setenv("BENCH_IDS", ids)
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "ids", "expected", "rounds"),
    [([], "", 10_000_000, 7), (["--quick"], "", 100_000, 1), (["--quick"], "20000", 20_000, 1)],
)
def test_the_size_is_said_by_flag_or_variable(
    arguments: list[str], ids: str, expected: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--quick has one round and few ids; BENCH_IDS says how many."""
    seen = []

    def run(self: Load, _name: str, rounds: int) -> list[Row]:
        seen.append((self.ids, rounds))
        return []

    monkeypatch.setenv("BENCH_IDS", ids)
    monkeypatch.setattr(Load, "run", run)
    command.main(["sync_load", *arguments], {"sync_load": attrs.evolve(Load(), rounds=7)})
    assert seen == [(expected, rounds)]


def test_the_help_names_the_variable(capsys: pytest.CaptureFixture[str]) -> None:
    """--help says what BENCH_IDS does and which run writes the document."""
    with pytest.raises(SystemExit):
        command.main(["--help"])
    told = capsys.readouterr().out
    assert "BENCH_IDS=100000 make bench" in told
    assert "writes docs/benchmarks.md" in told
