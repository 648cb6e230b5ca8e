"""Creation of an audience, the one operation that is not safe to resend."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from .._backoff import jittered_delays
from ..errors import (
    AiobatchError,
    AudienceNotFoundError,
    ConnectError,
    MaintenanceError,
    MalformedResponseError,
    ResponseError,
    ServerError,
    TransportError,
)
from ..errors._requests import after_earlier_attempts
from ..interfaces import Clock
from ..models import Audience, IndexingToken
from ..options import RetryPolicy

# BATCH_API.md, "Routes": the status for a name that is taken is not documented.
_NAME_TAKEN = frozenset({400, 409})
# A timeout, and a replay that came too early.
_UNKNOWN_EFFECT = frozenset({408, 425})
# Statuses that mean the same in a proxy's response.
_WITHOUT_EFFECT = frozenset({413, 429, 503})


async def create_once(
    write: Callable[[], Awaitable[IndexingToken | None]],
    view: Callable[[], Awaitable[Audience]],
    policy: RetryPolicy,
    clock: Clock,
    rng: random.Random,
    *,
    exist_ok: bool = False,
) -> IndexingToken | None:
    """Create an audience. After an unknown outcome, look for it before sending the request again.

    Args:
        write: Sends the request, and retries it only if it had no effect.
        view: Views the audience.
        policy: How often and how soon to send it again.
        clock: The clock for delays.
        rng: The source of jitter.
        exist_ok: Whether the audience may exist before.

    Returns:
        The token. None if the version has none, or if the audience exists before, or after a lost response.
    """
    delays = jittered_delays(policy.initial, policy.maximum, rng)
    attempt = 0
    failure: AiobatchError | None = None
    try:
        while True:
            attempt += 1
            try:
                return await write()
            except AiobatchError as error:
                if not _may_exist(error, is_expected=exist_ok or attempt > 1):
                    if attempt == 1:
                        raise
                    raise after_earlier_attempts(error) from None
                failure = error
            if await _exists(view, failure):
                return None
            if attempt == policy.attempts:
                raise failure
            await clock.sleep(next(delays))
    finally:
        del failure  # its traceback holds this frame


def _may_exist(error: AiobatchError, *, is_expected: bool) -> bool:
    """Return whether the audience may exist although its creation failed.

    Args:
        error: The failure.
        is_expected: Whether the name may be taken: by an earlier attempt of unknown outcome, or before.
    """
    if is_name_taken(error):
        # In 2.x an audience becomes visible only once it is indexed, so one look is not enough.
        return is_expected
    if isinstance(error, ResponseError) and (error.is_foreign or error.status in _UNKNOWN_EFFECT):
        return error.status not in _WITHOUT_EFFECT
    # A 503 or a refused connection had no effect, and the transport has retried it.
    may_have_effect = isinstance(error, ServerError | TransportError | MalformedResponseError)
    return may_have_effect and not isinstance(error, ConnectError | MaintenanceError)


def is_name_taken(error: Exception) -> bool:
    """Return whether Batch may have refused to create an audience because its name is taken."""
    return isinstance(error, ResponseError) and not error.is_foreign and error.status in _NAME_TAKEN


async def _exists(view: Callable[[], Awaitable[Audience]], failure: AiobatchError) -> bool:
    """Return whether the audience exists. Raise *failure* if the view fails."""
    try:
        await view()
    except AudienceNotFoundError:
        return False
    except AiobatchError as error:
        raise failure from error
    return True
