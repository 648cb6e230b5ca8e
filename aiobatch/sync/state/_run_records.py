"""What the engine notes in the state and asks it, beside the journal; all of it blocks."""

from __future__ import annotations

from ..._remedy import Remedy
from .._errors import AudienceGoneError
from .._options import RESTATING_MODES, Mode
from ._chunks import ChunkState
from ._history import Run, RunEnding, RunOutcome, end_run, show_run
from ._journal import Journal
from ._schema import diff_table, planned_table
from ._state import AudienceRecord, State

_ENDED_WELL = (RunOutcome.DONE, RunOutcome.DRIFT)
# Chunks of a run that came whole to its end; a split one lives on in its halves.
_WHOLE = frozenset({ChunkState.APPLIED, ChunkState.REFUSED, ChunkState.SPLIT})


def close_run(
    state: State, journal: Journal, outcome: RunOutcome | None, *, error: str | None = None, retries: int = 0
) -> Run:
    """Close a run's journal; its calls are those of all processes that worked on it.

    Args:
        state: The open state.
        journal: The run's journal.
        outcome: How it ended; None to keep what an earlier process noted.
        error: What went wrong, without ids and keys; None where nothing did.
        retries: Requests that this process repeated.

    Raises:
        StateError: It could not be written; nothing was changed.
    """
    (calls,) = state.row(
        "SELECT count(*) FROM marks WHERE run = ? AND state = ?", [journal.run, ChunkState.SENDING]
    )
    before = show_run(state, journal.run).retries or 0
    return journal.close(RunEnding(outcome=outcome, error=error, calls=calls, retries=before + retries))


def settle_late(state: State, journal: Journal, *, retries: int) -> Run:
    """Close a run that an earlier process left open, whose chunks have all come to an end.

    Args:
        state: The open state.
        journal: The run's journal.
        retries: Requests that this process repeated.

    Raises:
        StateError: It could not be written; nothing was changed.
    """
    steps = {chunk.state for chunk in journal.chunks.values()}
    outcome = show_run(state, journal.run).outcome or RunOutcome.INTERRUPTED
    if ChunkState.REPLACED in steps:
        outcome = RunOutcome.REPLACED
    elif steps <= _WHOLE:
        outcome = RunOutcome.DONE
    return close_run(state, journal, outcome, retries=retries)


def note_drift(state: State, run: int, error: str) -> Run:
    """Note that Batch counts other members after a run.

    Args:
        state: The open state.
        run: The run's number.
        error: What was counted.
    """
    with state.transaction():
        end_run(state, run, RunEnding(outcome=RunOutcome.DRIFT, error=error))
    return show_run(state, run)


def replaced_since(state: State, key: str) -> int | None:
    """Return the run during which somebody else replaced the members, if none has mended that since.

    Args:
        state: The open state.
        key: The audience's key.
    """
    modes, outcomes = _listed(RESTATING_MODES), _listed(_ENDED_WELL)
    (run,) = state.row(
        f"""SELECT max(run) FROM runs WHERE key = ? AND outcome = ? AND run > (
            SELECT coalesce(max(run), 0) FROM runs
            WHERE key = ? AND mode IN ({modes}) AND outcome IN ({outcomes})
        )""",
        [key, RunOutcome.REPLACED, key],
    )
    return None if run is None else int(run)


def refuse_gone(audience: AudienceRecord) -> None:
    """Refuse to make an audience anew of which we believe that it has members.

    Args:
        audience: The audience as the state knows it; Batch has none of its name.

    Raises:
        AudienceGoneError: It had members, or a run of it is open.
    """
    if audience.members or audience.open_run is not None:
        msg = (
            f"it was deleted in Batch, but the state still records {audience.members:,} members. To load it "
            "again, forget it, then sync it with the option to create it."
        )
        remedy = Remedy("forget", audience.name)
        raise AudienceGoneError(msg, audience=audience.name, run=audience.open_run, remedy=remedy)


def clear_plan(state: State, key: str) -> None:
    """Drop what a plan left for the journal.

    Args:
        state: The open state.
        key: The audience's key.
    """
    state.rows("DROP VIEW IF EXISTS temp.{planned}", planned=planned_table(key))
    state.rows("DROP TABLE IF EXISTS temp.{diff}", diff=diff_table(key))


def _listed(values: tuple[Mode | RunOutcome, ...]) -> str:
    """Write words of ours as a list of SQL."""
    return ", ".join(f"'{value.value}'" for value in values)
