from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator

import pytest

from aiobatch import (
    App,
    AudienceClient,
    AudienceNotFoundError,
    AuthenticationError,
    IndexingState,
    InvalidRequestError,
    Operation,
    Project,
    ViewManyError,
)
from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY

from .stage import Stage, applied, create_applied, populate


async def test_audience_lives_from_create_to_delete(stage: Stage, client: AudienceClient) -> None:
    """An audience is created, viewed and deleted. 1.x has no tokens for it and applies both at once."""
    token = await client.create("vip", description="Our best")
    if token is not None:
        assert (token.audience, token.operation) == ("vip", Operation.CREATE)
        await client.await_applied(token)
        statuses = [request.status for request in stage.sandbox.requests]
        # Over a socket, a busy machine may send the first poll after the audience exists.
        assert 404 in statuses or not stage.is_fake
    assert (token is None) == (stage.label != "2.x")
    audience = await client.view("vip")
    assert isinstance(audience.created, type(audience.updated))
    assert (audience.name, audience.id_type, audience.description, audience.nb_ids) == (
        "vip",
        stage.id_type,
        "Our best",
        0,
    )
    gone = await client.delete("vip")
    if gone is not None:
        assert (await client.await_applied(gone)).nb_ids == 0
    with pytest.raises(AudienceNotFoundError, match=r"Audience 'vip' does not exist"):
        await client.view("vip")
    assert stage.sandbox.audiences() == ()


async def test_update_and_replace_are_one_request_each(stage: Stage, client: AudienceClient) -> None:
    """Each token ends APPLIED, and the members are the ones that were sent."""
    await create_applied(client)
    before = stage.sandbox.request_count
    token = await client.update("vip", add=["u1", "u2", "u3"])
    assert stage.sandbox.request_count == before + 1
    audience = await client.await_applied(token)
    assert (audience.nb_ids, audience.indexing_state) == (3, IndexingState.APPLIED)
    await applied(client, client.update("vip", add=["u4"], remove=["u1", "nobody"]))
    assert stage.members().keys() == {"u2", "u3", "u4"}
    before = stage.sandbox.request_count
    token = await client.replace("vip", ["u9"])
    assert stage.sandbox.request_count == before + 1
    await client.await_applied(token)
    assert stage.members().keys() == {"u9"}


async def test_view_shows_the_state_of_the_last_update(stage: Stage, client: AudienceClient) -> None:
    """A view shows IN_PROGRESS until the update is applied."""
    await create_applied(client)
    stage.time.halt()
    token = await client.update("vip", add=["u1"])
    assert (await client.view("vip")).indexing_state is IndexingState.IN_PROGRESS
    stage.time.go_on()
    await client.await_applied(token)
    assert (await client.view("vip")).indexing_state is IndexingState.APPLIED


async def test_list_yields_every_page(stage: Stage, client: AudienceClient) -> None:
    """250 audiences take three requests, come once each, and have a state if the API lists states."""
    names = await populate(stage, client, 250)
    listed = [audience async for audience in client.list_audiences()]
    assert stage.sandbox.operation_counts["list"] == 3
    assert {audience.name for audience in listed} == set(names)
    assert len(listed) == 250
    states = {audience.indexing_state for audience in listed}
    assert states == ({IndexingState.APPLIED} if stage.label == "2.x" else {None})


async def test_audience_created_during_the_listing_repeats_none(stage: Stage, client: AudienceClient) -> None:
    """Offsets shift and cursors do not, but each audience is yielded once."""
    names = await populate(stage, client, 150)
    listed: list[str] = []
    async for audience in client.list_audiences():
        if not listed:
            await create_applied(client, "newcomer")
        listed.append(audience.name)
    assert len(listed) == len(set(listed))
    assert set(listed) - {"newcomer"} == set(names)


@pytest.mark.sample(5)
@pytest.mark.parametrize(("missing_ok", "style"), [(True, "list"), (False, "async")])
async def test_view_many_yields_all_that_exist(
    stage: Stage, client: AudienceClient, missing_ok: bool, style: str
) -> None:
    """Missing audiences are left out, or are named together after the last one."""
    names = await populate(stage, client, 250)
    wanted = [*names[:100], *(f"ghost{number}" for number in range(50)), *names[100:]]

    async def stream() -> AsyncIterator[str]:
        for name in wanted:
            await asyncio.sleep(0)
            yield name

    arrived: collections.Counter[str] = collections.Counter()
    error: ViewManyError | None = None
    try:
        views = client.view_many(
            wanted if style == "list" else stream(), missing_ok=missing_ok, concurrency=20
        )
        async for audience in views:
            arrived[audience.name] += 1
    except ViewManyError as failure:
        error = failure
    assert arrived == collections.Counter(names)
    if missing_ok:
        assert error is None
    else:
        assert error is not None
        assert error.errors.keys() == {f"ghost{number}" for number in range(50)}
        assert {type(failure) for failure in error.errors.values()} == {AudienceNotFoundError}


async def test_broken_view_loses_no_other(stage: Stage, client: AudienceClient) -> None:
    """A view that keeps failing is named, and the other audiences are yielded."""
    names = await populate(stage, client, 10)
    views = stage.client(target=client_target_with_wrong_keys(stage))
    async with views:
        with pytest.raises(ViewManyError) as caught:
            _ = [audience async for audience in views.view_many(names)]
    assert caught.value.errors.keys() == set(names)
    assert len([audience async for audience in client.view_many(names)]) == 10


def client_target_with_wrong_keys(stage: Stage) -> App | Project:
    """Return the stage's target with an unknown REST key."""
    if stage.label == "2.x":
        return Project(rest_api_key="wrong-rest-key", project_key=PROJECT_KEY)
    return App(rest_api_key="wrong-rest-key", api_key=API_KEY, version=stage.label)


async def test_wrong_keys_fail_without_a_retry(stage: Stage) -> None:
    """401 ends the request, and the error names what to check."""
    other: App | Project = Project(rest_api_key=REST_API_KEY, project_key="wrong-project")
    if stage.label != "2.x":
        other = App(rest_api_key=REST_API_KEY, api_key="wrong-app", version=stage.label)
    for target in (client_target_with_wrong_keys(stage), other):
        before = stage.sandbox.request_count
        async with stage.client(target=target) as client:
            with pytest.raises(AuthenticationError, match=r"View of audience 'vip' failed.*Check") as caught:
                await client.view("vip")
        assert stage.sandbox.request_count == before + 1
        assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("kind", ["lost", "truncated", "html200", "slow"])
@pytest.mark.parametrize("delay", [0])
async def test_create_after_a_lost_response_finds_its_audience(
    stage: Stage, client: AudienceClient, kind: str
) -> None:
    """The client looks before it repeats the request, and returns no token."""
    stage.sandbox.fail_next(kind, operation="create")
    token = await client.create("vip")
    if kind != "slow":
        assert token is None
        assert stage.operations() == ["create", "view"]
    assert len(stage.sandbox.audiences()) == 1


@pytest.mark.parametrize("kind", ["reset", "500", "502", "504", "html"])
async def test_create_that_never_arrived_is_repeated_after_a_look(
    stage: Stage, client: AudienceClient, kind: str
) -> None:
    """If the client does not find the audience, it sends the request again."""
    stage.sandbox.fail_next(kind, operation="create")
    token = await client.create("vip")
    assert stage.operations() == ["create", "view", "create"]
    if token is not None:
        await client.await_applied(token)
    assert len(stage.sandbox.audiences()) == 1


@pytest.mark.parametrize("kind", ["503", "429", "429-bare"])
async def test_create_that_was_refused_for_now_is_repeated_without_a_look(
    stage: Stage, client: AudienceClient, kind: str
) -> None:
    """A 429 or 503 certainly had no effect."""
    stage.sandbox.fail_next(kind, operation="create")
    await client.create("vip")
    assert stage.operations() == ["create", "create"]


@pytest.mark.parametrize("delay", [2])
async def test_create_whose_lost_response_takes_effect_late_is_found(
    stage: Stage, client: AudienceClient
) -> None:
    """2.x shows the audience later, and until then the name is taken."""
    stage.sandbox.fail_next("lost", operation="create")
    assert await client.create("vip") is None
    assert len(stage.sandbox.audiences()) == 1


async def test_create_of_an_existing_audience_fails(stage: Stage, client: AudienceClient) -> None:
    """If the first attempt is refused, the error is raised."""
    await create_applied(client)
    with pytest.raises(InvalidRequestError, match="name is taken"):
        await client.create("vip")
