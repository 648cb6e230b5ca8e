"""Batch's own count of an audience beside ours: all that can be checked, as members cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import attrs

from ..._client import AudienceClient
from ..._clock import Clock
from ..._remedy import Remedy
from ...errors import AiobatchError
from ...models import Audience
from .._errors import DriftError, UnknownMembersError
from .._options import Mode, SyncOptions
from ..state._state import AudienceRecord
from ._stop import unless_stopped

# Seconds between two looks.
_PAUSE = 1.0
# Modes that need not know what is there: they say it, or bring it back.
_UNKNOWING = frozenset({Mode.REPLACE, Mode.ADOPT, Mode.RESYNC})


@attrs.define(eq=False, kw_only=True)
class Census:
    """Compares Batch's count with ours, with patience: Batch may count late.

    Attributes:
        client: Asks Batch.
        options: How much drift is tolerated, how long, and whether more is an error.
        stop: Set from outside to end early.
        clock: Tells the time and sleeps.
        warn: Takes what is to be looked at.
        last: The audience as Batch showed it last; None if it did not, or not after the run.
    """

    client: AudienceClient
    options: SyncOptions
    stop: asyncio.Event
    clock: Clock
    warn: Callable[[str, Remedy | None], None]
    last: Audience | None = attrs.field(init=False, default=None)

    async def before(self, believed: AudienceRecord, seen: Audience) -> int | None:
        """Compare before a run, to notice that somebody else wrote.

        Args:
            believed: The audience as the state knows it.
            seen: As Batch showed it last.

        Returns:
            What Batch counts.

        Raises:
            UnknownMembersError: It has members that we know nothing of.
            DriftError: The counts differ, and the options are strict.
        """
        name, counted = believed.name, seen.nb_ids
        if self.options.mode is Mode.RESYNC and not believed.known and counted:
            self.warn(_text_unknowable(counted), None)
        if self.options.mode in _UNKNOWING:
            return counted
        if not believed.known:
            if counted != 0:
                raise UnknownMembersError(_text_unknown(counted), audience=name, remedy=Remedy("adopt", name))
            return counted
        if self._is_off(counted, believed.members):
            counted = await unless_stopped(self.stop, name, self._count(name, believed.members))
        if counted is not None and self._is_off(counted, believed.members):
            self._drift(
                f"Batch counts {counted:,} members before the run, but the state has {believed.members:,}. "
                "Another writer may be active, or Batch's count lags.",
                name,
                remedy=Remedy("resync", name),
            )
        return counted

    async def after(self, name: str, members: int, *, run: int | None) -> int | None:
        """Compare after a run.

        Args:
            name: The audience's name.
            members: Members that it should have.
            run: The run's number; None where it has none.

        Returns:
            What Batch counts; None where it cannot be asked.

        Raises:
            DriftError: The counts differ or cannot be compared, and the options are strict.
        """
        self.last = None
        try:
            counted = await self._count(name, members)
        except AiobatchError as error:
            self._drift(f"the members could not be counted at the end: {error}", name, run)
            return None
        if counted is not None and self._is_off(counted, members):
            self._drift(self._text_off(counted, members), name, run)
        return counted

    def _text_off(self, counted: int, members: int) -> str:
        """Say that the counts differ at the end, and what that means."""
        if self.options.mode is Mode.ADOPT:
            taken = "nothing was taken over" if self.options.strict else "the source was believed"
            return (
                f"Batch counts {counted:,} members, the source tells of {members:,}: it is old or not all of "
                f"them, or somebody else writes to the audience; {taken}"
            )
        late = f"{self.options.drift_patience:g} s"
        text = f"Batch counts {counted:,} members {late} after the run, it should be {members:,}"
        if self.options.mode is Mode.RESYNC:
            text += "; no known run sent the others: only a replace or a new audience is rid of them"
        return text

    async def _count(self, name: str, members: int) -> int | None:
        """Ask until the count is right, or patience or the run ends."""
        deadline = self.clock.monotonic() + self.options.drift_patience
        while True:
            self.last = await self.client.view(name)
            counted = self.last.nb_ids
            left = deadline - self.clock.monotonic()
            if not self._is_off(counted, members) or left <= 0 or self.stop.is_set():
                return counted
            await self.clock.sleep(min(_PAUSE, left))

    def _is_off(self, counted: int | None, members: int) -> bool:
        """Tell whether the counts differ by more than is tolerated."""
        return counted is not None and abs(counted - members) > self.options.drift

    def _drift(self, text: str, name: str, run: int | None = None, remedy: Remedy | None = None) -> None:
        """Raise if the options are strict, otherwise warn."""
        if self.options.strict and not self.stop.is_set():
            raise DriftError(text, audience=name, run=run, remedy=remedy)
        self.warn(text, remedy)


def _text_unknown(counted: int | None) -> str:
    has = "may have members (Batch returns no count)" if counted is None else f"has {counted:,} members"
    return (
        f"it {has} that this state has no record of. Nothing was sent. Adopt the members from a file that "
        "lists them, or replace them all (mode 'replace')."
    )


def _text_unknowable(counted: int) -> str:
    return (
        f"It has {counted:,} members that this state has no record of. Those that are not in the source "
        "remain, because Batch's API does not list members."
    )
