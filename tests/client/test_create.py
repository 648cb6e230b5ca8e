from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import pytest

from aiobatch import AudienceClient
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
    ResponseError,
    ServerError,
    TransportError,
)
from aiobatch.models import Audience, IdType, IndexingToken, Operation
from aiobatch.options import Project, RetryPolicy
from aiobatch.testing import FakeClock, FakeTransport, json_response

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
    """Scripted responses with a counter."""

    def __init__(self, answers: Iterable[R | AiobatchError]) -> None:
        self._answers = list(answers)
        self.calls = 0

    async def __call__(self) -> Any:
        """Return or raise the next response."""
        answer = self._answers[self.calls]
        self.calls += 1
        if isinstance(answer, AiobatchError):
            raise answer
        return answer


class Creation:
    """One create, with scripted responses and views."""

    def __init__(self, writes: Iterable[Any], looks: Iterable[Any] = (), attempts: int = 3) -> None:
        self.write = Script(writes)
        self.look = Script(looks)
        self.clock = FakeClock()
        self.policy = RetryPolicy(attempts=attempts)

    async def run(self, *, exist_ok: bool = False) -> IndexingToken | None:
        """Run the create."""
        write: Callable[[], Awaitable[IndexingToken | None]] = self.write
        view: Callable[[], Awaitable[Audience]] = self.look
        return await create_once(
            write, view, policy=self.policy, clock=self.clock, rng=random.Random(1), exist_ok=exist_ok
        )

    @property
    def calls(self) -> tuple[int, int]:
        """Numbers of requests and of views."""
        return self.write.calls, self.look.calls


@pytest.mark.parametrize("token", [TOKEN, None])
async def test_token_is_returned(token: IndexingToken | None) -> None:
    """A readable response needs no look."""
    creation = Creation([token])

    assert await creation.run() == token
    assert creation.calls == (1, 0)


@pytest.mark.parametrize("failure", UNKNOWN, ids=repr)
async def test_existing_audience_is_not_created_again(failure: AiobatchError) -> None:
    """After an unknown outcome the audience is viewed, and not created again if it exists."""
    creation = Creation([failure], [AUDIENCE])

    assert await creation.run() is None
    assert creation.calls == (1, 1)
    assert creation.clock.monotonic() == 0


@pytest.mark.parametrize("failure", UNKNOWN, ids=repr)
async def test_missing_audience_is_created_again(failure: AiobatchError) -> None:
    """If the view finds no audience, the request is sent again, after a delay."""
    creation = Creation([failure, TOKEN], [MISSING])

    assert await creation.run() == TOKEN
    assert creation.calls == (2, 1)
    assert creation.clock.monotonic() > 0


async def test_attempts_are_limited() -> None:
    """The last failure is raised, after a last view."""
    creation = Creation([LOST, SLOW, BROKEN], [MISSING] * 3)

    with pytest.raises(ServerError):
        await creation.run()
    assert creation.calls == (3, 3)


@pytest.mark.parametrize("status", [400, 403, 404, 408, 409, 425])
async def test_answer_that_proves_nothing_is_followed_by_a_view(status: int) -> None:
    """A proxy's 4xx, a timeout and a replay that came too early leave open whether Batch got the request."""
    error = ResponseError("a page", status=status, is_foreign=status not in {408, 425}, **_FIELDS)

    assert await Creation([error], [AUDIENCE]).run() is None
    assert await Creation([error, TOKEN], [MISSING]).run() == TOKEN


async def test_last_attempt_is_followed_by_a_view() -> None:
    """An audience that the last attempt created is found."""
    creation = Creation([LOST, LOST], [MISSING, AUDIENCE], attempts=2)

    assert await creation.run() is None


async def test_rejected_first_attempt_is_raised() -> None:
    """A 400 to the first attempt is raised without a view."""
    creation = Creation([REFUSED])

    with pytest.raises(InvalidRequestError):
        await creation.run()
    assert creation.calls == (1, 0)


async def test_rejection_after_an_unknown_outcome_is_checked() -> None:
    """A 400 after an unknown outcome may mean that the audience exists but is not visible yet."""
    creation = Creation([LOST, REFUSED, REFUSED], [MISSING, MISSING, AUDIENCE])

    assert await creation.run() is None
    assert creation.calls == (3, 3)


async def test_repeated_rejection_is_raised() -> None:
    """A 400 that no view explains is raised in the end."""
    creation = Creation([LOST, REFUSED], [MISSING, MISSING], attempts=2)

    with pytest.raises(InvalidRequestError):
        await creation.run()


@pytest.mark.parametrize(
    "failure",
    [ConnectError("no connection"), MaintenanceError("down", status=503, **_FIELDS), DENIED],
    ids=repr,
)
async def test_failure_without_effect_is_raised(failure: AiobatchError) -> None:
    """The transport has already retried a failure that had no effect."""
    creation = Creation([failure])

    with pytest.raises(type(failure)):
        await creation.run()
    assert creation.calls == (1, 0)


async def test_failed_view_raises_the_original_failure() -> None:
    """If the view fails, the failure of the create is raised, with the view's as its cause."""
    creation = Creation([LOST], [DENIED])

    with pytest.raises(TransportError, match="the answer was lost") as caught:
        await creation.run()
    assert caught.value.__cause__ is DENIED


TAKEN = {
    "400": InvalidRequestError("the name is taken", status=400, **_FIELDS),
    "409": ResponseError("the name is taken", status=409, **_FIELDS),
}


@pytest.mark.parametrize("status", list(TAKEN))
@pytest.mark.parametrize("looks", [[AUDIENCE], [MISSING, AUDIENCE]])
async def test_existing_audience_is_accepted_on_request(status: str, looks: list[Any]) -> None:
    """With exist_ok a taken name is no failure, also if the audience is not visible at first."""
    creation = Creation([TAKEN[status]] * len(looks), looks)

    assert await creation.run(exist_ok=True) is None
    assert creation.calls == (len(looks), len(looks))


@pytest.mark.parametrize("status", list(TAKEN))
async def test_existing_audience_is_an_error_otherwise(status: str) -> None:
    """Without exist_ok a taken name is raised, and so is a rejection that no audience explains."""
    with pytest.raises(type(TAKEN[status])):
        await Creation([TAKEN[status]]).run()
    creation = Creation([TAKEN[status]] * 3, [MISSING] * 3)
    with pytest.raises(type(TAKEN[status])):
        await creation.run(exist_ok=True)
    assert creation.calls == (3, 3)


@pytest.mark.parametrize("status", list(TAKEN))
async def test_name_taken_after_a_lost_response(status: str) -> None:
    """A taken name after an unknown outcome is the audience that the first attempt created."""
    creation = Creation([LOST, TAKEN[status]], [MISSING, AUDIENCE])

    assert await creation.run() is None


async def test_new_audience_is_created_with_exist_ok() -> None:
    """If the name is free, exist_ok changes nothing."""
    assert await Creation([TOKEN]).run(exist_ok=True) == TOKEN


@pytest.mark.parametrize("status", [400, 409])
async def test_client_passes_exist_ok(status: int) -> None:
    """The client's create accepts an existing audience."""
    answers = {"POST": json_response(status, {}), "GET": json_response(200, {"name": "vip"})}
    transport = FakeTransport(lambda request: answers[request.method])
    async with AudienceClient(Project(rest_api_key="k", project_key="p"), transport=transport) as client:
        assert await client.create("vip", exist_ok=True) is None
        with pytest.raises(ResponseError):
            await client.create("vip")
