"""Loading of an audience from a store into the open state, which is a cache of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from ..._errors import StateError
from .._chunks import ChunkTransition
from .._run_changes import runs_with_changes
from .._schema import (
    ACTIONS,
    INTENDED,
    MEMBERS,
    REFUSED,
    RUN_CHANGES,
    actions_table,
    intended_table,
    members_table,
    refused_table,
    run_changes_table,
)
from .._state import State
from ..partitions._keys import each_partition
from . import _parquet
from ._head import Head, MemberFile, foreign_errors, parse
from ._layout import Place
from ._run_log import Range, RunLog, fold
from ._store import ObjectStore
from ._tables import LATEST, insert_digests, insert_history, insert_last_seen

_DELTAS: Final = (
    "CREATE OR REPLACE TEMP TABLE {deltas} (n BIGINT, id VARCHAR, op UTINYINT, fingerprint UHUGEINT)"
)
_APPLY: Final = """
INSERT INTO {members} SELECT id, fingerprint FROM (
    SELECT id, arg_max(op, n) AS op, arg_max(fingerprint, n) AS fingerprint FROM {deltas}
    WHERE <within> GROUP BY id
) WHERE op = 1
"""
_UNCHANGED: Final = (
    _parquet.READ_MEMBERS + " WHERE <within> AND id NOT IN (SELECT id FROM {deltas} WHERE <within>)"
)
# Only the number of members is needed.
_COUNTED: Final = """
CREATE OR REPLACE VIEW {members} AS SELECT NULL::VARCHAR AS id, 0::UHUGEINT AS fingerprint FROM range({count})
"""


@attrs.frozen
class Loader:
    """Loads audiences.

    Attributes:
        state: The open state.
        store: The store.
        scratch: A private directory.
    """

    state: State
    store: ObjectStore
    scratch: Path

    def load(self, place: Place, head: Head, *, members: bool) -> RunLog | None:
        """Load an audience that the open state does not have.

        Args:
            place: The audience.
            head: What it is.
            members: Whether the IDs of the members are needed, or only their number.

        Returns:
            The objects of its open run. None if all runs are settled.

        Raises:
            StateError: It could not be loaded. The open state has nothing of it.
        """
        log, plan, entries = None, dict[str, Any](), []
        if head.open_run is not None:
            log = RunLog(self.store, place, head.open_run)
            plan, entries = log.read_plan(), log.read()
        with self.state.transaction():
            with foreign_errors(self.store.url):
                self._insert_audience(head)
            if members:
                self._load_members(head)
            else:
                table = members_table(head.key)
                self.state.rows(_COUNTED, members=table, count=str(head.count))
            if plan:
                ranges, transitions = fold(plan["chunks"], entries)
                self._insert_run(plan["run"], ranges, transitions)
                self._load_actions(plan if members else {"run": plan["run"], "changes": []})
            for run in runs_with_changes(self.state, head.key):
                self.state.rows(RUN_CHANGES, run_changes=run_changes_table(run))
        return log

    def fetch_changes(self, files: Sequence[MemberFile]) -> None:
        """Fill the empty tables of what runs changed.

        Args:
            files: The files.

        Raises:
            StateError: One could not be read.
        """
        for file in files:
            table = run_changes_table(file.run)
            (is_empty,) = self.state.row("SELECT count(*) = 0 FROM {run_changes}", run_changes=table)
            if is_empty:
                with self.state.transaction(), self._downloaded(file.path) as path:
                    _parquet.read(self.state, _parquet.READ_UNDO, path, run_changes=table)

    def load_reports(self, place: Place, head: Head, *, limit: int, run: int | None) -> None:
        """Load runs that are too old for the head, from their reports.

        Args:
            place: The audience.
            head: What it is.
            limit: The runs that are needed at least.
            run: A run that is needed. None if the latest are enough.

        Raises:
            StateError: A report could not be read.
        """
        known = {number for (number,) in self.state.rows("SELECT run FROM runs WHERE key = ?", [head.key])}
        if run is not None:
            wanted = {run} - known
        elif limit > len(known) >= LATEST:
            prefix = f"{place.prefix}runs/"
            names = (one.path.removeprefix(prefix).split("/") for one in self.store.list(prefix))
            numbers = {int(name[0]) for name in names if name[1:] == ["report.json"]} - known
            wanted = set(sorted(numbers, reverse=True)[:limit])
        else:
            return
        for number in sorted(wanted):
            found = self.store.get(place.run(number).report)
            if found is not None:
                with foreign_errors(self.store.url):
                    document = parse(found.data, self.store.url)
                    source = document["source"]
                    # Of a run that the head leaves out, the changes are no longer retained.
                    row = document["run"] | {"kept": False}
                    insert_history(self.state, [row], [] if source is None else [source])

    def _insert_audience(self, head: Head) -> None:
        state = self.state
        if not state.rows("SELECT 1 FROM targets WHERE scope = ?", [head.scope]):
            state.rows("INSERT INTO targets VALUES (?, ?)", [head.scope, head.target])
        values = [head.key, head.scope, head.name, head.generation, head.known, head.contract]
        state.rows("INSERT INTO audiences VALUES (?, ?, ?, ?, ?, ?)", values)
        insert_history(state, head.history, head.settled_rows)
        insert_last_seen(state, head.key, head.last_seen)
        insert_digests(state, head.key, head.digests)

    def _load_members(self, head: Head) -> None:
        state, members = self.state, members_table(head.key)
        state.rows(MEMBERS, members=members)
        deltas = f"temp.deltas_{head.key}"
        if head.deltas:
            state.rows(_DELTAS, deltas=deltas)
            for number, file in enumerate(head.deltas):
                with self._downloaded(file.path) as path:
                    _parquet.read(state, _parquet.READ_DELTA, path, number=number, deltas=deltas)
        if head.base is not None:
            with self._downloaded(head.base.path) as path:
                if not head.deltas:
                    _parquet.read(state, _parquet.READ_MEMBERS, path, members=members)
                else:
                    for within in each_partition(state, sum(file.rows for file in head.deltas)):
                        statement = _UNCHANGED.replace("<within>", within)
                        _parquet.read(state, statement, path, members=members, deltas=deltas)
        if head.deltas:
            for within in each_partition(state, sum(file.rows for file in head.deltas)):
                state.rows(_APPLY.replace("<within>", within), members=members, deltas=deltas)
            state.rows("DROP TABLE {deltas}", deltas=deltas)
        self._load_noted(head)
        (count,) = state.row("SELECT count(*) FROM {members}", members=members)
        if count != head.count:
            msg = (
                f"its files hold {count:,} members of audience {head.name!r}, but its head counts "
                f"{head.count:,}. Restore them, or `adopt` the members again in another prefix."
            )
            raise StateError(msg, path=self.store.url, reason="damaged")

    def _load_noted(self, head: Head) -> None:
        """Load what was noted of single IDs."""
        state = self.state
        if head.refused is not None:
            refused = refused_table(head.key)
            state.rows(REFUSED, refused=refused)
            with self._downloaded(head.refused.path) as path:
                _parquet.read(state, _parquet.READ_REFUSED, path, refused=refused)
        if head.intended is not None:
            intended = intended_table(head.key)
            state.rows(INTENDED, intended=intended)
            with self._downloaded(head.intended.path) as path:
                _parquet.read(state, _parquet.READ_INTENDED, path, intended=intended)

    def _insert_run(self, run: int, ranges: Sequence[Range], transitions: Sequence[ChunkTransition]) -> None:
        state = self.state
        columns = [list(column) for column in zip(*ranges, strict=True)] or [[], [], []]
        state.rows(
            "INSERT INTO chunks SELECT ?, unnest(?::INTEGER[]), unnest(?::BIGINT[]), unnest(?::BIGINT[])",
            [run, *columns],
        )
        state.rows(
            """INSERT INTO marks SELECT ?, unnest(?::BIGINT[]), unnest(?::INTEGER[]), unnest(?::VARCHAR[]),
                unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), ?""",
            [
                run,
                list(range(len(transitions))),
                [one.n for one in transitions],
                [one.state.value for one in transitions],
                [None if one.token is None else str(one.token) for one in transitions],
                [one.reason for one in transitions],
                state.timestamp(),
            ],
        )

    def _load_actions(self, plan: dict[str, Any]) -> None:
        actions = actions_table(plan["run"])
        self.state.rows(ACTIONS, actions=actions)
        for path in plan["changes"]:
            with self._downloaded(path) as file:
                _parquet.read(self.state, _parquet.READ_CHANGES, file, actions=actions)

    @contextmanager
    def _downloaded(self, path: str) -> Iterator[Path]:
        """Download a file, and delete it at the end."""
        file = self.scratch / path.rsplit("/", 1)[-1]
        try:
            self.store.download(path, file)
            yield file
        finally:
            file.unlink(missing_ok=True)
