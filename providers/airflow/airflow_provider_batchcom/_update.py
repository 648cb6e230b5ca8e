"""A plain update of an audience, and the outcomes of tokens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from aiobatch import AudienceClient, InvalidInputError

from .hooks.batchcom import BatchcomHook

_APPLIED: Final = "APPLIED"
_REPLACED: Final = "REPLACED"


def send_update(hook: BatchcomHook, audience: str, *, add: Any, remove: Any) -> list[str]:
    """Send IDs, in as many requests as needed. Return the tokens as texts.

    Args:
        hook: The connection.
        audience: The audience's name.
        add: IDs to add.
        remove: IDs to remove.

    Raises:
        InvalidInputError: An argument is invalid.
        UploadError: Not all was sent.
    """
    to_add, to_remove = _to_ids(add, "add"), _to_ids(remove, "remove")
    if not to_add and not to_remove:
        msg = "add and remove have no IDs."
        raise InvalidInputError(msg)
    client = hook.get_client()

    async def send() -> list[str]:
        async with client:
            tokens = await client.upload(audience, add=to_add, remove=to_remove)
            return [str(token) for token in tokens]

    return asyncio.run(send())


def settle_here(hook: BatchcomHook, tokens: Iterable[str], timeout: float) -> dict[str, Any]:
    """Wait for tokens in this process. Return the event that the trigger would yield.

    Args:
        hook: The connection.
        tokens: Texts of tokens.
        timeout: Seconds for all of them.
    """
    client = hook.get_client()

    async def settle() -> dict[str, Any]:
        async with client:
            return await outcomes_of(client, tokens, timeout)

    return asyncio.run(settle())


async def outcomes_of(client: AudienceClient, tokens: Iterable[str], timeout: float) -> dict[str, Any]:
    """Wait for tokens. Return the number of them by outcome, and the first error's text.

    Args:
        client: An open client.
        tokens: Texts of tokens.
        timeout: Seconds for all of them.
    """
    outcomes: Counter[str] = Counter()
    error: str | None = None
    async for settled in client.settle(tokens, timeout=timeout):
        outcomes[str(settled.outcome)] += 1
        error = error or (None if settled.error is None else str(settled.error))
    return {"outcomes": dict(outcomes), "error": error}


def check_outcomes(event: Mapping[str, Any], *, tolerate: Collection[str] = ()) -> None:
    """Raise an exception of Airflow unless all tokens are APPLIED.

    Args:
        event: The trigger's event.
        tolerate: Outcomes to accept too.

    Raises:
        AirflowFailException: Another writer replaced the members.
        AirflowException: The wait timed out, or a token cannot be checked. A retry may fix it.
    """
    bad = [one for one in event["outcomes"] if one != _APPLIED and one not in tolerate]
    if bad:
        kind = AirflowFailException if _REPLACED in bad else AirflowException
        count = sum(event["outcomes"][one] for one in bad)
        msg = f"{count} tokens are not APPLIED ({', '.join(sorted(bad))}). {event['error'] or ''}".rstrip()
        raise kind(msg)


def _to_ids(value: Any, name: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        msg = f"{name} must be a list of IDs, not {type(value).__name__}."
        raise InvalidInputError(msg)
    return list(value)
