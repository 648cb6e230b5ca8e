"""Wait for what runs of the sync engine journaled and did not wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._client import AudienceClient
from ..errors import AiobatchError, InvalidInputError
from ..models import Outcome, check_name
from ..sync import (
    BULK_RETRY,
    InterruptedRunError,
    NotAppliedError,
    ReplacedElsewhereError,
    Status,
    SyncOptions,
    read_status,
    settle_audience,
)
from ..sync._engine import scope_of
from ..sync._state import audience_key
from ._context import Context, complain
from ._errors import explain
from ._exit import ExitCode
from ._loop import in_thread
from ._options import TargetOptions
from ._output import Column
from ._sync_session import gently
from ._sync_show import Steps
from ._target import open_client

__all__ = ["settle_journaled"]

_COLUMNS = (Column("audience", "audience"), Column("run", "run"), Column("outcome", "outcome"))
_OUTCOMES: dict[type[AiobatchError], Outcome] = {
    NotAppliedError: Outcome.TIMED_OUT,
    ReplacedElsewhereError: Outcome.REPLACED,
}
# What weighs most comes first.
_WORST = (ExitCode.FAILED, ExitCode.REPLACED, ExitCode.LOCKED, ExitCode.NOT_APPLIED, ExitCode.DONE)


async def settle_journaled(
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
    known = await in_thread(lambda: read_status(state))
    with (
        context.output.rows(_COLUMNS) as add,
        gently(stop, context) as code_of_signal,
        context.progress(transient=True) as progress,
    ):
        async with open_client(target, progress.on_event, retry=BULK_RETRY) as client:
            for name in _choose(names, known, client):
                run, error = None, None
                try:
                    with Steps(progress, context.say) as steps:
                        run = await settle_audience(
                            client,
                            name,
                            state=state,
                            options=SyncOptions(timeout=timeout),
                            on_progress=steps.on_progress,
                            stop=stop,
                        )
                except InterruptedRunError:
                    return code_of_signal()
                except AiobatchError as caught:
                    error = caught
                    codes.append(_say(caught))
                add(_record(name, run, error))
    return min(codes, key=_WORST.index)


def _choose(names: Sequence[str], known: Status, client: AudienceClient) -> list[str]:
    """Return the audiences to settle."""
    scope = scope_of(client)
    ours = {one.name: one for one in known.audiences if one.key == audience_key(scope, one.name)}
    for name in map(check_name, names):
        if name not in ours:
            msg = f"the state knows no audience {name!r} of this app or project; `aiobatch status` lists all"
            raise InvalidInputError(msg)
    return list(dict.fromkeys(names)) or [name for name, one in ours.items() if one.open_run is not None]


def _say(error: AiobatchError) -> ExitCode:
    """Say what went wrong; return the exit code."""
    explanation = explain(error)
    for line in explanation.lines:
        complain(line)
    return explanation.code if explanation.code in _WORST else ExitCode.FAILED


def _record(name: str, run: int | None, error: AiobatchError | None) -> dict[str, Any]:
    """Return how an audience's open run ended, as a record."""
    if error is not None:
        run = getattr(error, "run", None)
    outcome = Outcome.APPLIED if error is None else _OUTCOMES.get(type(error), Outcome.FAILED)
    text = None if error is None else explain(error).lines[0]
    return {"audience": name, "run": run, "outcome": outcome, "error": text}
