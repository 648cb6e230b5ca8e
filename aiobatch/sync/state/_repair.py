"""Repairs of what we believe: `adopt`, `forget` and the way back to earlier members; nothing is sent."""

from __future__ import annotations

from typing import Final

from .._errors import UnknownRunError
from .._plan import Plan
from ._audience_snapshots import clear_snapshot
from ._history import (
    KEEP_RUNS,
    NO_OP_RUNS,
    Run,
    RunEnding,
    RunOutcome,
    changes_of,
    end_run,
    insert_run,
    prune,
    runs_with_changes,
    settle_run,
    show_run,
)
from ._members import apply_changes
from ._refused_ids import clear_refused
from ._schema import PAST, changes_table, members_table, past_table, planned_table, target_table
from ._state import AudienceRecord, State

# An id that has changed since stands as it was before its first change, any other one as it is.
_WITH_PAST: Final = "CREATE OR REPLACE TEMP TABLE {target} AS WITH past AS "
_EARLIER: Final = """,
first_changes AS (SELECT id, arg_min(added, run) AS added FROM past WHERE sure GROUP BY id),
earlier AS (
    SELECT id FROM {members} ANTI JOIN first_changes USING (id) WHERE NOT ?
    UNION ALL SELECT id FROM first_changes WHERE NOT added
)
SELECT id, NULL::VARCHAR AS attributes, NULL::VARCHAR[] AS tags, 0::UHUGEINT AS fingerprint FROM earlier
"""


def adopt(state: State, plan: Plan, *, keep_runs: int = KEEP_RUNS) -> Run:
    """Believe a source: its ids are the audience's members from now on.

    Args:
        state: An open state, in which `make_plan` made this plan last for its audience.
        plan: A plan of mode `ADOPT`; it says what changes in what we believe.
        keep_runs: Runs of the audience whose single changes are kept.

    Raises:
        OpenRunError: A run of the audience is not settled.
        StalePlanError: The state has moved since the plan was made.
        StateError: It could not be written; nothing was changed.
    """
    plan.refuse_moved(state.state_id, state.refuse_open_run(plan.key).generation)
    with state.transaction():
        run = insert_run(state, plan)
        state.rows(PAST, past=past_table(run))
        apply_changes(state, key=plan.key, run=run, mode=plan.mode, applied=planned_table(plan.key))
        clear_refused(state, plan.key)
        state.bump_generation(plan.key)
        end_run(state, run, RunEnding(outcome=RunOutcome.DONE, calls=0, retries=0))
        settle_run(state, run, key=plan.key, applied=plan.changes, refused=0)
        prune(state, plan.key, keep=keep_runs)
    return show_run(state, run)


def forget(state: State, audience: AudienceRecord) -> None:
    """Forget an audience with its members, its history and what is open of it.

    Args:
        state: An open state.
        audience: The audience, as the state knows it.

    Raises:
        StateError: It could not be written; nothing was changed.
    """
    key = audience.key
    with state.transaction():
        for run in runs_with_changes(state, key):
            state.rows("DROP TABLE {past}", past=past_table(run))
        for (run,) in state.rows("SELECT run FROM runs WHERE key = ? AND NOT settled", [key]):
            state.rows("DROP TABLE {changes}", changes=changes_table(run))
        for table in ("chunks", "marks"):
            state.rows(
                "DELETE FROM {table} WHERE run IN (SELECT run FROM runs WHERE key = ?)", [key], table=table
            )
        for table in ("runs", "audiences"):
            state.rows("DELETE FROM {table} WHERE key = ?", [key], table=table)
        state.rows("DROP TABLE {members}", members=members_table(key))
        clear_refused(state, key)
        clear_snapshot(state, key)


def stage_rollback(state: State, audience: AudienceRecord, run: int) -> str:
    """Work out the members that an audience had after a run, as a source for a plan of mode `ROLLBACK`.

    Attributes and tags that were sent then are not kept, and so cannot be restored.

    Args:
        state: An open state.
        audience: The audience, as the state knows it.
        run: The run's number.

    Returns:
        The temporary table, for `PlanRequest.staged`.

    Raises:
        OpenRunError: A run of the audience is not settled.
        UnknownRunError: It is no run of this audience, or changes since are no longer kept.
    """
    state.refuse_open_run(audience.key)
    undone, from_nothing = _runs_since(state, audience, run)
    target = target_table(audience.key)
    state.rows(
        _WITH_PAST + "(" + changes_of(undone) + ")" + _EARLIER,
        [from_nothing],
        target=target,
        members=members_table(audience.key),
    )
    return target


def _runs_since(state: State, audience: AudienceRecord, run: int) -> tuple[list[int], bool]:
    """Return the runs to undo, and whether what followed them started from no members at all."""
    if not state.rows("SELECT 1 FROM runs WHERE run = ? AND key = ?", [run, audience.key]):
        msg = f"it has no run {run} in this state."
        raise UnknownRunError(msg, run=run, audience=audience.name)
    undone: list[int] = []
    since = (
        "SELECT run, members_before, kept FROM runs WHERE key = ? AND run > ? AND NOT "
        + NO_OP_RUNS
        + " ORDER BY run"
    )
    for later, members_before, kept in state.rows(since, [audience.key, run]):
        if members_before == 0:
            return undone, True
        if not kept:
            msg = f"the changes of run {later} are no longer kept, so that none before it can be gone back to"
            raise UnknownRunError(msg, run=run, audience=audience.name)
        undone.append(later)
    return undone, False
