"""Wait until writes are applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..._client import AudienceClient
from ...errors import AiobatchError, IndexingTimeoutError, InvalidInputError
from ...models import IndexingToken, Outcome, Settled
from .._context import InjectedContext
from .._exit_codes import ExitCode
from ..inputs._credentials import open_client
from ..inputs._id_files import read_words
from ..options._common import TargetOptions, WaitOptions
from ..output._command_hints import command
from ..output._errors import explain, report_error, text_of
from ..output._messages import print_error
from ..output._progress import Progress
from ..output._tables import Column

__all__ = ["report_unapplied", "settle", "wait"]

_COLUMNS = (
    Column("audience", "audience"),
    Column("operation", "operation"),
    Column("outcome", "outcome"),
    Column("nb_ids", "ids"),
    Column("token", "token"),
)
_SHOWN = 20
_TARGET = TargetOptions()
_WAIT = WaitOptions()


async def wait(
    *tokens: str,
    options: WaitOptions = _WAIT,
    state: Annotated[Path | None, Parameter(metavar="[FILE]")] = None,
    target: TargetOptions = _TARGET,
    context: InjectedContext,
) -> ExitCode:
    """Wait until tokens of earlier writes are APPLIED.

    A line appears for each token as soon as its wait ends: audience, operation, outcome (APPLIED, REPLACED,
    TIMED_OUT or FAILED), ids of the audience, token. With --state it is a line for each audience whose last
    run was left open: audience, run, outcome. Waiting again is always possible.

    Example: `aiobatch update vip --add new.txt --no-wait | aiobatch wait -`

    Example: `aiobatch sync vip users.parquet --no-wait && aiobatch wait vip --state`

    Args:
        tokens: What update, replace, create and delete printed; `-` reads them from standard input. With
            --state, names of audiences.
        state: Wait for the runs of this state file. Default: your own.
    """
    if state is not None:
        from ._settle import settle_audiences  # noqa: PLC0415 - tokens are waited for without the engine

        return await settle_audiences(tokens, state, options.timeout, target, context)
    wanted = await read_words(tokens, _parse)
    if not wanted:
        msg = "no token was given; update, replace, create and delete print them"
        raise InvalidInputError(msg)
    with (
        context.output.rows(_COLUMNS) as add,
        context.progress(transient=True) as progress,
    ):
        async with open_client(target, progress.on_event) as client:
            ended = await settle(client, wanted, options.timeout, progress, lambda one: add(_record(one)))
    return report_unapplied(ended)


def _parse(text: str) -> IndexingToken:
    """Read a token; the library's own error speaks to programmers."""
    try:
        return IndexingToken.parse(text)
    except InvalidInputError:
        msg = "not a token: audience:operation:value, as update, replace, create and delete print it"
        raise InvalidInputError(msg) from None


def _record(settled: Settled) -> dict[str, Any]:
    """Return how a wait ended, as a record."""
    return {
        "audience": settled.token.audience,
        "operation": str(settled.token.operation),
        "outcome": settled.outcome,
        "nb_ids": None if settled.audience is None else settled.audience.nb_ids,
        "token": str(settled.token),
        "error": None if settled.error is None else text_of(settled.error),
    }


async def settle(
    client: AudienceClient,
    tokens: Sequence[IndexingToken],
    timeout: float | None,
    progress: Progress,
    each: Callable[[Settled], None],
) -> list[Settled]:
    """Wait for tokens behind a bar.

    Args:
        client: Asks.
        tokens: What to wait for.
        timeout: Seconds at most; None for ever.
        progress: Where the bar is.
        each: Called with each token whose wait ended.

    Returns:
        How each wait ended.
    """
    ended: list[Settled] = []
    with progress.stage("wait until APPLIED", unit="update", total=len(tokens)) as stage:
        async for settled in client.settle(tokens, timeout=timeout):
            ended.append(settled)
            each(settled)
            stage.advance(int(settled.error is None))
    return ended


def report_unapplied(ended: Sequence[Settled]) -> ExitCode:
    """Say what did not become APPLIED; return the exit code."""
    failed = [settled.error for settled in ended if settled.error is not None]
    late = [error for error in failed if isinstance(error, IndexingTimeoutError)]
    if len(late) > 1:
        failed = [error for error in failed if error not in late]
        print_error(
            f"{len(late)} updates were not APPLIED in time; they go on at Batch, "
            f"and {command('wait')} goes on waiting for their tokens"
        )
    for error in failed[:_SHOWN]:
        report_error(error)
    if len(failed) > _SHOWN:
        print_error(f"… and {len(failed) - _SHOWN} more updates were not applied")
    return _worst(ended)


def _worst(ended: Sequence[Settled]) -> ExitCode:
    """Return the code of what weighs most: a failure, somebody else's replace, a time that was too short."""
    errors: dict[Outcome, AiobatchError] = {
        settled.outcome: settled.error for settled in ended if settled.error is not None
    }
    for outcome in (Outcome.FAILED, Outcome.REPLACED, Outcome.TIMED_OUT):
        if outcome in errors:
            return explain(errors[outcome]).code
    return ExitCode.DONE
