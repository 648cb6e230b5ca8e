"""Changes of the record without sending anything: adopt, forget, and the members after an earlier run."""

from __future__ import annotations

from typing import Final

from .._errors import UnknownRunError
from .._plan import Plan
from .._sql import KEY
from ._audience_snapshots import clear_snapshot
from ._history import Run, RunEnding, RunOutcome, RunRows, Settlement, end_run, insert_run, show_run
from ._refused_ids import clear_refused
from ._run_changes import (
    NO_OP_RUNS,
    apply_changes,
    changes_of,
    prune_changes,
    runs_with_changes,
)
from ._schema import (
    RUN_CHANGES,
    actions_table,
    members_table,
    planned_table,
    rollback_table,
    run_changes_table,
)
from ._state import AudienceRecord, State
from .partitions._digests import clear_digests
from .partitions._intended import clear_intended, exclude_removed, forget_intended
from .partitions._keys import each_partition, salt_of

_TARGET: Final = """
CREATE OR REPLACE TEMP TABLE {target} (
    id VARCHAR, key UHUGEINT, attributes VARCHAR, tags VARCHAR[], fingerprint UHUGEINT
)
"""
# An ID that has changed since then gets its membership from before its first change.
_EARLIER: Final = """
INSERT INTO {target}
WITH changes AS (SELECT * FROM (<changes>) WHERE <within>),
first_changes AS (SELECT id, arg_min(added, run) AS added FROM changes WHERE sure GROUP BY id),
earlier AS (
    SELECT id FROM (SELECT id FROM {members} WHERE <within>)
    ANTI JOIN first_changes USING (id) WHERE NOT ?
    UNION ALL SELECT id FROM first_changes WHERE NOT added
)
SELECT id, <key>, NULL, NULL, 0 FROM earlier
""".replace("<key>", KEY)
# The earliest run to roll back to: the changes of all later ones are retained.
_EARLIEST: Final = f"SELECT max(run) FROM runs WHERE key = ? AND NOT kept AND NOT {NO_OP_RUNS}"


def adopt(state: State, plan: Plan, rows: RunRows | None = None) -> Run:
    """Record a source's IDs as the audience's members.

    Args:
        state: An open state. The last plan that `make_plan` made in it for this audience is *plan*.
        plan: A plan of the mode `ADOPT`.
        rows: The rows of the source, for the history. None if they are unknown.

    Raises:
        OpenRunError: If a run of the audience is not settled.
        StalePlanError: If the state has changed since the plan was made.
        StateError: If it could not be written. Nothing was changed.
    """
    record = state.refuse_open_run(plan.key)
    plan.refuse_moved(state.state_id, record.generation)
    with state.transaction():
        run = insert_run(state, plan, record, rows)
        state.rows(RUN_CHANGES, run_changes=run_changes_table(run))
        planned = planned_table(plan.key)
        state.ledger.note_changes(plan.key, lambda: planned)
        forget_intended(state, key=plan.key, decided=planned)
        apply_changes(state, key=plan.key, run=run, mode=plan.mode, applied=planned)
        clear_refused(state, plan.key)
        state.bump_generation(plan.key)
        ending = RunEnding(outcome=RunOutcome.DONE, calls=0, retries=0)
        end_run(state, run, ending, Settlement(key=plan.key, applied=plan.changes, refused=0))
        if not plan.changes:
            state.rows("DROP TABLE {run_changes}", run_changes=run_changes_table(run))
        prune_changes(state, plan.key)
    state.ledger.save(plan.key)
    return show_run(state, run)


def forget(state: State, audience: AudienceRecord) -> None:
    """Delete the record of an audience, with its members, its history and its open run.

    Raises:
        StateError: If it could not be written. Nothing was changed.
    """
    drop_audience(state, audience.key)
    state.ledger.forget(audience.key)


def drop_audience(state: State, key: str) -> None:
    """Delete all of an audience from the open state.

    Args:
        state: The open state.
        key: The audience's key.

    Raises:
        StateError: If it could not be written. Nothing was changed.
    """
    with state.transaction():
        for run in runs_with_changes(state, key):
            state.rows("DROP TABLE IF EXISTS {run_changes}", run_changes=run_changes_table(run))
        for (run,) in state.rows("SELECT run FROM runs WHERE key = ? AND NOT settled", [key]):
            state.rows("DROP TABLE IF EXISTS {actions}", actions=actions_table(run))
        for table in ("chunks", "marks", "run_rows"):
            state.rows(
                "DELETE FROM {table} WHERE run IN (SELECT run FROM runs WHERE key = ?)", [key], table=table
            )
        for table in ("runs", "audiences"):
            state.rows("DELETE FROM {table} WHERE key = ?", [key], table=table)
        kind = "TABLE" if state.has_table(members_table(key)) else "VIEW"
        state.rows(f"DROP {kind} IF EXISTS {{members}}", members=members_table(key))
        clear_refused(state, key)
        clear_intended(state, key)
        clear_snapshot(state, key)
        clear_digests(state, key)


def stage_rollback(state: State, audience: AudienceRecord, run: int) -> str:
    """Create a table of the members after a run, as a source for a plan of the mode `ROLLBACK`.

    Attributes and tags are not recorded, so they cannot be restored.

    Returns:
        The temporary table, for `PlanRequest.staged`.

    Raises:
        OpenRunError: If a run of the audience is not settled.
        UnknownRunError: If the run is not one of this audience's, or later changes are no longer retained.
    """
    state.refuse_open_run(audience.key)
    undone, from_nothing = _runs_since(state, audience, run)
    target = rollback_table(audience.key)
    state.rows(_TARGET, target=target)
    changes = changes_of(state, undone)
    (count,) = state.row(f"SELECT count(*) FROM ({changes})")
    for within in each_partition(state, count):
        template = _EARLIER.replace("<changes>", changes).replace("<within>", within)
        names = {"target": target, "members": members_table(audience.key), "salt": salt_of(state)}
        state.rows(template, [from_nothing], **names)
    exclude_removed(state, key=audience.key, run=run, target=target)
    return target


def _runs_since(state: State, audience: AudienceRecord, run: int) -> tuple[list[int], bool]:
    """Return the runs to undo, and whether the audience was empty after them."""
    state.ledger.load_history(audience.key)
    if not state.rows("SELECT 1 FROM runs WHERE run = ? AND key = ?", [run, audience.key]):
        msg = f"it has no run {run} in this state."
        raise UnknownRunError(msg, run=run, audience=audience.name)
    undone: list[int] = []
    since = f"""SELECT run, members_before, kept FROM runs
        WHERE key = ? AND run > ? AND NOT {NO_OP_RUNS} ORDER BY run"""
    for later, members_before, retained in state.rows(since, [audience.key, run]):
        if members_before == 0:
            return undone, True
        if not retained:
            (earliest,) = state.row(_EARLIEST, [audience.key])
            msg = f"the changes of run {later} are no longer retained. Choose run {earliest} or a later one."
            raise UnknownRunError(msg, run=run, audience=audience.name)
        undone.append(later)
    return undone, False
