"""Results as Markdown tables or as JSON."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence

import attrs

from ..measure.machine import Machine
from ..results.comparison import Comparison
from ..results.rows import HEAD, Row, write_number
from ..results.scenario import Result, all_rows

# Columns of text. All others contain numbers and are right-aligned.
_TEXT_COLUMNS = frozenset({"contender", "measure", "baseline", "target", "reached", "item"})


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are also aligned as plain text."""
    lines = [list(head), *map(list, rows)]
    for number, name in enumerate(head):
        is_text = name in _TEXT_COLUMNS
        width = max(3, *(len(line[number]) for line in lines))
        for line in lines:
            line[number] = line[number].ljust(width) if is_text else line[number].rjust(width)
        lines[0][number] += "\n" + "-" * (width - 1) + ("-" if is_text else ":")
    names, rules = zip(*(cell.split("\n") for cell in lines[0]), strict=True)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, rules, *lines[1:]))


def format_results(results: Iterable[Result]) -> Iterator[str]:
    """Yield the tables of a scenario: one for all its rows, and up to two for each comparison."""
    for is_comparison, group in itertools.groupby(results, lambda result: isinstance(result, Comparison)):
        if not is_comparison:
            yield markdown_table(HEAD, [row.cells() for row in group if isinstance(row, Row)])
            continue
        for comparison in (result for result in group if isinstance(result, Comparison)):
            head, *lines = comparison.cells()
            yield f"{comparison.what}:\n\n{markdown_table(head, lines)}"
            if comparison.left_out:
                yield "\n".join(f"- {note}" for note in comparison.left_out)
            if comparison.target_rows:
                yield markdown_table(
                    ("measure", "value", "target", "reached"),
                    [
                        (row.what, write_number(row.value), str(row.target), row.reached_text)
                        for row in comparison.target_rows
                    ],
                )


def format_text(results: Iterable[Result], machine: Machine) -> str:
    """Return all tables by scenario, then the machine and the summary of the targets."""
    results = list(results)
    parts = [
        f"{name}\n\n" + "\n\n".join(format_results(group))
        for name, group in itertools.groupby(results, lambda result: result.scenario)
    ]
    return "\n\n".join([*parts, "\n".join([str(machine), *target_summary(results)])])


def format_json(results: Iterable[Result], machine: Machine) -> str:
    """Return everything as one JSON object."""
    results = list(results)
    comparisons = [attrs.asdict(result) for result in results if isinstance(result, Comparison)]
    rows = [{**attrs.asdict(row), "reached": row.reached} for row in all_rows(results)]
    return json.dumps({"run": attrs.asdict(machine), "rows": rows, "comparisons": comparisons}, indent=2)


def target_summary(results: Iterable[Result]) -> list[str]:
    """Return how many targets were reached, then a line for each that was not."""
    rows = [row for row in all_rows(results) if row.target is not None]
    reached = sum(row.reached is True for row in rows)
    return [f"{reached} of {len(rows)} targets reached", *(_miss(row) for row in rows if not row.reached)]


def _miss(row: Row) -> str:
    if row.reached is None:
        return f"not measured: {row.scenario}: {row.what}"
    is_ratio = row.target is not None and row.target.of == "ratio"
    value = f"{row.ratio:.2f}x {row.baseline}" if is_ratio else write_number(row.value)
    return f"NOT reached: {row.scenario}: {row.what}: {value}, target {row.target}"
