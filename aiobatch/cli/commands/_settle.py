"""Wait for what runs of the sync engine journaled and did not wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..._client import AudienceClient
from ...errors import AiobatchError
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
    SyncEngine,
    SyncOptions,
)
from .._context import Context
from .._exit_codes import ExitCode
from .._sync_session import check_recorded, recorded_audiences, stop_on_signal
from ..inputs._credentials import open_client
from ..options._common import TargetOptions
from ..output._errors import report_error, text_of
from ..output._messages import log_context
from ..output._sync_progress import StepProgress
from ..output._tables import Column

__all__ = ["settle_audiences"]

_COLUMNS = (Column("audience", "audience"), Column("run", "run"), Column("outcome", "outcome"))
_OUTCOMES: dict[type[AiobatchError], Outcome] = {
    NotAppliedError: Outcome.TIMED_OUT,
    ReplacedElsewhereError: Outcome.REPLACED,
}
# What weighs most comes first.
_WORST = (ExitCode.FAILED, ExitCode.REPLACED, ExitCode.LOCKED, ExitCode.NOT_APPLIED, ExitCode.DONE)


async def settle_audiences(
    names: Sequence[str], state: Path, timeout: float | None, target: TargetOptions, context: Context
) -> ExitCode:
    """Bring what runs left open to its end: tokens are waited for, chunks of unknown outcome sent again.

    Args:
        names: Audiences; none for all of the target that have something open.
        state: The state file.
        timeout: Seconds for each; None for ever.
        target: Whose audiences.
        context: Where results go.

    Returns:
        The exit code of what weighs most.
    """
    stop, codes = asyncio.Event(), [ExitCode.DONE]
    known = await SyncEngine(state=state).status()
    with (
        context.output.rows(_COLUMNS) as add,
        stop_on_signal(stop, context) as code_of_signal,
        context.progress(transient=True) as progress,
    ):
        async with open_client(target, progress.on_event, retry=BULK_RETRY) as client:
            waiter = _AudienceSettler(
                client, state, SyncOptions(timeout=timeout), stop, StepProgress(progress, context.info)
            )
            chosen = _choose(names, recorded_audiences(known, client.target))
            if not chosen:
                context.info("nothing is open")
            for name in chosen:
                try:
                    with log_context(audience=name):
                        ended, code = await waiter.settle(name)
                except InterruptedRunError as error:
                    report_error(error)
                    return code_of_signal()
                add(ended)
                codes.append(code)
    return min(codes, key=_WORST.index)


def _choose(names: Sequence[str], known: Mapping[str, AudienceStatus]) -> list[str]:
    """Return the audiences to settle."""
    for name in names:
        check_recorded(name, known)
    return list(dict.fromkeys(names)) or [name for name, one in known.items() if one.open_run is not None]


@attrs.frozen
class _AudienceSettler:
    """Brings what runs left open to its end, one audience after the other.

    Attributes:
        client: Asks.
        state: The state file.
        options: How long to wait.
        stop: Set by a signal.
        steps: Where it is shown.
    """

    client: AudienceClient
    state: Path
    options: SyncOptions
    stop: asyncio.Event
    steps: StepProgress

    async def settle(self, name: str) -> tuple[dict[str, Any], ExitCode]:
        """Return how an audience's open run ended, as a record, and its exit code.

        Raises:
            InterruptedRunError: A signal came.
        """
        try:
            with self.steps as steps:
                async with SyncEngine(
                    state=self.state, options=self.options, on_progress=steps.on_progress, stop=self.stop
                ) as engine:
                    run = await engine.settle(self.client, name)
            _check_whole(run)
        except InterruptedRunError:
            raise
        except AiobatchError as error:
            return _record(name, getattr(error, "run", None), error), _say(error)
        return _record(name, None if run is None else run.run, None), ExitCode.DONE


def _check_whole(run: Run | None) -> None:
    """Refuse to call a run done of which a part was never sent: it was ended before it came to that.

    Raises:
        ReplacedElsewhereError: Somebody else replaced the members meanwhile.
        RunError: A part of what it had planned was not sent.
    """
    if run is None or run.whole:
        return
    if run.outcome is RunOutcome.REPLACED:
        msg = (
            f"another writer replaced the members during run {run.run}, so the recorded members are no "
            "longer valid."
        )
        raise ReplacedElsewhereError(msg, audience=run.audience, run=run.run, remedy=run.remedy)
    msg = (
        f"{run.applied or 0:,} of the {run.planned:,} changes of run {run.run} are APPLIED, and nothing of "
        "it is open any more; the others were never sent: sync again to send them"
    )
    raise RunError(msg, audience=run.audience, run=run.run)


def _say(error: AiobatchError) -> ExitCode:
    """Say what went wrong; return the exit code."""
    code = report_error(error)
    return code if code in _WORST else ExitCode.FAILED


def _outcome(error: AiobatchError) -> Outcome | None:
    """Return how the tokens stand after an error; None where nobody has looked."""
    if isinstance(error, LockedError):
        return None
    return _OUTCOMES.get(type(error), Outcome.FAILED)


def _record(name: str, run: int | None, error: AiobatchError | None) -> dict[str, Any]:
    """Return how an audience's open run ended, as a record."""
    outcome = Outcome.APPLIED if error is None else _outcome(error)
    text = None if error is None else text_of(error)
    return {"audience": name, "run": run, "outcome": outcome, "error": text}
