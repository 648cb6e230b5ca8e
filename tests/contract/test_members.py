from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from aiobatch import AudienceClient, IdType, Member
from aiobatch.models import AttributeInput
from aiobatch.sandbox import SandboxMember

from .stage import Stage, applied, create_applied

ATTRIBUTES: dict[str, AttributeInput] = {
    "age": 42,
    "score": 0.5,
    "vip": True,
    "name": 'Zoë \N{SNOWMAN} "quoted" \\ and\nlines',
    "langs": ["fr", "en"],
    "date(signed_up)": dt.datetime(2023, 8, 13, 0, 30, 5, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    "url(avatar)": "https://example.com/a?b=c",
}
RECEIVED = ATTRIBUTES | {"date(signed_up)": "2023-08-12T22:30:05Z"}


@pytest.mark.parametrize("label", ["1.1", "2.x"])
@pytest.mark.parametrize("way", ["update", "replace", "upload"])
async def test_attributes_and_tags_arrive_unchanged(stage: Stage, client: AudienceClient, way: str) -> None:
    """Values keep their types, a datetime has Batch's format, and only 1.1 takes tags."""
    await create_applied(client)
    tags = ("gold", "ça va") if stage.label == "1.1" else ()
    members: list[str | Member] = [
        Member("u1", attributes=ATTRIBUTES, tags=tags),
        "plain",
        Member("u2", attributes={"age": 1}),
    ]
    if way == "update":
        await applied(client, client.update("vip", add=members))
    elif way == "replace":
        await applied(client, client.replace("vip", members))
    else:
        await client.await_applied((await client.upload("vip", add=iter(members)))[0])
    assert stage.members() == {
        "u1": SandboxMember(attributes=RECEIVED, tags=tags),
        "plain": SandboxMember(),
        "u2": SandboxMember(attributes={"age": 1}),
    }


@pytest.mark.parametrize("label", ["1.1", "2.x"])
async def test_later_add_replaces_attributes(stage: Stage, client: AudienceClient) -> None:
    """The last add of an ID counts, also within one request."""
    await create_applied(client)
    await applied(client, client.update("vip", add=[Member("u1", attributes={"age": 1})]))
    await applied(
        client,
        client.update("vip", add=[Member("u1", attributes={"age": 2}), Member("u1", attributes={"age": 3})]),
    )
    assert stage.members()["u1"].attributes == {"age": 3}


@pytest.mark.parametrize("label", ["1.0"])
async def test_advertising_ids_go_to_1_0(stage: Stage, client: AudienceClient) -> None:
    """The type is sent with every write, and comes back with the audience."""
    kind = IdType.ADVERTISING_IDS
    ids = [str(uuid.UUID(int=number)) for number in range(1, 4)]
    await create_applied(client, id_type=kind)
    await applied(client, client.update("vip", add=ids[:2], id_type=kind))
    await applied(client, client.replace("vip", ids[:1], id_type=kind))
    (token,) = await client.upload("vip", add=ids[2:], id_type=kind)
    audience = await client.await_applied(token)
    assert (audience.id_type, audience.nb_ids) == (kind, 2)
    assert stage.members().keys() == {ids[0], ids[2]}


async def test_ids_arrive_unchanged(stage: Stage, client: AudienceClient) -> None:
    """IDs may contain any character that JSON has to escape."""
    ids = ['"', "\\", "a/b", "é", "\N{GRINNING FACE}", " ", "\n", "\x7f", "x" * 1024, "%2F", "</script>"]
    await create_applied(client)
    await applied(client, client.update("vip", add=ids))
    assert list(stage.members()) == ids


def numbered(prefix: str, count: int) -> list[str]:
    """Return IDs."""
    return [f"{prefix}{number}" for number in range(count)]


async def stream(ids: list[str]) -> AsyncIterator[str]:
    """Yield IDs asynchronously."""
    for member_id in ids:
        yield member_id


def lazily(ids: list[str]) -> Iterator[str]:
    """Yield IDs once."""
    yield from ids


@pytest.mark.sample(7)
@pytest.mark.parametrize("style", ["list", "generator", "async generator"])
async def test_upload_of_many_ids_ends_exact(stage: Stage, client: AudienceClient, style: str) -> None:
    """25,123 actions in three chunks mix adds and removes, and some IDs occur again."""
    await create_applied(client)
    gone, kept = numbered("gone", 10_123), numbered("kept", 7)
    tokens = await client.upload("vip", add=[*kept, *gone])
    assert [settled.error async for settled in client.settle(tokens)] == [None, None]
    # The same IDs come again in a later chunk.
    new = [*numbered("new", 14_000), *numbered("new", 1_000)]
    before = stage.sandbox.operation_counts["update"]
    accepted: list[int] = []
    if style == "list":
        tokens = await client.upload("vip", add=new, remove=gone, on_progress=accepted.append)
    elif style == "generator":
        tokens = await client.upload("vip", add=lazily(new), remove=lazily(gone), on_progress=accepted.append)
    else:
        tokens = await client.upload("vip", add=stream(new), remove=stream(gone), on_progress=accepted.append)
    assert stage.sandbox.operation_counts["update"] - before == len(tokens) == 3
    assert sorted(accepted) == accepted
    assert accepted[-1] == 25_123
    assert {settled.outcome for settled in [s async for s in client.settle(tokens)]} == {"APPLIED"}
    assert stage.members().keys() == {*numbered("new", 14_000), *kept}


async def test_upload_survives_temporary_failures(stage: Stage, client: AudienceClient) -> None:
    """Failed chunks are sent again, and an ID that was added twice is a member once."""
    await create_applied(client)
    for kind in ("503", "lost", "reset", "truncated", "html200", "500", "429-bare"):
        stage.sandbox.fail_next(kind, operation="update")
    ids = numbered("u", 30_001)
    tokens = await client.upload("vip", add=lazily(ids))
    assert len(tokens) == 4
    assert {settled.outcome for settled in [s async for s in client.settle(tokens)]} == {"APPLIED"}
    assert stage.members().keys() == set(ids)


async def test_id_in_two_chunks_is_never_in_flight_twice(stage: Stage, client: AudienceClient) -> None:
    """The later of two actions on an ID wins, however many chunks are in flight."""
    await create_applied(client)
    ids = numbered("u", 20_000)
    again = ids[::4]
    tokens = await client.upload("vip", add=lazily(ids), remove=lazily(again))
    assert {settled.outcome for settled in [s async for s in client.settle(tokens)]} == {"APPLIED"}
    assert stage.members().keys() == set(ids) - set(again)
