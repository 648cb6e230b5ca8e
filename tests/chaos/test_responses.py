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

from .chaos_env import APP, BRISK, Ground, ids, quick_sandbox
from .servers import faulty_server as front
from .servers.faulty_server import Front, Script, whole

PART = "A server that answers as no server should"


@attrs.frozen(kw_only=True)
class Vice:
    """A way to answer.

    Attributes:
        done: What is done, in words.
        script: How.
        kind: What a client raises where nothing else is answered.
        says: What that says.
    """

    done: str
    script: Script
    kind: type[AiobatchError] = TransportError
    says: str = "no readable response"


_HEAD = b"HTTP/1.1 200 OK\r\n"
_LARGER = "larger than 16777216 bytes. Check base_url"
VICES = {
    "reset": Vice(done="a reset in the middle of the body", script=front.reset_in_body),
    "empty": Vice(done="an empty reply", script=whole(b"", end=True)),
    "garbage": Vice(done="garbage in place of HTTP", script=whole(bytes(range(256)) * 8)),
    "flood": Vice(
        done="100 MB, announced by nothing", script=front.flood, kind=MalformedResponseError, says=_LARGER
    ),
    "announced": Vice(
        done="100 MB, announced", script=front.flood_announced, kind=MalformedResponseError, says=_LARGER
    ),
    "bomb": Vice(
        done="64 MB zipped into 64 kB", script=front.bomb, kind=MalformedResponseError, says=_LARGER
    ),
    "long": Vice(
        done="a Content-Length too long for the body",
        script=whole(_HEAD + b'Content-Length: 999\r\n\r\n{"name": "vip"}', end=True),
    ),
    "short": Vice(
        done="a Content-Length too short for the body",
        script=front.too_short,
        kind=AiobatchError,
        says="not JSON|no readable response",
    ),
    "head": Vice(done="a head that never ends", script=front.endless_head),
    "half": Vice(
        done="half of a body, as a 206", script=front.half, kind=MalformedResponseError, says="the body is"
    ),
    "none": Vice(
        done="204, without a body",
        script=whole(b"HTTP/1.1 204 No Content\r\n\r\n"),
        kind=MalformedResponseError,
        says="the body is empty",
    ),
    "old": Vice(
        done="HTTP/1.0, whose bodies end with the connection, or nothing",
        script=front.old,
        kind=AudienceNotFoundError,
        says="does not exist",
    ),
    "silence": Vice(
        done="nothing, ever",
        script=front.silence,
        kind=RequestTimeoutError,
        says="no complete response in time",
    ),
}
SHORT = ("flood", "short", "none", "old")


def _mark(name: str) -> pytest.MarkDecorator:
    return pytest.mark.fire(
        part=PART,
        done=f"{VICES[name].done}: to every third request, half of them carried out; then to all",
        holds="first exactly the source's members; then an error that says what came, after 3 tries at most",
        short=name in SHORT,
    )


@pytest.mark.parametrize("name", [pytest.param(name, marks=_mark(name)) for name in VICES])
async def test_answers(name: str, ground: Ground) -> None:
    """What can be had in spite of it is had, and what cannot is said in time."""
    vice, case = VICES[name], ground.case
    members = ids(case.size(2_500, 50_000))
    retry = attrs.evolve(BRISK["retry"], request_timeout=0.5 if name == "silence" else 10)
    async with quick_sandbox() as sandbox:
        async with (
            Front(sandbox.port, vice.script, lambda number: number % 3 == 1) as server,
            ground.client(server.url, retry=retry) as client,
        ):
            await ground.upload(client, members, "uploaded")
            report = await ground.sync(client, members, "synced", chunk_size=case.size(500, 5000))
            assert report.adds == len(members)
            case.count(client)
            case.tell(f"harmed: {server.harmed:,}, 0 of {2 * len(members):,} ids lost")
        for audience in ("uploaded", "synced"):
            assert set(sandbox.members(audience)) == set(members)
        few = RetryPolicy(attempts=3, initial=0.01, request_timeout=retry.request_timeout)
        async with (
            Front(sandbox.port, vice.script, lambda _: True) as server,
            ground.client(server.url, APP, retry=few) as client,
        ):
            with ground.expect(vice.kind, vice.says) as caught:
                await client.view("vip")
            assert getattr(caught.value, "attempts", None) == client.stats.requests <= 3


@pytest.mark.fire(
    part=PART,
    done="a redirect to another host, to every kind of call",
    holds="nothing goes to the other host, keys least of all; the error says why",
)
async def test_redirects(ground: Ground) -> None:
    """Keys travel nowhere but to the base_url."""
    async with (
        quick_sandbox() as sandbox,
        Front(sandbox.port, front.silence, lambda _: True) as other,
        Front(
            sandbox.port,
            whole(b"HTTP/1.1 307 Go\r\nLocation: %s/x\r\nContent-Length: 0\r\n\r\n" % other.url.encode()),
            lambda _: True,
        ) as server,
        ground.client(server.url, APP) as client,
    ):
        with ground.expect(ResponseError, "redirects are not followed"):
            await client.view("vip")
        for call in (client.create("vip"), client.update("vip", add=ids(3)), client.delete("vip")):
            (error,) = await asyncio.gather(call, return_exceptions=True)
            assert isinstance(error, ResponseError)
            ground.evidence.errors.append(error)
        assert other.requests == 0
        ground.case.count(client)
        ground.case.tell("requests at the other host: 0")
