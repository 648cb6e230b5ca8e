"""Creation of an audience, the one operation that is not safe to resend."""

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
    policy: RetryPolicy,
    clock: Clock,
    rng: random.Random,
) -> IndexingToken | None:
    """Create an audience. After an unknown outcome, look for it before sending the request again.

    Args:
        write: Sends the request, and retries it only if it had no effect.
        view: Views the audience.
        policy: How often and how soon to send it again.
        clock: The clock for delays.
        rng: The source of jitter.

    Returns:
        The token. None if the version has none, or if the response was lost and the audience exists.
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
    """Return whether the audience may exist although its creation failed."""
    if isinstance(error, InvalidRequestError):
        # An earlier attempt of unknown outcome may have created it, and Batch rejects a name that is taken.
        # In 2.x an audience becomes visible only once it is indexed, so one look is not enough.
        return attempt > 1
    # A 503 or a refused connection had no effect, and the transport has retried it.
    return not isinstance(error, ConnectError | MaintenanceError)


async def _exists(view: Callable[[], Awaitable[Audience]], failure: AiobatchError) -> bool:
    """Return whether the audience exists. Raise *failure* if the view fails."""
    try:
        await view()
    except AudienceNotFoundError:
        return False
    except AiobatchError as error:
        raise failure from error
    return True
