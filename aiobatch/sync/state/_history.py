"""The history: who did what to which audience, and what it takes to go back."""

from __future__ import annotations

import datetime as dt
import enum
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from ..._remedy import Remedy
from .._errors import UnknownRunError
from .._options import Mode
from .._plan import Plan
from ._lock import whoami
from ._schema import format_sql, past_table
from ._state import State
from ._targets import target_names

# Runs of an audience whose single changes are kept for `rollback` and `resync`; the numbers stay for ever.
KEEP_RUNS = 30
# Of a run that found nothing to do: a job may make one every few minutes, between two that change something.
NO_OP_RUNS: Final = "(planned_calls = 0 AND applied = 0)"

# What a run has of its plan, under the same name.
_PLANNED = (
    "key",
    "audience",
    "source",
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
# A field -> its column, where the file keeps an older name: renaming a column would change the format.
_COLUMNS: Final = {"untracked_removals": "strays"}
# Small runs wait for a token more than they send, and a run that was settled late took hours to no purpose.
_THROUGHPUT = """
WITH latest AS (
    SELECT epoch(ended - started) AS seconds, calls FROM runs JOIN audiences USING (key)
    WHERE scope = ? AND outcome = ? AND calls > 0 AND ended >= started ORDER BY run DESC LIMIT 20
)
SELECT median(seconds / calls) FILTER (calls * 2 >= (SELECT max(calls) FROM latest)), min(seconds)
FROM latest
"""


class RunOutcome(enum.StrEnum):
    """How a run ended."""

    DONE = "done"
    PLANNED = "planned"
    SENT = "sent"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    NOT_APPLIED = "not_applied"
    REPLACED = "replaced"
    DRIFT = "drift"
    REFUSED = "refused"


# Where the counts differ afterwards, everything was applied nevertheless.
_WHOLE = (RunOutcome.DONE, RunOutcome.DRIFT)


@attrs.frozen(kw_only=True)
class Run:
    """A run as the history keeps it.

    Attributes:
        run: Its number, unique in the state.
        key: The audience's key in the state: the same for all runs of one audience in one target.
        audience: The audience's name.
        target: Its app or project, by the config's name, or else by kind and digits.
        who: Who ran it, `user@host`.
        source: What was read, without secrets.
        mode: What was made of the source.
        started: When; UTC.
        ended: When it ended or was settled; UTC; None while it has not.
        seconds: Seconds from start to end, 0 if the clock was set back meanwhile; None while it has no end.
        staged: Ids that the source gave.
        adds: Planned; ids that become members.
        removes: Planned; members that go.
        attribute_changes: Planned; members whose attributes changed.
        resends: Planned; members that are sent again.
        untracked_removals: Planned; ids that are removed to make sure.
        members_before: Members before.
        members_after: Members when it was settled; None while it is not.
        planned_calls: Planned; write calls.
        calls: Write calls made; None while it has not ended.
        retries: Requests made beyond one per call; None while it has not ended.
        applied: Ids whose change is applied; None while it is not settled.
        refused: Ids that Batch refused; None while it is not settled.
        outcome: How it ended; None while it has not, or was killed.
        error: What went wrong; None where nothing did.
        settled: Whether nothing of it is open any more.
        kept: Whether its single changes are kept, so that a rollback can undo them.
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
    kept: bool

    @property
    def planned(self) -> int:
        """Ids that it was to send."""
        return self.adds + self.removes + self.attribute_changes + self.resends + self.untracked_removals

    @property
    def remedy(self) -> Remedy | None:
        """The operation that fixes how it ended. None where nothing needs fixing or no single one does."""
        return Remedy("resync", self.audience) if self.outcome is RunOutcome.REPLACED else None

    @property
    def whole(self) -> bool:
        """Whether all of its plan is APPLIED, but for ids that Batch refused."""
        return self.outcome in _WHOLE


# A field of a run -> what it is in SQL, where it is no column of the same name.
_COMPUTED = {
    "target": "scope",
    "seconds": "epoch(ended - least(started, ended))",
    **_COLUMNS,
}
_RUNS = f"""
SELECT {", ".join(_COMPUTED.get(field.name, field.name) for field in attrs.fields(Run))}
FROM runs JOIN audiences USING (key)
"""


def _utc(moment: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None else moment.replace(tzinfo=dt.UTC)


def _to_run(row: tuple[Any, ...], targets: Mapping[str, str]) -> Run:
    """Read a row of the table."""
    values: dict[str, Any] = dict(zip((field.name for field in attrs.fields(Run)), row, strict=True))
    outcome = values["outcome"]
    values |= {"mode": Mode(values["mode"]), "outcome": None if outcome is None else RunOutcome(outcome)}
    values |= {name: _utc(values[name]) for name in ("started", "ended")}
    return Run(**values | {"target": targets[values["target"]]})


def _read(state: State, condition: str, parameters: Sequence[Any]) -> list[Run]:
    """Return the runs for which a condition holds."""
    targets = target_names(state)
    return [_to_run(row, targets) for row in state.rows(_RUNS + condition, parameters)]


def list_runs(state: State, *, key: str | None = None, name: str | None = None, limit: int = 50) -> list[Run]:
    """Return runs, the latest first.

    Args:
        state: An open state.
        key: An audience's key; None for all audiences.
        name: An audience's name, in whichever target; None for all names.
        limit: Runs at most.
    """
    chosen = "WHERE key = coalesce(?, key) AND audience = coalesce(?, audience) ORDER BY run DESC LIMIT ?"
    return _read(state, chosen, [key, name, limit])


def latest_run(state: State, key: str) -> Run | None:
    """Return an audience's latest run; None if it has none.

    Args:
        state: An open state.
        key: The audience's key.
    """
    return next(iter(list_runs(state, key=key, limit=1)), None)


def show_run(state: State, run: int) -> Run:
    """Return one run.

    Args:
        state: An open state.
        run: Its number.

    Raises:
        UnknownRunError: There is no such run.
    """
    found = _read(state, "WHERE run = ?", [run])
    if not found:
        msg = f"This state has no run {run}."
        raise UnknownRunError(msg, run=run)
    return found[0]


def latest_runs(state: State) -> dict[str, Run]:
    """Return each audience's latest run, by the audience's key.

    Args:
        state: An open state.
    """
    latest = "QUALIFY row_number() OVER (PARTITION BY key ORDER BY run DESC) = 1"
    return {run.key: run for run in _read(state, latest, [])}


def last_successes(state: State) -> dict[str, dt.datetime]:
    """Return when each audience's last complete run ended, UTC, by the audience's key.

    Args:
        state: An open state.
    """
    ended = "SELECT key, max(ended) FROM runs WHERE outcome = ? AND mode <> ? GROUP BY key"
    return {key: at.replace(tzinfo=dt.UTC) for key, at in state.rows(ended, [RunOutcome.DONE, Mode.ADOPT])}


@attrs.frozen(kw_only=True)
class Throughput:
    """How fast a target's last runs went.

    Attributes:
        per_call: Seconds that a write call took, its token's indexing included, in the largest of them.
        least: Seconds that the quickest of them took: a single call waits for its token, too.
    """

    per_call: float
    least: float

    def seconds(self, calls: int) -> float:
        """Return the seconds that so many write calls would take."""
        return max(calls * self.per_call, self.least)


def measured_throughput(state: State, target_digest: str) -> Throughput | None:
    """Return how fast the last runs of a target went; None where there is none to tell.

    Args:
        state: An open state.
        target_digest: The target's digest.
    """
    per_call, least = state.row(_THROUGHPUT, [target_digest, RunOutcome.DONE])
    return None if per_call is None else Throughput(per_call=per_call, least=least)


def insert_run(state: State, plan: Plan) -> int:
    """Note, within a transaction, that a run begins.

    Args:
        state: An open state.
        plan: What it will do.

    Returns:
        Its number.
    """
    (run,) = state.row("SELECT nextval('run_numbers')")
    values = {
        "run": run,
        "who": f"{whoami()}@{socket.gethostname()}",
        "started": state.timestamp(),
        "planned_calls": plan.calls,
        "settled": False,
        "kept": False,
        **{_COLUMNS.get(name, name): getattr(plan, name) for name in _PLANNED},
    }
    places = ", ".join("?" * len(values))
    state.rows(f"INSERT INTO runs ({', '.join(values)}) VALUES ({places})", list(values.values()))
    state.rows(
        "UPDATE audiences SET contract = coalesce(?, contract) WHERE key = ?", [plan.id_rules, plan.key]
    )
    return int(run)


@attrs.frozen(kw_only=True)
class RunEnding:
    """What the engine says of a run at its end.

    Attributes:
        outcome: How it ended; None where its process was killed, and a later one settles it.
        error: What went wrong, without ids and keys; None where nothing did.
        calls: Write calls made; None to keep what is noted.
        retries: Requests made beyond one per call; None to keep what is noted.
    """

    outcome: RunOutcome | None = None
    error: str | None = None
    calls: int | None = None
    retries: int | None = None


def end_run(state: State, run: int, ending: RunEnding) -> None:
    """Note, within a transaction, how a run ended; what an earlier ending said and this one does not, stays.

    Args:
        state: An open state.
        run: The run's number.
        ending: How it ended.
    """
    state.rows(
        """UPDATE runs SET ended = ?, outcome = coalesce(?, outcome), error = coalesce(?, error),
            calls = coalesce(?, calls), retries = coalesce(?, retries)
        WHERE run = ?""",
        [state.timestamp(), ending.outcome, ending.error, ending.calls, ending.retries, run],
    )


def settle_run(state: State, run: int, *, key: str, applied: int, refused: int) -> None:
    """Note, within a transaction, that nothing of a run is open any more.

    Args:
        state: An open state.
        run: The run's number.
        key: The audience's key.
        applied: Ids whose change is applied.
        refused: Ids that Batch refused.
    """
    members = state.audience_by_key(key).members
    state.rows(
        """UPDATE runs SET settled = true, kept = true, applied = ?, refused = ?, members_after = ?
        WHERE run = ?""",
        [applied, refused, members, run],
    )


def runs_with_changes(state: State, key: str) -> list[int]:
    """Return the runs whose single changes are kept, the latest first; where nothing changed, nothing is.

    Args:
        state: An open state.
        key: The audience's key.
    """
    kept = state.rows(
        "SELECT run FROM runs WHERE key = ? AND kept AND NOT " + NO_OP_RUNS + " ORDER BY run DESC", [key]
    )
    return [run for (run,) in kept]


def prune(state: State, key: str, *, keep: int = KEEP_RUNS) -> None:
    """Forget, within a transaction, the single changes of all but the latest runs that made any.

    Args:
        state: An open state.
        key: The audience's key.
        keep: Runs whose changes stay.
    """
    latest = "SELECT run FROM runs WHERE key = ? AND " + NO_OP_RUNS + " ORDER BY run DESC LIMIT 1"
    for (run,) in state.rows(latest, [key]):
        state.rows("DROP TABLE IF EXISTS {past}", past=past_table(run))
    for run in runs_with_changes(state, key)[keep:]:
        state.rows("DROP TABLE {past}", past=past_table(run))
        state.rows("UPDATE runs SET kept = false WHERE run = ?", [run])


def changes_of(runs: list[int]) -> str:
    """Return a query for what *runs* did: `run, id, added, sure`.

    Args:
        runs: Their numbers; changes of all of them are kept.
    """
    nothing = "SELECT 0::BIGINT AS run, NULL::VARCHAR AS id, false AS added, false AS sure WHERE false"
    one = "SELECT {run}::BIGINT AS run, id, added, sure FROM {past}"
    return " UNION ALL ".join(
        [nothing, *(format_sql(one, run=str(run), past=past_table(run)) for run in runs)]
    )
