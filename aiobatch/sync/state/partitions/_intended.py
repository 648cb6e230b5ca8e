"""What runs were to do with IDs whose chunks have an unknown outcome. The next plan contains it.

A source that lists all members decides for each of these IDs. A list of IDs to add or to remove is not
repeated by the next one, so that its plan carries over what is not certain yet, and the guard counts it.
"""

from __future__ import annotations

from typing import Final

from ..._options import Mode
from .._schema import INTENDED, UNKNOWN, diff_table, intended_table, members_table
from .._state import State
from ._keys import each_partition

# Conditions for what the plan of a mode carries over: IDs to add, and IDs to remove. A source that lists all
# members decides for each of them. To remove IDs that were no recorded members, no source decides.
_ALL: Final = ("action = 1", "action <> 1")
CARRIED: Final = {Mode.ADD: _ALL, Mode.REMOVE: _ALL, Mode.MIRROR: ("false", "action = 4")}

# Numbers of actions are those of Action. An ID that may have arrived is sent with action 1, whatever it was.
_KEEP: Final = """
INSERT INTO {intended}
SELECT id, CASE WHEN action IN (0, 4) THEN action ELSE 1 END, fingerprint, attributes, tags, ? FROM {sent}
"""
# A replace removes all other members.
_KEEP_OTHERS: Final = """
INSERT INTO {intended} SELECT id, 0, 0, NULL, NULL, ? FROM {members} ANTI JOIN {sent} USING (id)
"""
# The inner join keeps the small side in memory, however many IDs were decided.
_DECIDE: Final = """
DELETE FROM {intended} WHERE id IN (SELECT id FROM {decided} SEMI JOIN {intended} USING (id))
"""
# A change is still open if its member is UNKNOWN. The removal of an ID that was no recorded member leaves no
# trace. The source has decided for an ID that the diff has.
_CARRY: Final = f"""
INSERT INTO {{diff}} SELECT id, action, fingerprint, attributes, tags
FROM (SELECT * FROM {{intended}} WHERE <wanted> AND <within>)
ANTI JOIN (SELECT id FROM {{diff}} SEMI JOIN {{intended}} USING (id) WHERE <within>) USING (id)
LEFT JOIN (
    SELECT id, fingerprint AS stored FROM {{members}} SEMI JOIN {{intended}} USING (id) WHERE <within>
) USING (id)
WHERE CASE WHEN action = 4 THEN stored IS NULL ELSE stored = {UNKNOWN}::UHUGEINT END
"""
_COUNT_ADDS: Final = """
SELECT count(*) FROM {diff} d SEMI JOIN (SELECT id FROM {intended} WHERE action = 1) USING (id)
WHERE d.action = 1
"""
_EXCLUDE_REMOVED: Final = """
DELETE FROM {target} WHERE id IN (SELECT id FROM {intended} WHERE action = 0 AND run <= ?)
"""
# What a run decides besides its own IDs. A replace decides for all members, and a rollback undoes removals of
# IDs that were no recorded members.
_OTHERS: Final = {Mode.REPLACE: "action <> 4", Mode.ROLLBACK: "action = 4"}


def has_intended(state: State, key: str) -> bool:
    """Return whether an audience has changes of unknown outcome."""
    table = intended_table(key)
    return state.has_table(table) and bool(state.rows("FROM {intended} LIMIT 1", intended=table))


def keep_intended(state: State, *, key: str, run: int, mode: Mode, sent: str) -> None:
    """Record, within a transaction, what a run was to do with IDs of unknown outcome.

    Args:
        state: An open state. The members are those from before the run.
        key: The audience's key.
        run: The run's number.
        mode: The run's mode.
        sent: A table or view of `id, action, fingerprint, attributes, tags`.
    """
    tables = {"intended": intended_table(key), "members": members_table(key), "sent": sent}
    state.rows(INTENDED, **tables)
    state.rows(_KEEP, [run], **tables)
    if mode is Mode.REPLACE:
        state.rows(_KEEP_OTHERS, [run], **tables)


def forget_intended(state: State, *, key: str, decided: str) -> None:
    """Delete, within a transaction, what a run has decided.

    Args:
        state: An open state.
        key: The audience's key.
        decided: A table or view of `id`.
    """
    if has_intended(state, key):
        state.rows(_DECIDE, intended=intended_table(key), decided=decided)


def forget_others(state: State, *, key: str, mode: Mode) -> None:
    """Delete, within a transaction, what a run of a mode has decided besides its own IDs.

    Args:
        state: An open state.
        key: The audience's key.
        mode: The run's mode. The run has had an effect, or may have had one, or had nothing to do.
    """
    if mode in _OTHERS and has_intended(state, key):
        state.rows(f"DELETE FROM {{intended}} WHERE {_OTHERS[mode]}", intended=intended_table(key))


def clear_intended(state: State, key: str) -> None:
    """Delete, within a transaction, all that is intended."""
    state.rows("DROP TABLE IF EXISTS {intended}", intended=intended_table(key))


def carry_over(state: State, key: str, mode: Mode) -> tuple[int, int]:
    """Add, to the table of actions, what earlier runs intended and the source does not decide.

    Args:
        state: An open state.
        key: The audience's key.
        mode: The mode of the plan.

    Returns:
        The number of IDs to add, and of those to remove.
    """
    tables = {"intended": intended_table(key), "members": members_table(key), "diff": diff_table(key)}
    (rows,) = state.row("SELECT count(*) FROM {intended}", **tables)
    counts = [0, 0]
    for number, wanted in enumerate(CARRIED[mode]):
        for within in each_partition(state, rows):
            statement = _CARRY.replace("<wanted>", wanted).replace("<within>", within)
            counts[number] += state.row(statement, **tables)[0]
    return counts[0], counts[1]


def count_intended_adds(state: State, key: str) -> int:
    """Return how many IDs of the diff were to be added before, so that Batch may not have them.

    Args:
        state: An open state.
        key: The audience's key.
    """
    if not has_intended(state, key):
        return 0
    (count,) = state.row(_COUNT_ADDS, diff=diff_table(key), intended=intended_table(key))
    return int(count)


def exclude_removed(state: State, *, key: str, run: int, target: str) -> None:
    """Delete, from the members after a run, those that this run or an earlier one was to remove.

    Args:
        state: An open state.
        key: The audience's key.
        run: The run's number.
        target: A table of `id`.
    """
    if has_intended(state, key):
        state.rows(_EXCLUDE_REMOVED, [run], intended=intended_table(key), target=target)
