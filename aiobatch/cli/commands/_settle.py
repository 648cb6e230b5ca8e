"""The `settle` command: finish what earlier runs left open."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ..._client import AudienceClient
from ...errors import AiobatchError, InvalidInputError
from ...models import Outcome
from ...sync import (
    BULK_RETRY,
    AudienceStatus,
    InterruptedRunError,
    LockedError,
    NotAppliedError,
    ReplacedElsewhereError,
    Run,
    RunError,
    RunOutcome,
    StateLocation,
    SyncEngine,
    SyncOptions,
)
from .._context import InjectedContext
from .._exit_codes import ExitCode
from .._signals import in_thread
from .._sync_session import check_recorded, stop_on_signal
from ..inputs._credentials import open_client
from ..inputs._place import Place, resolve
from ..options._common import WaitOptions
from ..options._sync import KnownCommand
from ..output._command_hints import command_context
from ..output._errors import report_error, text_of
from ..output._messages import log_context
from ..output._sync_progress import StepProgress
from ..output._tables import Column

__all__ = ["settle"]

_COLUMNS = (Column("audience", "audience"), Column("run", "run"), Column("outcome", "outcome"))
_OUTCOMES: dict[type[AiobatchError], Outcome | None] = {
    NotAppliedError: Outcome.TIMED_OUT,
    ReplacedElsewhereError: Outcome.REPLACED,
    LockedError: None,  # nothing was checked
}
# The most severe code first.
_SEVERITY = (ExitCode.FAILED, ExitCode.REPLACED, ExitCode.LOCKED, ExitCode.NOT_APPLIED, ExitCode.DONE)


_COMMAND, _WAIT = KnownCommand(), WaitOptions(timeout=SyncOptions().timeout)


async def settle(
    *names: str, command: KnownCommand = _COMMAND, options: WaitOptions = _WAIT, context: InjectedContext
) -> ExitCode:
    """Finish what earlier runs left open.

    Waits for tokens of `sync --no-wait` or of a run that ended early, and sends chunks of unknown outcome
    again. Prints a line for each audience: name, run, outcome (APPLIED, REPLACED, TIMED_OUT or FAILED). The
    exit code is the most severe one.

    Example: `aiobatch sync vip users.parquet --no-wait && aiobatch settle vip`

    Args:
        names: The audiences. Default: all of the app or project that have an open run.
    """
    stop, codes = asyncio.Event(), [ExitCode.DONE]
    say = context.info
    places = await in_thread(lambda: [resolve(command, name, say) for name in names or ("",)])
    place = _one_target(places)
    status = await SyncEngine(state=place.state).status()
    with (
        command_context(**place.words),
        context.output.rows(_COLUMNS) as add,
        stop_on_signal(stop, context) as code_of_signal,
        context.progress(transient=True) as progress,
    ):
        async with open_client(
            place.target, progress.on_event, retry=BULK_RETRY, place=place.place
        ) as client:
            settler = _Settler(
                client,
                place.state,
                SyncOptions(timeout=options.timeout),
                stop,
                StepProgress(progress, context.info),
            )
            chosen = _choose([one.audience for one in places if names], status.audiences_of(client.target))
            if not chosen:
                context.info("Nothing is open.")
            for name in chosen:
                try:
                    with log_context(audience=name):
                        record, code = await settler.settle(name)
                except InterruptedRunError as error:
                    report_error(error)
                    return code_of_signal()
                add(record)
                codes.append(code)
    return min(codes, key=_SEVERITY.index)


def _one_target(places: Sequence[Place]) -> Place:
    """Return the first place, if all are in the same target and state."""
    if len({(place.label, place.state) for place in places}) > 1:
        msg = "These audiences are in several apps or projects. Choose one with --target."
        raise InvalidInputError(msg)
    return places[0]


def _choose(names: Sequence[str], recorded: Mapping[str, AudienceStatus]) -> list[str]:
    """Return the audiences to settle."""
    for name in names:
        check_recorded(name, recorded)
    return list(dict.fromkeys(names)) or [name for name, one in recorded.items() if one.open_run is not None]


@attrs.frozen
class _Settler:
    """Settles audiences, one after the other.

    Attributes:
        client: An open client.
        state: The state.
        options: The timeout of each audience.
        stop: Set by a signal.
        steps: Displays the progress.
    """

    client: AudienceClient
    state: StateLocation
    options: SyncOptions
    stop: asyncio.Event
    steps: StepProgress

    async def settle(self, name: str) -> tuple[dict[str, Any], ExitCode]:
        """Settle an audience and return its record and its exit code.

        Raises:
            InterruptedRunError: A signal stopped it.
        """
        run: int | None = None
        try:
            with self.steps as steps:
                async with SyncEngine(
                    state=self.state, options=self.options, on_progress=steps.on_progress, stop=self.stop
                ) as engine:
                    settled = await engine.settle(self.client, name)
            if settled is not None:
                run = settled.run
                _check_complete(settled)
        except InterruptedRunError:
            raise
        except AiobatchError as error:
            code = report_error(error)
            outcome = _OUTCOMES.get(type(error), Outcome.FAILED)
            record = {"run": getattr(error, "run", run), "outcome": outcome, "error": text_of(error)}
            return {"audience": name, **record}, code if code in _SEVERITY else ExitCode.FAILED
        return {"audience": name, "run": run, "outcome": Outcome.APPLIED, "error": None}, ExitCode.DONE


def _check_complete(run: Run) -> None:
    """Raise an error if a part of a run was never sent.

    Raises:
        ReplacedElsewhereError: Another writer replaced the members during the run.
        RunError: The run ended before it had sent all of its changes.
    """
    if run.whole:
        return
    if run.outcome is RunOutcome.REPLACED:
        msg = (
            f"Another writer replaced the members during run {run.run}, so the recorded members are no "
            "longer valid."
        )
        raise ReplacedElsewhereError(msg, audience=run.audience, run=run.run, remedy=run.remedy)
    msg = (
        f"Run {run.run} ended early. {run.applied or 0:,} of its {run.planned:,} "
        "changes are APPLIED. Sync again to send the others."
    )
    raise RunError(msg, audience=run.audience, run=run.run)
