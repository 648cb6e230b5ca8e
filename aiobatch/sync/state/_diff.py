"""The plan of a run, from the diff of a source and the recorded members."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Final

import attrs

from ...errors import InvalidInputError
from ...models import MAX_IDS
from .._errors import OpenRunError
from .._guard import GuardDecision, GuardPolicy, Overrides, evaluate
from .._options import RESTATING_MODES, Mode
from .._plan import Action, Basis, Plan
from ._history import RunOutcome
from ._refused_ids import exclude_refused
from ._run_changes import changes_of, count_added_again, runs_with_changes
from ._schema import diff_table, planned_table, refused_table
from ._state import AudienceRecord, State
from .partitions._comparison import SKIPPING_MODES, comparing
from .partitions._digests import Digests, read_digests, store_digests
from .partitions._intended import CARRIED, carry_over, count_intended_adds, has_intended
from .partitions._keys import count_comparisons

_SAMPLE: Final = 5
# The seconds and write calls of a target's last runs.
_LATEST_SECONDS: Final = """
SELECT epoch(ended - started), calls FROM runs JOIN audiences USING (key)
WHERE scope = ? AND outcome = ? AND calls > 0 AND ended >= started ORDER BY run DESC LIMIT 20
"""

# If the audience is empty, the source itself is the diff. A view spares the copy of a first load, and its
# `position` lets all threads write the journal.
_FIRST = """
SELECT id, 1::UTINYINT AS action, fingerprint::UHUGEINT AS fingerprint, attributes, tags, rowid AS position
FROM {staged}
"""
_DIFFERENCES = "SELECT * FROM {diff}"
_TAKE = "CREATE OR REPLACE TEMP TABLE {diff} AS SELECT * FROM {staged}"


@attrs.frozen(kw_only=True)
class PlanRequest:
    """The input of a plan.

    Attributes:
        mode: How to use the source.
        source: What was read, without secrets, for the history.
        staged: The source's table: `id`, unique, its `key`, `attributes`, `tags`, `fingerprint`.
        id_rules: The rules that the source's IDs follow, in one line. None if they are the members' own.
        policy: The guard's limits.
        overrides: Exceptions from them for this run.
        rate: The client's limit of requests per second. None for no limit.
        counted: Members that Batch counts. A replace removes those that the state does not record, too. None
            if Batch returns no count.
        sums: The number of the source's IDs and the sums of both halves of their hashes, if it was compared
            elsewhere. Then *staged* is the table of actions: `id, action, fingerprint, attributes, tags`.
        chunk_size: IDs of a write call at most. Only tests use less than Batch allows.
    """

    mode: Mode
    source: str
    staged: str = "staged"
    id_rules: str | None = None
    policy: GuardPolicy = attrs.field(factory=GuardPolicy)
    overrides: Overrides = attrs.field(factory=Overrides)
    rate: float | None = None
    counted: int | None = 0
    sums: tuple[int, int, int] | None = None
    chunk_size: int = attrs.field(
        default=MAX_IDS, validator=[attrs.validators.ge(1), attrs.validators.le(MAX_IDS)]
    )


def make_plan(state: State, audience: AudienceRecord, request: PlanRequest) -> Plan:
    """Plan a run, and create the temporary view of its actions that `Journal.begin` reads.

    Args:
        state: An open state.
        audience: The audience's record, as it is now.
        request: What to plan.

    Raises:
        InvalidInputError: If a replace has no IDs or more than one call takes, or the source's IDs follow
            other rules than the members.
        OpenRunError: If a run of this audience is not settled.
        StateError: If DuckDB failed.
    """
    if audience.open_run is not None:
        raise OpenRunError(audience=audience.name, run=audience.open_run)
    _check_id_rules(request, audience)
    count = _count_staged(state, request)
    if request.mode is Mode.REPLACE and not 1 <= count <= request.chunk_size:
        # A second call would replace the IDs of the first.
        msg = (
            f"Audience {audience.name!r}: a replace sends 1 to {request.chunk_size:,} IDs in one call, but "
            f"the source has {count:,}. Use the mode mirror. If the audience has members that no recorded "
            "run sent, first delete it at Batch and forget it in this state. Then mirror it with the option "
            "to create it."
        )
        raise InvalidInputError(msg)
    return _to_plan(state, audience, request, _Differ(state, audience, request).run(count))


def clear_plan(state: State, key: str) -> None:
    """Drop the temporary tables of an audience's last plan."""
    state.rows("DROP VIEW IF EXISTS temp.{planned}", planned=planned_table(key))
    state.rows("DROP TABLE IF EXISTS temp.{diff}", diff=diff_table(key))


def _count_staged(state: State, request: PlanRequest) -> int:
    """Return the number of the source's IDs."""
    if request.sums is not None:
        return request.sums[0]
    (count,) = state.row("SELECT count(*) FROM {staged}", staged=request.staged)
    return int(count)


def _check_id_rules(request: PlanRequest, audience: AudienceRecord) -> None:
    """Raise InvalidInputError if the rules have changed: one person would be removed and added again."""
    given, recorded = request.id_rules, audience.id_rules
    if None in {given, recorded} or given == recorded or not audience.members:
        return
    if request.mode not in RESTATING_MODES:
        msg = (
            f"Audience {audience.name!r}: its members follow the ID rules `{recorded}`, but the source's IDs "
            f"follow `{given}`. Use the same rules, or `adopt` the members under the new ones."
        )
        raise InvalidInputError(msg)


@attrs.define(kw_only=True)
class _Found:
    """The result of a diff.

    Attributes:
        staged: IDs of the source.
        digests: The digests of the source.
        counts: Action -> number of IDs.
        added_again: IDs to add that are members already, although Batch may not have them.
        excluded: IDs that Batch refused in the last week.
        carried: IDs to add and IDs to remove that an earlier run left unknown. The source has none of them.
        unsure: IDs to add again that an earlier run was to add, so that Batch may not have them.
    """

    staged: int
    digests: Digests
    counts: Counter[Action] = attrs.field(factory=Counter)
    added_again: int = 0
    excluded: int = 0
    carried: tuple[int, int] = (0, 0)
    unsure: int = 0

    @property
    def added(self) -> int:
        """IDs that become members."""
        return self.counts[Action.ADD] - self.added_again


@attrs.frozen
class _Differ:
    """Creates the view of planned actions, and counts them."""

    state: State
    audience: AudienceRecord
    request: PlanRequest

    def run(self, staged: int) -> _Found:
        """Create the view, and return the counts.

        Args:
            staged: The number of IDs of the source.
        """
        mode, key, state = self.request.mode, self.audience.key, self.state
        excludes = mode in {Mode.MIRROR, Mode.ADD} and state.has_table(refused_table(key))
        carries = mode in CARRIED and has_intended(state, key)
        partitions = count_comparisons(state, max(staged, self.audience.members))
        if self.request.sums is not None:
            self._execute(_TAKE)
            found = _Found(staged=staged, digests=Digests(1, {0: self.request.sums}))
            return self._count(found, excludes=excludes)
        is_first = self.audience.members == 0 and not excludes and not carries
        if is_first and mode not in {Mode.REMOVE, Mode.RESYNC}:
            self._plan(_FIRST)
            digests = Digests.of_keys(state, self.request.staged, partitions)
            return _Found(staged=staged, digests=digests, counts=Counter({Action.ADD: staged}))
        found, are_equal = self._compare(staged, partitions, carries=carries)
        if are_equal:
            self._plan(_FIRST + " WHERE false")
            return found
        return self._count(found, excludes=excludes)

    def _count(self, found: _Found, *, excludes: bool) -> _Found:
        """Create the view of the actions in the diff table, and count them."""
        state, key, mode = self.state, self.audience.key, self.request.mode
        if mode in CARRIED and has_intended(state, key):
            found.carried = carry_over(state, key, mode)
        found.excluded = exclude_refused(state, key) if excludes else 0
        found.added_again = count_added_again(state, key, diff_table(key))
        found.unsure = count_intended_adds(state, key)
        self._plan(_DIFFERENCES)
        rows = state.rows("SELECT action, count(*) FROM {diff} GROUP BY ALL", diff=diff_table(key))
        found.counts.update({Action(action): count for action, count in rows})
        return found

    def _compare(self, staged: int, partitions: int, *, carries: bool) -> tuple[_Found, bool]:
        """Create the diff table, unless the source and the members are equal. Return whether they are."""
        state, key, mode = self.state, self.audience.key, self.request.mode
        with comparing(state, key=key, staged=self.request.staged, partitions=partitions) as comparison:
            digests = comparison.read_source()
            skips = mode in SKIPPING_MODES
            stored = read_digests(state, self.audience, partitions) if skips else None
            if digests == stored and not carries:
                return _Found(staged=staged, digests=digests), True
            comparison.read_members(once=not skips or stored is not None)
            changed: Sequence[int] = range(partitions)
            if skips:
                changed = digests.changed(stored or comparison.digest_members())
            if changed or carries:
                comparison.find(mode, changed, diff_table(key))
            if mode is Mode.RESYNC:
                comparison.add_untracked(changes_of(state, runs_with_changes(state, key)), diff_table(key))
        if not changed:
            with state.transaction():
                store_digests(state, key, digests)
        return _Found(staged=staged, digests=digests), not changed and not carries

    def _plan(self, query: str) -> None:
        self._execute("CREATE OR REPLACE TEMP VIEW {planned} AS " + query)

    def _execute(self, template: str) -> None:
        key = self.audience.key
        self.state.rows(
            template,
            staged=self.request.staged,
            diff=diff_table(key),
            planned=planned_table(key),
        )


def _to_plan(state: State, audience: AudienceRecord, request: PlanRequest, found: _Found) -> Plan:
    counts, after = found.counts, _members_after(audience, request, found)
    calls = 0 if request.mode is Mode.ADOPT else -(-counts.total() // request.chunk_size)
    seconds, basis = _estimate(state, audience, request, calls)
    return Plan(
        audience=audience.name,
        key=audience.key,
        mode=request.mode,
        source_label=request.source,
        id_rules=request.id_rules,
        staged=found.staged,
        source_digest=str(found.digests),
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
        refused_before=found.excluded,
        carried=sum(found.carried),
        sample_adds=_sample(state, audience.key, Action.ADD, counts),
        sample_removes=_sample(state, audience.key, Action.REMOVE, counts),
        decision=_evaluate_guard(audience, request, found, after),
        digests=_digests_after(request, found),
    )


def _digests_after(request: PlanRequest, found: _Found) -> Digests | None:
    """Return the digests of the members after the run. None if the source does not become the members."""
    is_source = request.mode is Mode.MIRROR and request.sums is None
    return found.digests if is_source and not found.excluded and found.carried == (0, 0) else None


def _members_after(audience: AudienceRecord, request: PlanRequest, found: _Found) -> int:
    if request.mode is Mode.REPLACE:
        return found.staged
    return audience.members + found.added - found.counts[Action.REMOVE]


def _unchanged(request: PlanRequest, found: _Found) -> int:
    """Return the number of the source's IDs for which nothing is sent, because nothing changes."""
    counts = found.counts
    if request.mode is Mode.REMOVE:
        return 0
    touched = counts[Action.ADD] + counts[Action.UPDATE] + counts[Action.RESEND] - found.carried[0]
    return found.staged - touched - found.excluded


def _estimate(
    state: State, audience: AudienceRecord, request: PlanRequest, calls: int
) -> tuple[float | None, Basis | None]:
    """Return the expected seconds of the calls, and where the estimate comes from."""
    if not calls:
        return 0.0, None
    if request.rate is not None:
        # Each call is a write and at least one poll of its token.
        return 2 * calls / request.rate, Basis.RATE
    latest = state.rows(_LATEST_SECONDS, [audience.target_digest, RunOutcome.DONE])
    if not latest:
        return None, None
    # The time of a small run is mostly the wait for its token, so only the larger runs show that of a call.
    most = max(made for _, made in latest)
    per_call = statistics.median(seconds / made for seconds, made in latest if made * 2 >= most)
    # Even a single call has to wait for its token.
    return max(calls * per_call, min(seconds for seconds, _ in latest)), Basis.HISTORY


def _evaluate_guard(
    audience: AudienceRecord, request: PlanRequest, found: _Found, after: int
) -> GuardDecision:
    """Return the guard's decision."""
    members, removals = audience.members, audience.members + found.added - after
    # A replace and untracked removals also remove members that only Batch counts.
    counted = request.counted or 0
    unrecorded = max(counted - members, 0)
    if request.mode is Mode.REPLACE and unrecorded:
        members, removals = counted, max(removals, counted - found.staged)
    elif found.counts[Action.REMOVE_UNTRACKED] and unrecorded:
        members = counted
        removals += min(unrecorded, found.counts[Action.REMOVE_UNTRACKED])
    return evaluate(
        request.policy,
        request.overrides,
        staged=None if request.mode is Mode.ROLLBACK else found.staged,
        removals=removals,
        additions=found.added + found.unsure,
        members=members,
        is_counted=request.mode is not Mode.REPLACE or request.counted is not None,
    )


def _sample(state: State, key: str, action: Action, counts: Counter[Action]) -> tuple[str, ...]:
    if not counts[action]:
        return ()
    query = "SELECT id FROM {planned} WHERE action = ? LIMIT ?"
    return tuple(id_ for (id_,) in state.rows(query, [action, _SAMPLE], planned=planned_table(key)))
