from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import pytest

from aiobatch._client._create import create_once
from aiobatch.errors import (
    AiobatchError,
    AudienceNotFoundError,
    AuthenticationError,
    ConnectError,
    InvalidRequestError,
    MaintenanceError,
    MalformedResponseError,
    RequestTimeoutError,
    ServerError,
    TransportError,
)
from aiobatch.models import Audience, IdType, IndexingToken, Operation
from aiobatch.options import RetryPolicy
from aiobatch.testing import FakeClock

TOKEN = IndexingToken("vip", "t1", Operation.CREATE)
AUDIENCE = Audience(name="vip", id_type=IdType.CUSTOM_IDS)
_FIELDS: dict[str, Any] = {"method": "POST", "path": "/"}

LOST = TransportError("the answer was lost")
SLOW = RequestTimeoutError("no answer in time")
BROKEN = ServerError("broken", status=500, **_FIELDS)
GARBLED = MalformedResponseError("half an answer")
REFUSED = InvalidRequestError("the name is taken", status=400, **_FIELDS)
MISSING = AudienceNotFoundError("no such audience", status=404, **_FIELDS)
DENIED = AuthenticationError("a key is wrong", status=401, **_FIELDS)
UNKNOWN = [LOST, SLOW, BROKEN, GARBLED]

R = TypeVar("R")


class Script:
    """Answers from a script, and counts."""

    def __init__(self, answers: Iterable[R | AiobatchError]) -> None:
        self._answers = list(answers)
        self.calls = 0

    async def __call__(self) -> Any:
        """Return or raise the next answer."""
        answer = self._answers[self.calls]
        self.calls += 1
        if isinstance(answer, AiobatchError):
            raise answer
        return answer


class Creation:
    """One creation, its answers and looks coming from scripts."""

    def __init__(self, writes: Iterable[Any], looks: Iterable[Any] = (), attempts: int = 3) -> None:
        self.write = Script(writes)
        self.look = Script(looks)
        self.clock = FakeClock()
        self.policy = RetryPolicy(attempts=attempts)

    async def run(self) -> IndexingToken | None:
        """Create."""
        write: Callable[[], Awaitable[IndexingToken | None]] = self.write
        view: Callable[[], Awaitable[Audience]] = self.look
        return await create_once(write, view, policy=self.policy, clock=self.clock, rng=random.Random(1))

    @property
    def calls(self) -> tuple[int, int]:
        """How often was asked for, and looked at, the audience."""
        return self.write.calls, self.look.calls


@pytest.mark.parametrize("token", [TOKEN, None])
async def test_answer_is_returned(token: IndexingToken | None) -> None:
    """What was answered needs no look."""
    creation = Creation([token])

    assert await creation.run() == token
    assert creation.calls == (1, 0)


@pytest.mark.parametrize("failure", UNKNOWN, ids=repr)
async def test_lost_answer_is_made_up_for_by_a_look(failure: AiobatchError) -> None:
    """After an unknown outcome the audience is looked for, and not asked for again when it is there."""
    creation = Creation([failure], [AUDIENCE])

    assert await creation.run() is None
    assert creation.calls == (1, 1)
    assert creation.clock.monotonic() == 0


@pytest.mark.parametrize("failure", UNKNOWN, ids=repr)
async def test_what_is_not_there_is_asked_for_again(failure: AiobatchError) -> None:
    """When the look finds nothing, the audience is asked for again, after a delay."""
    creation = Creation([failure, TOKEN], [MISSING])

    assert await creation.run() == TOKEN
    assert creation.calls == (2, 1)
    assert creation.clock.monotonic() > 0


async def test_tries_are_counted() -> None:
    """The last failure is raised, after a last look."""
    creation = Creation([LOST, SLOW, BROKEN], [MISSING] * 3)

    with pytest.raises(ServerError):
        await creation.run()
    assert creation.calls == (3, 3)


async def test_last_try_is_looked_after_too() -> None:
    """An audience that the last try created is found."""
    creation = Creation([LOST, LOST], [MISSING, AUDIENCE], attempts=2)

    assert await creation.run() is None


async def test_refusal_of_the_first_try_stands() -> None:
    """A 400 to the first try is the caller's mistake, or somebody else's audience: nothing is looked for."""
    creation = Creation([REFUSED])

    with pytest.raises(InvalidRequestError):
        await creation.run()
    assert creation.calls == (1, 0)


async def test_refusal_after_a_lost_answer_may_mean_that_it_is_there() -> None:
    """A 400 after an unknown outcome is looked into, and again: what was created may show late."""
    creation = Creation([LOST, REFUSED, REFUSED], [MISSING, MISSING, AUDIENCE])

    assert await creation.run() is None
    assert creation.calls == (3, 3)


async def test_refusal_that_stays_is_raised() -> None:
    """A 400 that no look explains is raised in the end."""
    creation = Creation([LOST, REFUSED], [MISSING, MISSING], attempts=2)

    with pytest.raises(InvalidRequestError):
        await creation.run()


@pytest.mark.parametrize(
    "failure",
    [ConnectError("no connection"), MaintenanceError("down", status=503, **_FIELDS), DENIED],
    ids=repr,
)
async def test_what_had_no_effect_is_raised_at_once(failure: AiobatchError) -> None:
    """A failure that surely had no effect was retried before it came here."""
    creation = Creation([failure])

    with pytest.raises(type(failure)):
        await creation.run()
    assert creation.calls == (1, 0)


async def test_look_that_fails_leaves_the_outcome_unknown() -> None:
    """Where the look fails, the failure of the creation stands, and the look's is its cause."""
    creation = Creation([LOST], [DENIED])

    with pytest.raises(TransportError, match="the answer was lost") as caught:
        await creation.run()
    assert caught.value.__cause__ is DENIED
