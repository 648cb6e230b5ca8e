"""The drift check: compares Batch's member count with the recorded one.

Batch's API lists no members, so that their number is all that can be compared.
"""

from __future__ import annotations

from typing import Final

import attrs

from ...errors import AiobatchError, Remedy
from ...models import Audience
from .._errors import DriftError, UnknownMembersError
from .._options import Mode
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

    async def before(self, record: AudienceRecord, seen: Audience) -> int | None:
        """Compare the counts before a run, to notice other writers.

        Args:
            record: The audience as the state records it.
            seen: The audience as Batch returned it last.

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
        if self._differs(counted, record.members):
            counted = await context.unless_stopped(self._count(record.members))
        if counted is not None and self._differs(counted, record.members):
            self._report_drift(
                f"Batch counts {counted:,} members before the run, but the state has {record.members:,}. "
                "Another writer may be active, or Batch's count lags.",
                remedy=Remedy("resync", record.name),
            )
        return counted

    async def after(self, members: int, *, run: int | None) -> int | None:
        """Compare the counts after a run.

        Args:
            members: The members that the audience should have.
            run: The run's number. None if it has none.

        Returns:
            Batch's count. None if it cannot be read.

        Raises:
            DriftError: The counts differ or cannot be compared, and the options are strict.
        """
        self.last = None
        try:
            counted = await self._count(members)
        except AiobatchError as error:
            self._report_drift(f"the members could not be counted at the end: {error}", run=run)
            return None
        if counted is not None and self._differs(counted, members):
            self._report_drift(self._text(counted, members), run=run)
        return counted

    def _text(self, counted: int, members: int) -> str:
        options = self.context.options
        if options.mode is Mode.ADOPT:
            done = "Nothing was recorded." if options.strict else "The members of the source were recorded."
            return (
                f"Batch counts {counted:,} members, but the source has {members:,}. The source is old or "
                f"incomplete, or another writer is active. {done}"
            )
        text = (
            f"Batch counts {counted:,} members {options.drift_patience:g} s after the run, but it should "
            f"have {members:,}."
        )
        if options.mode is Mode.RESYNC:
            text += " No recorded run sent the extra members. Only a replace or a new audience removes them."
        return text

    async def _count(self, members: int) -> int | None:
        """View the audience until its count is right, time is up, or the run is to stop."""
        context = self.context
        deadline = context.clock.monotonic() + context.options.drift_patience
        while True:
            self.last = await context.client.view(context.audience)
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
        "lists them, or replace them all (mode 'replace')."
    )
    return UnknownMembersError(msg, audience=name, remedy=Remedy("adopt", name))
