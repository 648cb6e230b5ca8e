"""The history of runs."""

from __future__ import annotations

import datetime as dt
import enum
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import orjson

from ...errors import Remedy
from .._errors import UnknownRunError
from .._options import RESTATING_MODES, Mode
from .._plan import Plan
from ._lock import whoami
from ._schema import members_table
from ._state import AudienceRecord, State
from ._targets import names_of

# Fields of a run that come from its plan, under the same name.
_PLANNED = (
    "key",
    "audience",
    "mode",
    "staged",
    "adds",
    "removes",
    "attribute_changes",
    "resends",
    "untracked_removals",
    "members_before",
    "chunk_size",
)
# Field of a run -> its column, where the file format has another name.
_COLUMNS: Final = {"untracked_removals": "strays", "changes_retained": "kept"}


class RunOutcome(enum.StrEnum):
    """The outcome of a run."""

    DONE = "done"
    PLANNED = "planned"
    SENT = "sent"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    NOT_APPLIED = "not_applied"
    REPLACED = "replaced"
    DRIFT = "drift"
    REFUSED = "refused"


# Everything was applied. With DRIFT, Batch counted another number of members afterwards.
_COMPLETE = (RunOutcome.DONE, RunOutcome.DRIFT)


@attrs.frozen(kw_only=True)
class Run:
    """A run in the history.

    Attributes:
        run: Its number, unique in the state.
        key: The audience's key in the state, the same for all runs of one audience in one target.
        audience: The audience's name.
        target: The app's or project's name in the config, or its kind and digits.
        who: Who ran it, `user@host`.
        source: What was read, without secrets.
        mode: How the source was used.
        started: When it started, in UTC.
        ended: When it ended or was settled, in UTC. None if it has not ended.
        seconds: Seconds from start to end, 0 if the clock was set back. None if it has not ended.
        staged: IDs in the source.
        adds: Planned IDs to add.
        removes: Planned members to remove.
        attribute_changes: Planned members whose attributes changed.
        resends: Planned members to send again.
        untracked_removals: Planned IDs to remove that are no members in the state.
        members_before: Members before the run.
        members_after: Members when it was settled. None if it is not.
        planned_calls: Planned write calls.
        calls: Write calls made. None if it has not ended.
        retries: Requests made beyond one per call. None if it has not ended.
        applied: IDs whose change is APPLIED. None if the run is not settled.
        refused: IDs that Batch refused. None if the run is not settled.
        outcome: How it ended. None if it has not ended, or was killed.
        error: What went wrong. None if nothing did.
        settled: Whether none of its chunks is open.
        changes_retained: Whether its changes are retained, so that a rollback can undo them.
        read: Rows of the source. None if they are not recorded, as are the next five fields then.
        kept: IDs of the source, each once.
        duplicate: Rows whose ID is in a later row as well.
        rejected: Rows that break the ID rules.
        reasons: Reason -> rows rejected for it.
        rejects: The file of the rejected rows. None if there is none.
    """

    run: int
    key: str
    audience: str
    target: str
    who: str
    source: str
    mode: Mode
    started: dt.datetime
    ended: dt.datetime | None
    seconds: float | None
    staged: int
    adds: int
    removes: int
    attribute_changes: int
    resends: int
    untracked_removals: int
    members_before: int
    members_after: int | None
    planned_calls: int
    calls: int | None
    retries: int | None
    applied: int | None
    refused: int | None
    outcome: RunOutcome | None
    error: str | None
    settled: bool
    changes_retained: bool
    read: int | None = None
    kept: int | None = None
    duplicate: int | None = None
    rejected: int | None = None
    reasons: Mapping[str, int] | None = None
    rejects: str | None = None

    @property
    def planned(self) -> int:
        """Number of planned actions."""
        return self.adds + self.removes + self.attribute_changes + self.resends + self.untracked_removals

    @property
    def remedy(self) -> Remedy | None:
        """The operation that fixes how it ended. None if nothing needs fixing or no single one does."""
        return Remedy("resync", self.audience) if self.outcome is RunOutcome.REPLACED else None

    @property
    def whole(self) -> bool:
        """Whether all of its plan is APPLIED, except IDs that Batch refused."""
        return self.outcome in _COMPLETE


@attrs.frozen(kw_only=True)
class RunRows:
    """The rows of a run's source, for the history. The fields are those of `Run`."""

    read: int
    kept: int
    duplicate: int
    rejected: int
    reasons: Mapping[str, int]
    rejects: str | None


_ROW_FIELDS: Final = tuple(field.name for field in attrs.fields(RunRows))
_RUN_FIELDS: Final = tuple(field.name for field in attrs.fields(Run) if field.name not in _ROW_FIELDS)
_SCOPE: Final = _RUN_FIELDS.index("target")
_EXPRESSIONS = _COLUMNS | {"target": "scope", "seconds": "epoch(ended - least(started, ended))"}
_RUNS = f"""
SELECT {", ".join(_EXPRESSIONS.get(name, name) for name in _RUN_FIELDS)}
FROM runs JOIN audiences USING (key)
"""


def _to_run(row: tuple[Any, ...], targets: Mapping[str, str]) -> Run:
    values: dict[str, Any] = dict(zip(_RUN_FIELDS, row, strict=True))
    values |= {"mode": Mode(values["mode"]), "target": targets[values["target"]]}
    if values["outcome"] is not None:
        values["outcome"] = RunOutcome(values["outcome"])
    for name in ("started", "ended"):
        if values[name] is not None:
            values[name] = values[name].replace(tzinfo=dt.UTC)
    return Run(**values)


def _read(state: State, condition: str, parameters: Sequence[Any]) -> list[Run]:
    found = state.rows(_RUNS + condition, parameters)
    targets = names_of(state, {row[_SCOPE] for row in found})
    runs = [_to_run(row, targets) for row in found]
    rows = _rows_of(state, runs)
    return [attrs.evolve(run, **rows[run.run]) if run.run in rows else run for run in runs]


def _rows_of(state: State, runs: Sequence[Run]) -> dict[int, dict[str, Any]]:
    """Return what is recorded of the sources of runs."""
    if not runs or not state.has_table("run_rows"):
        return {}
    numbers = [run.run for run in runs]
    read = f"SELECT run, {', '.join(_ROW_FIELDS)} FROM run_rows WHERE run BETWEEN ? AND ?"
    found = {}
    for number, *values in state.rows(read, [min(numbers), max(numbers)]):
        row = dict(zip(_ROW_FIELDS, values, strict=True))
        found[number] = row | {"reasons": orjson.loads(row["reasons"])}
    return found


def list_runs(state: State, *, key: str | None = None, name: str | None = None, limit: int = 50) -> list[Run]:
    """Return runs, latest first.

    Args:
        state: An open state.
        key: An audience's key. None for all audiences.
        name: An audience's name, in any target. None for all names.
        limit: Maximum number of runs.
    """
    chosen = "WHERE key = coalesce(?, key) AND audience = coalesce(?, audience) ORDER BY run DESC LIMIT ?"
    return _read(state, chosen, [key, name, limit])


def latest_run(state: State, key: str) -> Run | None:
    """Return an audience's latest run. None if it has none."""
    return next(iter(list_runs(state, key=key, limit=1)), None)


def show_run(state: State, run: int) -> Run:
    """Return one run.

    Args:
        state: An open state.
        run: Its number.

    Raises:
        UnknownRunError: If there is no such run.
    """
    found = _read(state, "WHERE run = ?", [run])
    if not found:
        msg = f"This state has no run {run}."
        raise UnknownRunError(msg, run=run)
    return found[0]


def latest_runs(state: State) -> dict[str, Run]:
    """Return each audience's latest run, by the audience's key."""
    latest = "QUALIFY row_number() OVER (PARTITION BY key ORDER BY run DESC) = 1"
    return {run.key: run for run in _read(state, latest, [])}


def last_successes(state: State) -> dict[str, dt.datetime]:
    """Return when each audience's last successful run ended, in UTC, by the audience's key."""
    ended = "SELECT key, max(ended) FROM runs WHERE outcome = ? AND mode <> ? GROUP BY key"
    return {key: at.replace(tzinfo=dt.UTC) for key, at in state.rows(ended, [RunOutcome.DONE, Mode.ADOPT])}


_LAST: Final = """
SELECT arg_max(mode, run) FILTER (applied > 0), max(run) FILTER (outcome = '{replaced}'),
    max(run) FILTER (mode IN ({modes}) AND outcome IN ({outcomes}))
FROM runs WHERE key = ?
""".format(
    replaced=RunOutcome.REPLACED,
    modes=", ".join(f"'{one}'" for one in sorted(RESTATING_MODES)),
    outcomes=", ".join(f"'{one}'" for one in _COMPLETE),
)


def last_mode(state: State, key: str) -> tuple[Mode | None, int | None]:
    """Return what the last runs of an audience reveal.

    Returns:
        The mode of the last run that applied anything, and the run during which another writer replaced the
        members, unless a later run has fixed that. None if there is none.
    """
    mode, replaced, restated = state.row(_LAST, [key])
    is_fixed = replaced is None or (restated or 0) > replaced
    return None if mode is None else Mode(mode), None if is_fixed else int(replaced)


def insert_run(state: State, plan: Plan, record: AudienceRecord, rows: RunRows | None = None) -> int:
    """Record, within a transaction, that a run begins.

    Args:
        state: An open state.
        plan: The plan of the run.
        record: The audience's record.
        rows: The rows of its source. None if it has none.

    Returns:
        The run's number.
    """
    run = state.ledger.next_run()
    values = {
        "run": run,
        "who": f"{whoami()}@{socket.gethostname()}",
        "started": state.timestamp(),
        "source": plan.source_label,
        "planned_calls": plan.calls,
        "settled": False,
        "kept": False,
        **{_COLUMNS.get(name, name): getattr(plan, name) for name in _PLANNED},
    }
    places = ", ".join("?" * len(values))
    state.rows(f"INSERT INTO runs ({', '.join(values)}) VALUES ({places})", list(values.values()))
    if plan.id_rules not in {None, record.id_rules}:
        state.rows("UPDATE audiences SET contract = ? WHERE key = ?", [plan.id_rules, plan.key])
    if rows is not None:
        values = attrs.asdict(rows) | {"reasons": orjson.dumps(dict(rows.reasons)).decode()}
        places = ", ".join("?" * (len(values) + 1))
        state.rows(f"INSERT INTO run_rows VALUES ({places})", [run, *values.values()])
    return run


@attrs.frozen(kw_only=True)
class RunEnding:
    """What a process records at the end of a run. None keeps what an earlier process recorded.

    Attributes:
        outcome: How it ended.
        error: What went wrong, without IDs and keys.
        calls: Write calls made.
        retries: Requests that this process made beyond one per call. They add to those of earlier ones.
    """

    outcome: RunOutcome | None = None
    error: str | None = None
    calls: int | None = None
    retries: int | None = None


@attrs.frozen(kw_only=True)
class Settlement:
    """The end of a run of which no chunk is open.

    Attributes:
        key: The audience's key. Its members are those after the run.
        applied: IDs whose change is APPLIED.
        refused: IDs that Batch refused.
    """

    key: str
    applied: int
    refused: int


_END: Final = """
UPDATE runs SET ended = ?, outcome = coalesce(?, outcome), error = coalesce(?, error),
    calls = coalesce(?, calls), retries = coalesce(coalesce(retries, 0) + ?, retries)<settled>
WHERE run = ?
"""
_SETTLED: Final = """,
    settled = true, kept = true, applied = ?, refused = ?, members_after = (SELECT count(*) FROM {members})
"""


def end_run(state: State, run: int, ending: RunEnding, settlement: Settlement | None = None) -> None:
    """Record, within a transaction, how a run ended.

    Args:
        state: An open state.
        run: The run's number.
        ending: How it ended.
        settlement: What came of it. None if a chunk is open, or it was settled before.
    """
    values = [state.timestamp(), ending.outcome, ending.error, ending.calls, ending.retries]
    if settlement is None:
        state.rows(_END.replace("<settled>", ""), [*values, run])
        return
    values += [settlement.applied, settlement.refused, run]
    state.rows(_END.replace("<settled>", _SETTLED), values, members=members_table(settlement.key))


def record_failure(state: State, run: int, outcome: RunOutcome, error: str) -> Run:
    """Record that the check of a run, all of which is APPLIED, has failed.

    Args:
        state: The open state.
        run: The run's number.
        outcome: The outcome.
        error: What the check found.
    """
    with state.transaction():
        end_run(state, run, RunEnding(outcome=outcome, error=error))
    found = show_run(state, run)
    state.ledger.save(found.key)
    return found
