"""What was measured, as tables in aligned text or in Markdown, or as JSON."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence

import attrs

from ..measure.machine import Machine
from ..results.board import Board
from ..results.rows import HEAD, Row, write_number
from ..results.scenario import Result, judged_rows

_JUDGED_HEAD = ("judged", "measured", "target", "reached")
# Columns of words; all others are numbers and stand to the right.
_WORDS = frozenset({"", "what", "rival", "target", "reached", "judged"})


@attrs.frozen(kw_only=True)
class Table:
    """Cells, with what they are of.

    Attributes:
        title: What they are of; empty where the scenario's name says it.
        cells: The head and the lines.
        notes: What is to be said below.
    """

    title: str = ""
    cells: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def as_text(self) -> str:
        """Write aligned columns."""
        widths = [max(map(len, column)) for column in zip(*self.cells, strict=True)]
        head, *lines = (self._align(cells, widths) for cells in self.cells)
        rule = "  ".join("-" * width for width in widths)
        return "\n".join([*filter(None, [self.title]), head, rule, *lines, *self.notes])

    def as_markdown(self) -> str:
        """Write a table of Markdown."""
        head, *lines = ("| " + " | ".join(cells) + " |" for cells in self.cells)
        rule = "|".join("---" if is_words else "--:" for is_words in self._are_words())
        table = "\n".join([head, f"|{rule}|", *lines])
        title = f"{self.title}:\n\n" if self.title else ""
        notes = "".join(f"\n- {note}" for note in self.notes)
        return title + table + (f"\n{notes}" if notes else "")

    def _align(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = (
            cell.ljust(width) if is_words else cell.rjust(width)
            for cell, width, is_words in zip(cells, widths, self._are_words(), strict=True)
        )
        return "  ".join(padded).rstrip()

    def _are_words(self) -> list[bool]:
        return [name in _WORDS for name in self.cells[0]]


def make_tables(results: Iterable[Result]) -> list[Table]:
    """Return the tables of a scenario's results: its rows in one, and two for each board."""
    return list(itertools.chain.from_iterable(_tables(results)))


def format_text(results: Iterable[Result], machine: Machine) -> str:
    """Write everything as text, the verdict last."""
    results = list(results)
    parts = [
        f"{name}\n" + "\n\n".join(table.as_text() for table in make_tables(of_one))
        for name, of_one in itertools.groupby(results, lambda result: result.scenario)
    ]
    return "\n\n".join([*parts, "\n".join([str(machine), *tell_verdict(results)])])


def format_json(results: Iterable[Result], machine: Machine) -> str:
    """Write everything as one JSON object."""
    results = list(results)
    boards = [attrs.asdict(result) for result in results if isinstance(result, Board)]
    rows = [row for result in results for row in _rows(result)]
    listed = [{**attrs.asdict(row), "reached": row.reached} for row in rows]
    return json.dumps({"run": attrs.asdict(machine), "rows": listed, "boards": boards}, indent=2)


def tell_verdict(results: Iterable[Result]) -> list[str]:
    """Say how many targets were reached, then which were not, a line for each."""
    rows = judged_rows(results)
    reached = sum(row.reached is True for row in rows)
    return [f"{reached} of {len(rows)} targets reached", *(_miss(row) for row in rows if not row.reached)]


def _tables(results: Iterable[Result]) -> Iterator[list[Table]]:
    for is_board, group in itertools.groupby(results, lambda result: isinstance(result, Board)):
        listed = list(group)
        if is_board:
            yield from (_board_tables(board) for board in listed if isinstance(board, Board))
        else:
            yield [Table(cells=[HEAD, *(row.cells() for row in listed if isinstance(row, Row))])]


def _board_tables(board: Board) -> list[Table]:
    """Make the table of all, and that of the targets."""
    tables = [Table(title=board.what, cells=board.cells(), notes=board.left_out)]
    judged = [(row.what, write_number(row.ours), str(row.target), row.verdict) for row in board.judged]
    return [*tables, Table(cells=[_JUDGED_HEAD, *judged])] if judged else tables


def _rows(result: Result) -> Sequence[Row]:
    return result.judged if isinstance(result, Board) else [result]


def _miss(row: Row) -> str:
    """Say what was not reached, and by how much."""
    if row.reached is None:
        return f"not measured: {row.scenario}: {row.what}"
    is_ratio = row.target is not None and row.target.of == "ratio"
    value = f"{row.ratio:.2f}x {row.rival}" if is_ratio else write_number(row.ours)
    return f"NOT reached: {row.scenario}: {row.what}: {value}, target {row.target}"
