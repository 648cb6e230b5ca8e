from __future__ import annotations

import asyncio

import attrs
import pytest

from aiobatch import (
    AiobatchError,
    AudienceNotFoundError,
    MalformedResponseError,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    TransportError,
)

from .chaos_env import APP, FAST_POLICIES, ChaosEnv, ids, quick_sandbox
from .servers import faulty_server
from .servers.faulty_server import FaultyServer, Script, whole

PART = "Malformed and hostile responses"


@attrs.frozen(kw_only=True)
class FaultyResponse:
    """A malformed response.

    Attributes:
        done: Its description.
        script: The function that writes it.
        kind: The error of a client that receives nothing else.
        message: A pattern of its text.
    """

    done: str
    script: Script
    kind: type[AiobatchError] = TransportError
    message: str = "no readable response"


_HEAD = b"HTTP/1.1 200 OK\r\n"
_LARGER = "larger than 1048576 bytes. Check base_url"
FAULTY_RESPONSES = {
    "reset": FaultyResponse(done="a reset in the middle of the body", script=faulty_server.reset_in_body),
    "empty": FaultyResponse(done="an empty reply", script=whole(b"", end=True)),
    "garbage": FaultyResponse(done="garbage in place of HTTP", script=whole(bytes(range(256)) * 8)),
    "flood": FaultyResponse(
        done="100 MB without a Content-Length",
        script=faulty_server.flood,
        kind=MalformedResponseError,
        message=_LARGER,
    ),
    "announced": FaultyResponse(
        done="100 MB with a Content-Length",
        script=faulty_server.flood_announced,
        kind=MalformedResponseError,
        message=_LARGER,
    ),
    "bomb": FaultyResponse(
        done="64 MB zipped into 64 kB",
        script=faulty_server.bomb,
        kind=MalformedResponseError,
        message=_LARGER,
    ),
    "long": FaultyResponse(
        done="a Content-Length too long for the body",
        script=whole(_HEAD + b'Content-Length: 999\r\n\r\n{"name": "vip"}', end=True),
    ),
    "short": FaultyResponse(
        done="a Content-Length too short for the body",
        script=faulty_server.too_short,
        kind=AiobatchError,
        message="not JSON|no readable response",
    ),
    "head": FaultyResponse(done="endless header fields", script=faulty_server.endless_head),
    "half": FaultyResponse(
        done="half of the body with status 206",
        script=faulty_server.half,
        kind=MalformedResponseError,
        message="the body is",
    ),
    "none": FaultyResponse(
        done="status 204 without a body",
        script=whole(b"HTTP/1.1 204 No Content\r\n\r\n"),
        kind=MalformedResponseError,
        message="the body is empty",
    ),
    "old": FaultyResponse(
        done="HTTP/1.0 without a Content-Length, or no response",
        script=faulty_server.old,
        kind=AudienceNotFoundError,
        message="does not exist",
    ),
    "silence": FaultyResponse(
        done="no response at all",
        script=faulty_server.silence,
        kind=RequestTimeoutError,
        message="no complete response in time",
    ),
}
SHORT = ("flood", "short", "none", "old")


def _mark(name: str) -> pytest.MarkDecorator:
    return pytest.mark.chaos(
        part=PART,
        done=f"{FAULTY_RESPONSES[name].done}, for every third request (half of them processed), then for all",
        holds="first, exactly the source's members. Then a descriptive error after at most 3 tries",
        short=name in SHORT,
    )


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", [pytest.param(name, marks=_mark(name)) for name in FAULTY_RESPONSES])
async def test_malformed_responses_lose_nothing(name: str, chaos_env: ChaosEnv) -> None:
    """Calls succeed despite some malformed responses, and fail in time if all are malformed."""
    faulty, case = FAULTY_RESPONSES[name], chaos_env.case
    members = ids(case.size(2_500, 50_000))
    retry = attrs.evolve(FAST_POLICIES["retry"], request_timeout=0.5 if name == "silence" else 10)
    async with quick_sandbox() as sandbox:
        async with (
            FaultyServer(sandbox.port, faulty.script, lambda number: number % 3 == 1) as server,
            chaos_env.client(server.url, retry=retry) as client,
        ):
            await chaos_env.upload(client, members, "uploaded")
            report = await chaos_env.sync(client, members, "synced", chunk_size=case.size(500, 5000))
            assert report.adds == len(members)
            case.add_requests(client)
            case.add_fact(f"{server.faulty:,} malformed responses, 0 of {2 * len(members):,} IDs lost")
        for audience in ("uploaded", "synced"):
            assert set(sandbox.members(audience)) == set(members)
        few = RetryPolicy(attempts=3, initial=0.01, request_timeout=retry.request_timeout)
        async with (
            FaultyServer(sandbox.port, faulty.script, lambda _: True) as server,
            chaos_env.client(server.url, APP, retry=few) as client,
        ):
            with chaos_env.expect(faulty.kind, faulty.message) as caught:
                await client.view("vip")
            assert getattr(caught.value, "attempts", None) == client.stats.requests <= 3


@pytest.mark.chaos(
    part=PART,
    done="a redirect to another host for every kind of call",
    holds="the other host receives nothing. The error names the cause",
)
async def test_redirects_are_not_followed(chaos_env: ChaosEnv) -> None:
    """Keys are sent to the base_url only."""
    async with (
        quick_sandbox() as sandbox,
        FaultyServer(sandbox.port, faulty_server.silence, lambda _: True) as other,
        FaultyServer(
            sandbox.port,
            whole(b"HTTP/1.1 307 Go\r\nLocation: %s/x\r\nContent-Length: 0\r\n\r\n" % other.url.encode()),
            lambda _: True,
        ) as server,
        chaos_env.client(server.url, APP) as client,
    ):
        with chaos_env.expect(ResponseError, "redirects are not followed"):
            await client.view("vip")
        for call in (client.create("vip"), client.update("vip", add=ids(3)), client.delete("vip")):
            (error,) = await asyncio.gather(call, return_exceptions=True)
            assert isinstance(error, ResponseError)
            chaos_env.leak_search.errors.append(error)
        assert other.requests == 0
        chaos_env.case.add_requests(client)
        chaos_env.case.add_fact("0 requests at the other host")
