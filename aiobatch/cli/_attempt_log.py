"""The record of attempts that the commands keep beside the state, however an attempt ends."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from .._client import AudienceClient
from ..sync import Attempt, NotifyConfig, StateLocation, SyncReport, record_attempts
from ._alerts import news_of, send_alerts
from ._exit_codes import ExitCode
from ._signals import in_thread
from .output._command_hints import with_remedy
from .output._tables import clean

__all__ = ["AttemptLog"]


@attrs.define(eq=False)
class AttemptLog:
    """Records the attempts of one command, each when it starts and when it ends.

    Attributes:
        state: The state.
        notify: Where alerts go. None if the config declares none.
        attempts: The attempts by audience and target of the command.
    """

    state: StateLocation
    notify: NotifyConfig | None = None
    attempts: dict[tuple[str, str | None], Attempt] = attrs.field(factory=dict)
    _recorded: bool = attrs.field(init=False, default=True)

    def add(self, attempt: Attempt) -> None:
        """Add an attempt that is about to start. Nothing is written yet."""
        assert attempt.audience is not None  # noqa: S101 - a whole config has no report to end with
        self.attempts[attempt.audience, attempt.target] = attempt

    def identify(self, audience: str, target: str | None, client: AudienceClient) -> None:
        """Add the key of the audience in the state, as soon as the target is known."""
        place = audience, target
        self.attempts[place] = self.attempts[place].to(client.target)

    async def start(self) -> None:
        """Record that the attempts start. A killed process leaves this record."""
        attempts = list(self.attempts.values())
        self._recorded = await in_thread(lambda: record_attempts(self.state, attempts))

    async def end(self, ends: Iterable[tuple[str, str | None, SyncReport, ExitCode]]) -> None:
        """Record how attempts ended.

        Args:
            ends: Audience, target, report and exit code of each. Those that were not added are left out.
        """
        ended = [
            self.attempts[audience, target].reported(report, exit_code=int(code), error=_error_of(report))
            for audience, target, report, code in ends
            if (audience, target) in self.attempts
        ]
        await in_thread(lambda: record_attempts(self.state, ended, warns=self._recorded))
        if self.notify is not None:
            # Once: another signal ends the wait for a service that does not answer.
            notify, self.notify = self.notify, None
            await in_thread(lambda: send_alerts(notify, self.state, news_of(ended)))

    async def end_all(self, report: SyncReport, code: ExitCode) -> None:
        """Record that all attempts ended in the same way."""
        await self.end([(*place, report, code) for place in self.attempts])


def _error_of(report: SyncReport) -> str | None:
    """Return what went wrong, and what to do."""
    return None if report.error is None else clean(with_remedy(report.error, report.remedy))
