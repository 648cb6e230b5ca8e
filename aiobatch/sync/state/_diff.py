"""The diff: a source against what was last applied, as one statement that spills to disk."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from ...errors import InvalidInputError
from ...models import MAX_IDS
from .._guard import GuardPolicy, Overrides, Verdict, judge
from .._options import RESTATING_MODES, Mode
from .._plan import Action, Basis, Plan
from ._history import changes_of, measured_throughput, runs_with_changes
from ._refused_ids import exclude_refused, has_refused
from ._schema import diff_table, members_table, planned_table
from ._state import AudienceRecord, State

_SAMPLE: Final = 5

# Each answers id, action and fingerprint; the numbers are those of Action.
# One FULL JOIN takes half the memory of two anti joins, and spills.
_BOTH = """
SELECT coalesce(s.id, m.id) AS id,
    CASE WHEN s.id IS NULL THEN 0 WHEN m.id IS NULL THEN 1
        WHEN s.fingerprint <> m.fingerprint THEN 2 ELSE 3 END::UTINYINT AS action,
    coalesce(s.fingerprint, m.fingerprint)::UHUGEINT AS fingerprint
FROM {staged} s FULL JOIN {members} m ON s.id = m.id
"""
_STAGED = """
SELECT s.id,
    CASE WHEN m.id IS NULL THEN 1 WHEN s.fingerprint <> m.fingerprint THEN 2 ELSE 3 END::UTINYINT AS action,
    s.fingerprint::UHUGEINT AS fingerprint
FROM {staged} s LEFT JOIN {members} m ON s.id = m.id
"""
_MIRROR = _BOTH + "WHERE s.id IS NULL OR m.id IS NULL OR s.fingerprint <> m.fingerprint"
_DIFFS: Final = {
    Mode.MIRROR: _MIRROR,
    Mode.ADOPT: _MIRROR,
    Mode.ADD: _STAGED + "WHERE m.id IS NULL OR s.fingerprint <> m.fingerprint",
    Mode.REMOVE: "SELECT id, 0::UTINYINT AS action, fingerprint FROM {members} SEMI JOIN {staged} USING (id)",
    Mode.REPLACE: _STAGED,
    Mode.ROLLBACK: _BOTH + "WHERE s.id IS NULL OR m.id IS NULL",
}
_KNOWN = "WITH known AS "
_UNTRACKED = """
UNION ALL
SELECT DISTINCT id, 4::UTINYINT AS action, 0::UHUGEINT AS fingerprint
FROM known ANTI JOIN {staged} USING (id) ANTI JOIN {members} USING (id)
"""
# Where there is nothing to compare with, the source itself is the diff, and is not copied.
_FIRST = """
SELECT id, 1::UTINYINT AS action, fingerprint::UHUGEINT AS fingerprint, attributes, tags, rowid AS position
FROM {staged}
"""
_PLAIN = "SELECT id, action, fingerprint, NULL::VARCHAR AS attributes, NULL::VARCHAR[] AS tags FROM {diff}"
_WITH_PAYLOAD = """
SELECT d.id, d.action, d.fingerprint, s.attributes, s.tags FROM {diff} d LEFT JOIN {staged} s ON d.id = s.id
"""
# Independent of the order of rows; two different sources share it by accident once in 2**64.
_DIGEST = "SELECT count(*), coalesce(sum(hash(id, fingerprint::UHUGEINT)), 0) FROM {table}"


@attrs.frozen(kw_only=True)
class PlanRequest:
    """What a plan is asked for.

    Attributes:
        mode: What to make of the source.
        source: What was read, without secrets, for the history.
        staged: The table of the source: `id`, unique, `attributes`, `tags`, `fingerprint`.
        id_rules: The ID rules that the source's ids keep, in one line; None to leave it unsaid.
        policy: What the guard allows always.
        overrides: What it allows this once.
        rate: Requests per second that the client keeps to; None for any number.
        counted: Members that Batch counts: those that we do not know go by a replace as well.
        chunk_size: Ids of a write call at most; fewer than Batch takes make sense in tests alone.
    """

    mode: Mode
    source: str
    staged: str = "staged"
    id_rules: str | None = None
    policy: GuardPolicy = attrs.field(factory=GuardPolicy)
    overrides: Overrides = attrs.field(factory=Overrides)
    rate: float | None = None
    counted: int = 0
    chunk_size: int = attrs.field(
        default=MAX_IDS, validator=[attrs.validators.ge(1), attrs.validators.le(MAX_IDS)]
    )


def make_plan(state: State, audience: AudienceRecord, request: PlanRequest) -> Plan:
    """Work out what a run would do, and leave its actions in a temporary view for `Journal.begin`.

    Args:
        state: An open state.
        audience: The audience, as the state knows it.
        request: What to plan.

    Raises:
        InvalidInputError: A replace of no ids or of more than one call takes, or a source whose ids keep
            another contract than the members do.
        OpenRunError: A run of this audience is not settled.
        StateError: DuckDB failed.
    """
    audience = state.refuse_open_run(audience.key)
    _check_contract(request, audience)
    count, digest = state.row(_DIGEST, table=request.staged)
    _check_replace(request, count)
    return _to_plan(state, audience, request, _Differ(state, audience, request).run(count, digest))


def _check_contract(request: PlanRequest, audience: AudienceRecord) -> None:
    """Refuse ids under another contract: people would be removed by one name and added by another."""
    given, kept = request.id_rules, audience.id_rules
    if None in {given, kept} or given == kept or not audience.members or request.mode in RESTATING_MODES:
        return
    msg = (
        f"audience {audience.name!r}: its members keep the contract `{kept}`, the source's ids `{given}`; "
        "go back to that one, or `adopt` the members as the new one writes them"
    )
    raise InvalidInputError(msg)


def _check_replace(request: PlanRequest, staged: int) -> None:
    """Refuse a replace that one call cannot carry: a second would leave its own ids alone."""
    if request.mode is Mode.REPLACE and not 1 <= staged <= request.chunk_size:
        most = f"{request.chunk_size:,}"
        msg = f"a replace takes 1 to {most} ids in its one call, the source has {staged:,}; use mirror"
        raise InvalidInputError(msg)


@attrs.define(kw_only=True)
class _Found:
    """What the diff found: the source's ids and their digest, ids by action, and what is skipped."""

    staged: int
    digest: str
    counts: Counter[Action] = attrs.field(factory=Counter)
    skipped: int = 0


@attrs.frozen
class _Differ:
    """Makes the view of planned actions and counts them."""

    state: State
    audience: AudienceRecord
    request: PlanRequest

    def run(self, staged: int, digest: int) -> _Found:
        """Return how many ids each action has."""
        mode, key = self.request.mode, self.audience.key
        skips = mode in {Mode.MIRROR, Mode.ADD} and has_refused(self.state, key)
        found = _Found(staged=staged, digest=f"{staged}-{digest:x}")
        if self.audience.members == 0 and not skips and mode not in {Mode.REMOVE, Mode.RESYNC}:
            self._plan_as(_FIRST)
            found.counts[Action.ADD] = staged
        elif mode in {Mode.MIRROR, Mode.ADD} and self._members() == (staged, digest):
            self._plan_as(_FIRST + " WHERE false")
        else:
            self._compare()
            found.skipped = exclude_refused(self.state, key) if skips else 0
            self._plan_as(_WITH_PAYLOAD if self._payload() else _PLAIN)
            rows = self.state.rows("SELECT action, count(*) FROM {diff} GROUP BY ALL", diff=diff_table(key))
            found.counts.update({Action(action): count for action, count in rows})
        return found

    def _compare(self) -> None:
        """Make the table of differences."""
        create = "CREATE OR REPLACE TEMP TABLE {diff} AS "
        if self.request.mode is not Mode.RESYNC:
            self._execute(create + _DIFFS[self.request.mode])
            return
        known = changes_of(runs_with_changes(self.state, self.audience.key))
        self._execute(create + _KNOWN + "(" + known + ")" + _BOTH + _UNTRACKED)

    def _payload(self) -> bool:
        """Tell whether the source has attributes or tags at all, else no join is needed to fetch them."""
        (payload,) = self.state.row(
            "SELECT count(attributes) + count(tags) > 0 FROM {staged}", staged=self.request.staged
        )
        return bool(payload)

    def _members(self) -> tuple[int, int]:
        """Return count and digest of the members, as of a source."""
        count, digest = self.state.row(_DIGEST, table=members_table(self.audience.key))
        return count, digest

    def _plan_as(self, query: str) -> None:
        self._execute("CREATE OR REPLACE TEMP VIEW {planned} AS " + query)

    def _execute(self, template: str) -> None:
        key = self.audience.key
        self.state.rows(
            template,
            staged=self.request.staged,
            members=members_table(key),
            diff=diff_table(key),
            planned=planned_table(key),
        )


def _to_plan(state: State, audience: AudienceRecord, request: PlanRequest, found: _Found) -> Plan:
    """Put the numbers together."""
    counts, after = found.counts, _members_after(audience, request, found)
    calls = 0 if request.mode is Mode.ADOPT else -(-counts.total() // request.chunk_size)
    seconds, basis = _expect(state, audience, request, calls)
    return Plan(
        audience=audience.name,
        key=audience.key,
        mode=request.mode,
        source=request.source,
        id_rules=request.id_rules,
        staged=found.staged,
        source_digest=found.digest,
        state_id=state.state_id,
        generation=audience.generation,
        made=state.now(),
        adds=counts[Action.ADD],
        removes=counts[Action.REMOVE],
        attribute_changes=counts[Action.UPDATE],
        resends=counts[Action.RESEND],
        untracked_removals=counts[Action.REMOVE_UNTRACKED],
        unchanged=_unchanged(request, found),
        members_before=audience.members,
        members_after=after,
        chunk_size=request.chunk_size,
        calls=calls,
        seconds=seconds,
        basis=basis,
        refused_before=found.skipped,
        sample_adds=_sample(state, audience.key, Action.ADD),
        sample_removes=_sample(state, audience.key, Action.REMOVE),
        verdict=_judge(audience, request, found, after),
    )


def _members_after(audience: AudienceRecord, request: PlanRequest, found: _Found) -> int:
    """Return the members when all of it is applied."""
    if request.mode is Mode.REPLACE:
        return found.staged
    return audience.members + found.counts[Action.ADD] - found.counts[Action.REMOVE]


def _unchanged(request: PlanRequest, found: _Found) -> int:
    """Return the source's ids that nothing is sent for, as they are what they shall be."""
    counts = found.counts
    if request.mode is Mode.REMOVE:
        return found.staged - counts[Action.REMOVE]
    touched = counts[Action.ADD] + counts[Action.UPDATE] + counts[Action.RESEND]
    return found.staged - touched - found.skipped


def _expect(
    state: State, audience: AudienceRecord, request: PlanRequest, calls: int
) -> tuple[float | None, Basis | None]:
    """Return the seconds that the calls are expected to take, and what that rests on."""
    if not calls:
        return 0.0, None
    if request.rate is not None:
        # A write, and at least one request that asks whether it is applied.
        return 2 * calls / request.rate, Basis.RATE
    throughput = measured_throughput(state, audience.target_digest)
    return (None, None) if throughput is None else (throughput.seconds(calls), Basis.HISTORY)


def _judge(audience: AudienceRecord, request: PlanRequest, found: _Found, after: int) -> Verdict:
    """Let the guard judge; what Batch counts and we do not know goes by a replace, and as strays, as well."""
    members, removals = audience.members, audience.members + found.counts[Action.ADD] - after
    unknown = max(request.counted - members, 0)
    if request.mode is Mode.REPLACE and unknown:
        members, removals = request.counted, max(removals, request.counted - found.staged)
    elif request.mode is Mode.RESYNC and unknown:
        members, removals = request.counted, removals + min(unknown, found.counts[Action.REMOVE_UNTRACKED])
    return judge(
        request.policy,
        request.overrides,
        staged=None if request.mode is Mode.ROLLBACK else found.staged,
        removals=removals,
        members=members,
    )


def _sample(state: State, key: str, action: Action) -> tuple[str, ...]:
    """Return a few of the ids that an action is planned for."""
    query = "SELECT id FROM {planned} WHERE action = ? LIMIT ?"
    return tuple(id_ for (id_,) in state.rows(query, [action, _SAMPLE], planned=planned_table(key)))
