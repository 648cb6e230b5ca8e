"""The last runs of an audience: how they left it, and what another writer did to it since."""

from __future__ import annotations

import attrs

from ...errors import Remedy
from ...models import Audience
from .._errors import ReplacedElsewhereError
from .._options import DELTA_MODES, RESTATING_MODES, Mode
from ..state._audience_snapshots import (
    AudienceSnapshot,
    check_not_emptied,
    check_not_recreated,
    foreign_change,
    read_snapshot,
    recent_change,
)
from ..state._history import last_mode
from ..state._run_changes import count_unknown
from ..state._state import AudienceRecord, State
from ..state._targets import TargetKey, get_or_create_audience
from ._context import RunContext


@attrs.frozen(kw_only=True)
class LastRun:
    """The audience as the last runs left it.

    Attributes:
        record: The audience as the state records it.
        snapshot: Its times after the last run that sent anything.
        replaced_in: The run during which another writer replaced the members. None if none, or it is fixed.
        is_resync: Whether the last run that applied anything was a resync.
        unknown: Recorded members that Batch may not have, because a run was interrupted.
    """

    record: AudienceRecord
    snapshot: AudienceSnapshot
    replaced_in: int | None
    is_resync: bool
    unknown: int

    @property
    def is_anchored(self) -> bool:
        """Whether the audience's times after a run are recorded, so that later changes are foreign."""
        return self.snapshot.updated is not None

    def refuse_foreign(self, context: RunContext, seen: Audience) -> None:
        """Raise an error if a difference must not be sent, because another writer emptied the audience.

        Args:
            context: The run's.
            seen: The audience in Batch.

        Raises:
            AudienceGoneError: If it was deleted and created again.
            ReplacedElsewhereError: If another writer removed or replaced its members.
        """
        if context.options.mode in RESTATING_MODES:
            return
        least = context.options.guard.small_audience
        check_not_recreated(self.snapshot, self.record, seen)
        check_not_emptied(self.snapshot, self.record, seen, least=least)

    def refuse_replaced(self, context: RunContext) -> None:
        """Raise ReplacedElsewhereError if another writer replaced the members during an earlier run.

        Raises:
            ReplacedElsewhereError: If it did, and this run does not state all members.
        """
        if self.replaced_in is not None and context.options.mode not in RESTATING_MODES:
            name, run = context.audience, self.replaced_in
            msg = (
                f"another writer replaced the members during run {run}, so the recorded members are no "
                "longer valid. Nothing was sent."
            )
            raise ReplacedElsewhereError(msg, audience=name, run=run, remedy=Remedy("resync", name))

    def warn(self, context: RunContext, seen: Audience) -> None:
        """Warn of a change that is certainly foreign."""
        _warn(context, foreign_change(self.snapshot, seen))

    def warn_of_recent(self, context: RunContext, seen: Audience) -> None:
        """Warn of a change that may be foreign, unless the counts have shown that it is."""
        if not context.reporter.has_warnings:
            _warn(context, recent_change(self.snapshot, seen))


def _warn(context: RunContext, text: str | None) -> None:
    mode = context.options.mode
    if text is not None and mode not in RESTATING_MODES:
        # Changes of other IDs do not affect a run that changes single ones.
        remedy = None if mode in DELTA_MODES else Remedy("resync", context.audience)
        context.reporter.warn(text, remedy)


def read_last_run(state: State, target: TargetKey, name: str) -> LastRun:
    """Return how the last runs left an audience.

    Args:
        state: The open state.
        target: The audience's target.
        name: The audience's name.
    """
    record = get_or_create_audience(state, target, name)
    mode, replaced_in = last_mode(state, record.key)
    return LastRun(
        record=record,
        snapshot=read_snapshot(state, record.key),
        replaced_in=replaced_in,
        is_resync=mode is Mode.RESYNC,
        unknown=count_unknown(state, record.key),
    )
