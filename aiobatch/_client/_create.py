"""Creating an audience: the one operation that may not simply be sent again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from .._backoff import jittered_delays
from .._clock import Clock
from ..errors import (
    AiobatchError,
    AudienceNotFoundError,
    ConnectError,
    InvalidRequestError,
    MaintenanceError,
    MalformedResponseError,
    ServerError,
    TransportError,
)
from ..models import Audience, IndexingToken
from ..options import RetryPolicy


async def create_once(
    write: Callable[[], Awaitable[IndexingToken | None]],
    view: Callable[[], Awaitable[Audience]],
    *,
    policy: RetryPolicy,
    clock: Clock,
    rng: random.Random,
) -> IndexingToken | None:
    """Create an audience; after an unknown outcome look whether it is there before asking again.

    Args:
        write: Asks for the audience once, or as often as it surely has no effect.
        view: Looks at it.
        policy: How often to ask, and how soon again.
        clock: The clock to sleep by.
        rng: The source of jitter.

    Returns:
        The token; None where the version answers none, or where the answer was lost and the audience is
        there.
    """
    delays = jittered_delays(policy.initial, policy.maximum, rng)
    attempt = 0
    failure: AiobatchError | None = None
    try:
        while True:
            attempt += 1
            try:
                return await write()
            except (ServerError, TransportError, MalformedResponseError, InvalidRequestError) as error:
                if not _may_exist(error, attempt):
                    raise
                failure = error
            if await _exists(view, failure):
                return None
            if attempt == policy.attempts:
                raise failure
            await clock.sleep(next(delays))
    finally:
        del failure  # its traceback holds this frame


def _may_exist(error: AiobatchError, attempt: int) -> bool:
    """Tell whether the audience may be there although asking for it failed."""
    if isinstance(error, InvalidRequestError):
        # Refused after a try of unknown outcome: because that one had created it? In 2.x a created audience
        # shows only once it is indexed, so one look is not enough.
        return attempt > 1
    # A 503 or a refused connection had no effect, and was retried.
    return not isinstance(error, ConnectError | MaintenanceError)


async def _exists(view: Callable[[], Awaitable[Audience]], failure: AiobatchError) -> bool:
    """Tell whether the audience is there; where that cannot be seen, *failure* stands."""
    try:
        await view()
    except AudienceNotFoundError:
        return False
    except AiobatchError as error:
        raise failure from error
    return True
