"""The `wait` command: wait until writes are applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..._client import AudienceClient
from ...errors import AiobatchError, IndexingTimeoutError, InvalidInputError
from ...models import IndexingToken, Outcome, Settled
from .._context import InjectedContext
from .._exit_codes import ExitCode
from ..inputs._credentials import open_client
from ..inputs._words import read_words
from ..options._common import TargetOptions, WaitOptions
from ..output._errors import explain, report_error, text_of
from ..output._messages import print_error
from ..output._progress import Progress
from ..output._tables import Column

__all__ = ["report_unapplied", "settle_tokens", "wait"]

_COLUMNS = (
    Column("audience", "audience"),
    Column("operation", "operation"),
    Column("outcome", "outcome"),
    Column("nb_ids", "IDs"),
    Column("token", "token"),
)
_SHOWN_ERRORS = 20
_TARGET = TargetOptions()
_WAIT = WaitOptions()


async def wait(
    *tokens: str, options: WaitOptions = _WAIT, target: TargetOptions = _TARGET, context: InjectedContext
) -> ExitCode:
    """Wait until tokens of earlier writes are APPLIED.

    Prints a line for each token as soon as its wait ends: audience, operation, outcome (APPLIED, REPLACED,
    TIMED_OUT or FAILED), IDs of the audience, token. You can always wait again.

    Example: `aiobatch update vip --add new.txt --no-wait | aiobatch wait -`

    Args:
        tokens: Tokens that update, replace, create and delete printed. `-` reads them from standard input.
    """
    parsed = await read_words(tokens, _parse)
    if not parsed:
        msg = "No token was given. The commands update, replace, create and delete print tokens."
        raise InvalidInputError(msg)
    with (
        context.output.rows(_COLUMNS) as add,
        context.progress(transient=True) as progress,
    ):
        async with open_client(target, progress.on_event) as client:
            settled = await settle_tokens(
                client, parsed, options.timeout, progress, lambda one: add(_record(one))
            )
    return report_unapplied(settled)


def _parse(text: str) -> IndexingToken:
    """Read a token. The library's own error is for programmers."""
    try:
        return IndexingToken.parse(text)
    except InvalidInputError:
        msg = (
            "Not a token. A token has the form audience:operation:value, as update, replace, create and "
            "delete print it."
        )
        raise InvalidInputError(msg) from None


def _record(settled: Settled) -> dict[str, Any]:
    """Return the result of a wait as a record."""
    return {
        "audience": settled.token.audience,
        "operation": str(settled.token.operation),
        "outcome": settled.outcome,
        "nb_ids": None if settled.audience is None else settled.audience.nb_ids,
        "token": str(settled.token),
        "error": None if settled.error is None else text_of(settled.error),
    }


async def settle_tokens(
    client: AudienceClient,
    tokens: Sequence[IndexingToken],
    timeout: float | None,
    progress: Progress,
    on_settled: Callable[[Settled], None],
) -> list[Settled]:
    """Wait for tokens and display the progress.

    Args:
        client: An open client.
        tokens: The tokens.
        timeout: Seconds to wait. None: no limit.
        progress: The display.
        on_settled: Called with the result of each token.

    Returns:
        The results in the order in which the waits ended.
    """
    results: list[Settled] = []
    with progress.stage("wait until APPLIED", unit="update", total=len(tokens)) as stage:
        async for settled in client.settle(tokens, timeout=timeout):
            results.append(settled)
            on_settled(settled)
            stage.advance(int(settled.error is None))
    return results


def report_unapplied(results: Sequence[Settled]) -> ExitCode:
    """Print an error for each token that is not APPLIED and return the most severe exit code."""
    errors = [settled.error for settled in results if settled.error is not None]
    late = [error for error in errors if isinstance(error, IndexingTimeoutError)]
    if len(late) > 1:
        errors = [error for error in errors if error not in late]
        print_error(
            f"{len(late)} updates were not APPLIED in time. Indexing continues at Batch. Run `aiobatch wait` "
            "with their tokens to wait again."
        )
    for error in errors[:_SHOWN_ERRORS]:
        report_error(error)
    if len(errors) > _SHOWN_ERRORS:
        print_error(f"{len(errors) - _SHOWN_ERRORS} more updates were not applied.")
    worst: dict[Outcome, AiobatchError] = {
        settled.outcome: settled.error for settled in results if settled.error is not None
    }
    for outcome in (Outcome.FAILED, Outcome.REPLACED, Outcome.TIMED_OUT):
        if outcome in worst:
            return explain(worst[outcome]).code
    return ExitCode.DONE
