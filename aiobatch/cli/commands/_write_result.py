"""The end of a write: wait for it and print its report."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ..._client import AudienceClient
from ...models import Audience, IndexingToken, Operation, Settled
from .._context import Context
from .._exit_codes import ExitCode
from .._signals import set_exit_message
from ..options._common import WaitAfterwards, WaitOnRequest
from ..output._command_hints import command
from ..output._progress import Progress
from ..output._tables import AUDIENCE, audience_record
from ._wait import report_unapplied, settle_tokens

if TYPE_CHECKING:
    from ...sync.run import OutsideWrite

__all__ = ["Report", "end_write", "finish", "outside_write", "write"]

Waiting = WaitAfterwards | WaitOnRequest


@attrs.frozen(kw_only=True)
class Report:
    """The result of a write.

    Attributes:
        name: The audience.
        operation: The operation.
        ids: The number of IDs sent. None: the operation sends none.
        tokens: Tokens that are not known to be APPLIED.
        audience: The audience after the write. None: the command did not wait.
    """

    name: str
    operation: Operation
    ids: int | None = None
    tokens: Sequence[IndexingToken] = ()
    audience: Audience | None = None

    @property
    def applied(self) -> bool:
        """Whether the write is known to have taken effect."""
        return not self.tokens

    def record(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "audience": self.name,
            "operation": str(self.operation),
            "ids": self.ids,
            "applied": self.applied,
            "tokens": [str(token) for token in self.tokens],
            "result": None if self.audience is None else audience_record(self.audience),
        }


def outside_write(client: AudienceClient, name: str, what: str) -> OutsideWrite:
    """Return the context of a write: it takes the audience's lock, and a state that records it follows.

    Args:
        client: An open client.
        name: The audience's name.
        what: What the command does, for the error of other processes.
    """
    from ...sync.run import OutsideWrite  # noqa: PLC0415 - only writes load the engine

    return OutsideWrite(client, name, what)


async def end_write(outside: OutsideWrite, report: Report, waiting: Waiting) -> None:
    """Record the end of a write, if it is known or nothing waited for it.

    Args:
        outside: The context of the write.
        report: Its result.
        waiting: Whether to wait.
    """
    if report.audience is not None or not waiting.wait:
        await outside.end(report.audience)


async def finish(
    client: AudienceClient, report: Report, waiting: Waiting, progress: Progress, context: Context
) -> tuple[Report, ExitCode]:
    """Wait for a write unless --no-wait is set.

    Args:
        client: An open client.
        report: The result so far.
        waiting: Whether to wait, and how long.
        progress: The display.
        context: Prints the open tokens if a signal ends the wait.

    Returns:
        The final report and the exit code.
    """
    if not waiting.wait or not report.tokens:
        return report, ExitCode.DONE
    left = dict.fromkeys(report.tokens)
    last: list[Audience | None] = [None]

    def on_settled(settled: Settled) -> None:
        if settled.error is None:
            del left[settled.token]
            last[0] = settled.audience

    try:
        ended = await settle_tokens(client, report.tokens, waiting.timeout, progress, on_settled)
    except asyncio.CancelledError:
        progress.stop()
        set_exit_message(f"Indexing continues at Batch. Run {command('wait')} with the tokens on stdout.")
        write(attrs.evolve(report, tokens=tuple(left)), context)
        raise
    progress.stop()
    done = attrs.evolve(report, tokens=tuple(left), audience=last[0])
    return done, report_unapplied(ended)


def write(report: Report, context: Context) -> None:
    """Print a report as JSON, or the open tokens, or the audience."""
    if context.options.json:
        context.output.json(report.record())
    elif not report.applied:
        for token in report.tokens:
            context.output.line(str(token))
    elif report.audience is not None and report.operation is not Operation.DELETE:
        with context.output.rows(AUDIENCE) as add:
            add(audience_record(report.audience))
