"""The comparison of a source and the recorded members, partition by partition."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from ..._errors import StateError
from ..._options import Mode
from ..._sql import KEY
from .._schema import UNKNOWN, members_table
from .._state import State
from ._digests import Digests
from ._keys import count_partitions, salt_of

# Keys instead of IDs: they are short and have one size, so that many passes over them are cheap. `row` finds
# the ID again. No statement that may move a row runs in between.
_MEMBER_KEYS: Final = f"""
CREATE OR REPLACE TEMP TABLE member_keys_stored AS
SELECT {KEY} AS key, rowid AS row<fingerprint> FROM {{members}}
"""
_VIEW: Final = "CREATE OR REPLACE TEMP VIEW {view} AS SELECT <key>, <row>, <fingerprint> FROM {table}"
_HAS_FINGERPRINTS: Final = """
SELECT coalesce((SELECT max(fingerprint) FROM {staged}), 0) > 0
    OR coalesce((SELECT max(fingerprint) FROM {members}), 0) > 0
"""
# Each query returns the columns of `found`. Numbers of actions are those of Action. One FULL JOIN takes half
# the memory of two anti joins.
_FOUND: Final = """
CREATE OR REPLACE TEMP TABLE found (row BIGINT, action UTINYINT, fingerprint UHUGEINT, in_source BOOLEAN)
"""
_WITHIN: Final = " WHERE key & {mask} = {partition}"
_SOURCE: Final = f"(SELECT * FROM source_keys{_WITHIN}) AS s"
_MEMBERS: Final = f"(SELECT * FROM member_keys{_WITHIN}) AS m"
_BOTH: Final = f"""
SELECT coalesce(s.row, m.row),
    CASE WHEN s.key IS NULL THEN 0 WHEN m.key IS NULL OR m.fingerprint = {UNKNOWN}::UHUGEINT THEN 1
        WHEN s.fingerprint <> m.fingerprint THEN 2 ELSE 3 END,
    coalesce(s.fingerprint, m.fingerprint), s.key IS NOT NULL
FROM {_SOURCE} FULL JOIN {_MEMBERS} ON s.key = m.key
"""
_STAGED: Final = f"""
SELECT s.row,
    CASE WHEN m.key IS NULL OR m.fingerprint = {UNKNOWN}::UHUGEINT THEN 1
        WHEN s.fingerprint <> m.fingerprint THEN 2 ELSE 3 END,
    s.fingerprint, true
FROM {_SOURCE} LEFT JOIN {_MEMBERS} ON s.key = m.key
"""
# An ID that the state does not record may be a member all the same: a web app may have added it. Removing it
# changes nothing if it is not.
_REMOVE: Final = f"""
SELECT s.row, CASE WHEN m.key IS NULL THEN 4 ELSE 0 END, coalesce(m.fingerprint, 0), true
FROM {_SOURCE} LEFT JOIN {_MEMBERS} ON s.key = m.key
"""
_MIRROR: Final = _BOTH + "WHERE s.key IS NULL OR m.key IS NULL OR s.fingerprint <> m.fingerprint"
_QUERIES: Final = {
    Mode.MIRROR: _MIRROR,
    Mode.ADOPT: _MIRROR,
    Mode.ADD: _STAGED + "WHERE m.key IS NULL OR s.fingerprint <> m.fingerprint",
    Mode.REMOVE: _REMOVE,
    Mode.REPLACE: _STAGED,
    Mode.RESYNC: _BOTH,
    Mode.ROLLBACK: _BOTH + f"WHERE s.key IS NULL OR m.key IS NULL OR m.fingerprint = {UNKNOWN}::UHUGEINT",
}
# Modes for which equal partitions have no actions.
SKIPPING_MODES: Final = (Mode.MIRROR, Mode.ADOPT, Mode.ADD)
# A resync also removes every other ID that a retained run ever sent.
_SENT: Final = f"CREATE OR REPLACE TEMP TABLE sent_keys AS SELECT {KEY} AS key, id FROM"
_UNTRACKED: Final = f"""
INSERT INTO {{diff}} SELECT DISTINCT id, 4, 0::UHUGEINT, NULL, NULL
FROM (SELECT * FROM sent_keys{_WITHIN})
ANTI JOIN (SELECT key FROM source_keys{_WITHIN}) USING (key)
ANTI JOIN (SELECT key FROM member_keys{_WITHIN}) USING (key)
"""
_DIFF: Final = """
CREATE OR REPLACE TEMP TABLE {diff} (
    id VARCHAR, action UTINYINT, fingerprint UHUGEINT, attributes VARCHAR, tags VARCHAR[]
)
"""
# A removal sends no attributes, whatever the source has.
_FETCH_SOURCE: Final = """
INSERT INTO {diff} SELECT t.id, f.action, f.fingerprint,
    CASE WHEN f.action IN (1, 2, 3) THEN t.attributes END, CASE WHEN f.action IN (1, 2, 3) THEN t.tags END
FROM {table} t
JOIN (SELECT * FROM found WHERE in_source AND row & {mask} = {partition}) f ON t.rowid = f.row
"""
_FETCH_MEMBERS: Final = """
INSERT INTO {diff} SELECT t.id, f.action, f.fingerprint, NULL, NULL
FROM {table} t
JOIN (SELECT * FROM found WHERE NOT in_source AND row & {mask} = {partition}) f ON t.rowid = f.row
"""


@attrs.frozen(kw_only=True)
class Comparison:
    """Two tables and their keys, which exist within `comparing`.

    Attributes:
        state: The open state.
        members: The members' table.
        staged: The source's table.
        partitions: The number of partitions.
        has_fingerprints: Whether any ID has a fingerprint.
    """

    state: State
    members: str
    staged: str
    partitions: int
    has_fingerprints: bool

    def read_source(self) -> Digests:
        """Return the digests of the source, whose keys are staged."""
        self._view("source_keys", self.staged, "rowid AS row")
        return Digests.of_keys(self.state, "source_keys", self.partitions)

    def read_members(self, *, once: bool) -> None:
        """Compute the keys of the members, or leave that to the join.

        Args:
            once: Whether one scan of each partition is enough. Then a single partition needs no table.
        """
        if once and self.partitions == 1:
            key = KEY.format(salt=salt_of(self.state))
            self._view("member_keys", self.members, "rowid AS row", key=f"{key} AS key")
            return
        # Fingerprints are stored only if there are any.
        template = _MEMBER_KEYS.replace("<fingerprint>", ", fingerprint" if self.has_fingerprints else "")
        self.state.rows(template, members=self.members, salt=salt_of(self.state))
        self._view("member_keys", "member_keys_stored", "row")

    def digest_members(self) -> Digests:
        """Return the digests of the members, whose keys were computed."""
        return Digests.of_keys(self.state, "member_keys", self.partitions)

    def _view(self, view: str, table: str, row: str, *, key: str = "key") -> None:
        """Create a view of `key, row, fingerprint`."""
        fingerprint = "fingerprint" if self.has_fingerprints else "0"
        template = _VIEW.replace("<key>", key).replace("<row>", row)
        template = template.replace("<fingerprint>", f"{fingerprint}::UHUGEINT AS fingerprint")
        self.state.rows(template, view=view, table=table)

    def find(self, mode: Mode, partitions: Iterable[int], diff: str) -> None:
        """Create the table of actions: `id, action, fingerprint, attributes, tags`.

        Args:
            mode: How to use the source.
            partitions: The partitions that may differ.
            diff: The name of the table.

        Raises:
            StateError: If DuckDB failed.
        """
        self.state.rows(_FOUND)
        query = _QUERIES[mode]
        if not self.has_fingerprints:  # constants need no memory in the join
            query = query.replace("s.fingerprint", "0::UHUGEINT").replace("m.fingerprint", "0::UHUGEINT")
        for partition in partitions:
            self._run("INSERT INTO found " + query, self.partitions, partition)
        self.state.rows(_DIFF, diff=diff)
        self._fetch("in_source", _FETCH_SOURCE, self.staged, diff)
        self._fetch("NOT in_source", _FETCH_MEMBERS, self.members, diff)

    def add_untracked(self, changes: str, diff: str) -> None:
        """Add, to the table of actions, the IDs that retained runs have sent and that neither side has.

        Args:
            changes: The query for the changes of these runs.
            diff: The name of the table.
        """
        self.state.rows(f"{_SENT} ({changes})", salt=salt_of(self.state))
        for partition in range(self.partitions):
            self._run(_UNTRACKED, self.partitions, partition, diff=diff)

    def _fetch(self, condition: str, template: str, table: str, diff: str) -> None:
        """Read the IDs of what was found in one table, in as many passes as the memory needs."""
        (count,) = self.state.row(f"SELECT count(*) FROM found WHERE {condition}")
        passes = count_partitions(self.state, count) if count else 0
        for partition in range(passes):
            self._run(template, passes, partition, table=table, diff=diff)

    def _run(self, template: str, partitions: int, partition: int, **names: str) -> None:
        if partitions == 1:  # the condition would compute a key again
            template = template.replace(_WITHIN, "")
        self.state.rows(template, mask=str(partitions - 1), partition=str(partition), **names)


@contextlib.contextmanager
def comparing(state: State, *, key: str, staged: str, partitions: int) -> Iterator[Comparison]:
    """Compare two tables, and drop the tables of their keys at the end.

    Args:
        state: An open state.
        key: The audience's key.
        staged: The source's table.
        partitions: The number of partitions.
    """
    members = members_table(key)
    (has_fingerprints,) = state.row(_HAS_FINGERPRINTS, staged=staged, members=members)
    try:
        yield Comparison(
            state=state,
            members=members,
            staged=staged,
            partitions=partitions,
            has_fingerprints=has_fingerprints,
        )
    finally:
        with contextlib.suppress(StateError):  # a broken state has failed the run already
            for view in ("source_keys", "member_keys"):
                state.rows("DROP VIEW IF EXISTS temp.{view}", view=view)
            for table in ("member_keys_stored", "sent_keys", "found"):
                state.rows("DROP TABLE IF EXISTS temp.{table}", table=table)
