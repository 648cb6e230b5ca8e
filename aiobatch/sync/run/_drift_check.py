"""The drift check: compares Batch's member count with the recorded one.

Batch's API lists no members, so that their number is all that can be compared.
"""

from __future__ import annotations

from typing import Final

import attrs

from ...errors import AiobatchError, Remedy, SyncError
from ...models import MAX_IDS, Audience
from .._errors import DriftError, UnknownMembersError
from .._options import DELTA_MODES, Mode
from ..state._audience_snapshots import check_still_there
from ..state._state import AudienceRecord
from ._context import RunContext

# Seconds between two looks.
_PAUSE: Final = 1.0
# These modes replace or restate the members, and need not know which ones there are.
_NEEDS_NO_BASELINE: Final = frozenset({Mode.REPLACE, Mode.ADOPT, Mode.RESYNC})


@attrs.define(eq=False)
class DriftCheck:
    """Compares the counts before and after a run. It waits a while, because Batch's count may lag.

    Attributes:
        context: The run's. Its options hold the tolerated drift and how long to wait.
        last: The audience as Batch returned it last. None if it did not, or not since the run.
    """

    context: RunContext
    last: Audience | None = attrs.field(init=False, default=None)

    async def before(
        self, record: AudienceRecord, seen: Audience, *, after_resync: bool, unknown: int
    ) -> int | None:
        """Compare the counts before a run, to notice other writers.

        Args:
            record: The audience as the state records it.
            seen: The audience as Batch returned it last.
            after_resync: Whether the last run that sent anything was a resync.
            unknown: Recorded members that Batch may not have.

        Returns:
            Batch's count. None if it returns none.

        Raises:
            UnknownMembersError: The audience has members that the state does not record.
            DriftError: The counts differ, and the options are strict.
        """
        context, counted = self.context, seen.nb_ids
        if context.options.mode is Mode.RESYNC and not record.known and counted:
            context.reporter.warn(
                f"It has {counted:,} members that this state has no record of. Those that are not in the "
                "source remain, because Batch's API does not list members."
            )
        if context.options.mode in _NEEDS_NO_BASELINE:
            return counted
        if not record.known:
            if counted != 0:
                raise _unknown_members(record.name, counted)
            return counted
        if unknown and counted is not None and counted <= record.members <= counted + unknown:
            return counted
        if self._differs(counted, record.members):
            counted = await context.unless_stopped(self._count(record.members))
        if counted is not None and self._differs(counted, record.members):
            advice, remedy = self._advice(counted, record, after_resync=after_resync)
            text = f"Batch counts {counted:,} members before the run, but the state has {record.members:,}. "
            self._report_drift(f"{text}{advice}", remedy=remedy)
        return counted

    def _advice(
        self, counted: int, record: AudienceRecord, *, after_resync: bool
    ) -> tuple[str, Remedy | None]:
        """Return what may be the reason of a difference before a run, and what fixes it."""
        reason = "Another writer may be active, or Batch's count lags."
        if self.context.options.mode in DELTA_MODES:
            return f"{reason} This run changes only IDs of its source.", None
        if counted > record.members and after_resync:
            advice, remedy = removal_of_unknown(record.name, record.members, self.context.options.chunk_size)
            return f"No recorded run sent the extra members, so the last resync left them. {advice}", remedy
        return reason, Remedy("resync", record.name)

    async def after(self, members: int, *, run: int | None, before: Audience | None = None) -> int | None:
        """Compare the counts after a run.

        Args:
            members: The members that the audience should have.
            run: The run's number. None if it has none.
            before: The audience at the start of the run. None if it is not known.

        Returns:
            Batch's count. None if it cannot be read.

        Raises:
            AudienceGoneError: The audience was deleted and created again during the run.
            DriftError: The counts differ or cannot be compared, and the options are strict.
        """
        self.last = None
        try:
            counted = await self._count(members, before, run)
        except SyncError:
            raise
        except AiobatchError as error:
            self._report_drift(f"the members could not be counted at the end: {error}", run=run)
            return None
        if counted is not None and self._differs(counted, members):
            text, remedy = self._text(counted, members)
            self._report_drift(text, run=run, remedy=remedy)
        return counted

    def _text(self, counted: int, members: int) -> tuple[str, Remedy | None]:
        options = self.context.options
        if options.mode is Mode.ADOPT:
            done = "Nothing was recorded." if options.strict else "The members of the source were recorded."
            text = (
                f"Batch counts {counted:,} members, but the source has {members:,}. The source is old or "
                f"incomplete, or another writer is active. {done}"
            )
            return text, None
        text = (
            f"Batch counts {counted:,} members {options.drift_patience:g} s after the run, but it should "
            f"have {members:,}."
        )
        if options.mode is not Mode.RESYNC or counted < members:
            return text, None
        advice, remedy = removal_of_unknown(self.context.audience, members, options.chunk_size)
        return f"{text} No recorded run sent the extra members. {advice}", remedy

    async def _count(
        self, members: int, before: Audience | None = None, run: int | None = None
    ) -> int | None:
        """View the audience until its count is right, time is up, or the run is to stop."""
        context = self.context
        deadline = context.clock.monotonic() + context.options.drift_patience
        while True:
            self.last = await context.client.view(context.audience)
            if before is not None:
                check_still_there(before, self.last, run=run)
            counted = self.last.nb_ids
            left = deadline - context.clock.monotonic()
            if not self._differs(counted, members) or left <= 0 or context.stop.is_set():
                return counted
            await context.clock.sleep(min(_PAUSE, left))

    def _differs(self, counted: int | None, members: int) -> bool:
        return counted is not None and abs(counted - members) > self.context.options.drift

    def _report_drift(self, text: str, *, run: int | None = None, remedy: Remedy | None = None) -> None:
        """Raise DriftError if the options are strict, otherwise warn."""
        context = self.context
        # Without patience a count that merely lags is no reason to fail.
        if context.options.strict and not context.stop.is_set():
            raise DriftError(text, audience=context.audience, run=run, remedy=remedy)
        context.reporter.warn(text, remedy)


def _unknown_members(name: str, counted: int | None) -> UnknownMembersError:
    has = "may have members (Batch returns no count)" if counted is None else f"has {counted:,} members"
    msg = (
        f"it {has} that this state has no record of. Nothing was sent. Adopt the members from a file that "
        f"lists them, or replace them all (mode 'replace', up to {MAX_IDS:,} IDs)."
    )
    return UnknownMembersError(msg, audience=name, remedy=Remedy("adopt", name))


def removal_of_unknown(name: str, members: int, limit: int = MAX_IDS) -> tuple[str, Remedy | None]:
    """Return how to remove members that no run sent, in words, and as an operation if a single one does.

    Args:
        name: The audience's name.
        members: The members that it should have.
        limit: IDs that one request takes.
    """
    if 0 < members <= limit:
        return "A replace with all members removes them.", Remedy("sync", name, {"mode": "replace"})
    text = (
        "Batch's API does not list them. To remove them, delete the audience at Batch, forget it in this "
        "state, and load all members with the option to create it. Until then its campaigns reach no user."
    )
    return text, None
