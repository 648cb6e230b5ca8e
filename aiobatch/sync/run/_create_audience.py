"""Makes an audience that is to be made, and waits until it is there."""

from __future__ import annotations

from ..._client import AudienceClient
from ..._clock import Clock
from ...errors import AudienceNotFoundError, IndexingTimeoutError, InvalidRequestError
from .._errors import NotAppliedError
from .._options import SyncOptions

# Seconds between two looks, and all of them, at an audience that a killed run may have asked for.
_PAUSE = 1.0
_PATIENCE = 60.0


async def create_audience(client: AudienceClient, name: str, options: SyncOptions, clock: Clock) -> None:
    """Make an audience and wait until it takes members.

    Args:
        client: Makes it.
        name: Its name.
        options: Its description, the type of its ids, and how long to wait.
        clock: Tells the time and sleeps.

    Raises:
        NotAppliedError: It is not there in time.
        AiobatchError: Batch refused, or cannot be asked.
    """
    try:
        token = await client.create(name, description=options.description, id_type=options.id_type)
    except InvalidRequestError:
        # In 2.x an audience shows only once it is indexed: a run that was killed may have asked for it.
        if not await _appears(client, name, clock):
            raise
        return
    try:
        if token is not None:
            await client.await_applied(token, timeout=options.timeout)
    except IndexingTimeoutError as error:
        msg = "it was created and is not there in time; nothing else was sent, run again to go on"
        raise NotAppliedError(msg, audience=name) from error


async def _appears(client: AudienceClient, name: str, clock: Clock) -> bool:
    """Look for a while whether an audience shows."""
    deadline = clock.monotonic() + _PATIENCE
    while True:
        try:
            await client.view(name)
        except AudienceNotFoundError:
            if clock.monotonic() >= deadline:
                return False
        else:
            return True
        await clock.sleep(_PAUSE)
