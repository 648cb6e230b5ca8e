"""Creation of an audience that does not exist yet."""

from __future__ import annotations

from ..._client import is_name_taken
from ...errors import AudienceNotFoundError, IndexingTimeoutError, ResponseError
from ...models import Audience
from .._errors import NotAppliedError
from ._context import RunContext

# Seconds between two looks at an audience that a killed run may have created, and seconds to look for it.
_PAUSE = 1.0
_PATIENCE = 60.0


async def create_audience(context: RunContext) -> Audience | None:
    """Create the run's audience and wait until it accepts members.

    Args:
        context: The run's.

    Returns:
        The audience in Batch, whose creation time identifies it. None if Batch does not show it yet.

    Raises:
        NotAppliedError: The audience was created, but it is not ready in time.
        AiobatchError: Batch refused, or could not be reached.
    """
    client, options, name = context.client, context.options, context.audience
    try:
        token = await client.create(name, description=options.description, id_type=options.id_type)
    except ResponseError as error:
        # In 2.x an audience becomes visible only once it is indexed. A killed run may have created it.
        if not is_name_taken(error) or not await _appears(context):
            raise
        return await _view(context)
    try:
        if token is not None:
            await client.await_applied(token, timeout=options.timeout)
    except IndexingTimeoutError as error:
        msg = "it was created, but it is not ready in time. No IDs were sent. Run again to continue."
        raise NotAppliedError(msg, audience=name) from error
    return await _view(context)


async def _view(context: RunContext) -> Audience | None:
    try:
        return await context.client.view(context.audience)
    except AudienceNotFoundError:
        return None


async def _appears(context: RunContext) -> bool:
    deadline = context.clock.monotonic() + _PATIENCE
    while True:
        if await _view(context) is not None:
            return True
        if context.clock.monotonic() >= deadline:
            return False
        await context.clock.sleep(_PAUSE)
