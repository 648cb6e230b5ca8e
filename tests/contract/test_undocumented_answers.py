from __future__ import annotations

import attrs
import pytest

from aiobatch import (
    AudienceClient,
    AudienceNotFoundError,
    AuthenticationError,
    ForbiddenError,
    IdType,
    IndexingState,
    Outcome,
    Project,
    ResponseError,
)
from aiobatch.sandbox import REST_API_KEY

from .stage import Answers, Stage, applied, create_applied

# Batch documents none of these answers, so the client must hold under each.
_WAYS: list[Answers] = [
    {"missing_audience": 404, "taken_name": 400, "unknown_project": 401, "delete_answer": "empty"},
    {"missing_audience": 400, "taken_name": 409, "unknown_project": 403, "delete_answer": "object"},
    {"missing_audience": 400, "taken_name": 400, "unknown_project": 401, "delete_answer": "nothing"},
    {"missing_audience": 404, "taken_name": 409, "unknown_project": 403, "delete_answer": "nothing"},
]


@pytest.fixture(params=_WAYS, ids=lambda way: "-".join(map(str, way.values())))
def answers(request: pytest.FixtureRequest) -> Answers:
    """One way to answer."""
    way: Answers = request.param
    return way


@pytest.fixture(params=[True], ids=["fake"])
def is_fake(request: pytest.FixtureRequest) -> bool:
    """No socket is needed, because only statuses and bodies differ."""
    return bool(request.param)


async def test_missing_audience_is_not_found(stage: Stage, client: AudienceClient) -> None:
    """A view and a delete of a missing audience raise AudienceNotFoundError, without a retry."""
    for call in (client.view, client.delete):
        before = stage.sandbox.request_count
        with pytest.raises(AudienceNotFoundError, match=r"Audience 'vip' does not exist\."):
            await call("vip")
        assert stage.sandbox.request_count == before + 1


async def test_missing_ok_skips_missing_audiences(client: AudienceClient) -> None:
    """view_many leaves out what does not exist."""
    await create_applied(client)
    views = client.view_many(["vip", "ghost1", "ghost2"], missing_ok=True)
    assert [audience.name async for audience in views] == ["vip"]


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("kind", ["lost", "truncated", "html200"])
async def test_create_after_a_lost_response_succeeds(stage: Stage, client: AudienceClient, kind: str) -> None:
    """The client finds its own audience, at once or once it is indexed."""
    stage.sandbox.fail_next(kind, operation="create")
    assert await client.create("vip") is None
    assert [audience.name for audience in stage.sandbox.audiences()] == ["vip"]


async def test_taken_name_is_an_error_unless_it_may_exist(stage: Stage, client: AudienceClient) -> None:
    """A create of an existing audience fails. With exist_ok it changes nothing."""
    await create_applied(client)
    with pytest.raises(ResponseError, match="name is taken") as caught:
        await client.create("vip", description="another")
    assert caught.value.status in {400, 409}
    assert await client.create("vip", description="another", exist_ok=True) is None
    assert stage.sandbox.audiences()[0].description is None


async def test_tokens_of_an_audience_that_is_being_created_are_applied(
    stage: Stage, client: AudienceClient
) -> None:
    """Until the creation is indexed, every token is pending, however the audience is missed."""
    created = await client.create("vip")
    token = await client.update("vip", add=["u1"])
    if stage.label == "2.x":
        assert await client.check(token) is IndexingState.IN_PROGRESS
    outcomes = {settled.outcome async for settled in client.settle(filter(None, [created, token]))}
    assert outcomes == {Outcome.APPLIED}
    assert stage.members().keys() == {"u1"}


async def test_delete_is_applied(stage: Stage, client: AudienceClient) -> None:
    """The answer of a delete may be empty, and its wait ends once the audience is missed."""
    await create_applied(client)
    before = stage.sandbox.operation_counts["delete"]
    token = await client.delete("vip")
    assert stage.sandbox.operation_counts["delete"] == before + 1
    if token is not None:
        assert (await client.await_applied(token)).nb_ids == 0
        assert await client.check(token) is IndexingState.APPLIED
    assert stage.sandbox.audiences() == ()


async def test_write_after_a_deletion_fails(client: AudienceClient) -> None:
    """Once the audience is gone, an update is refused, and the wait for an earlier token ends."""
    await create_applied(client)
    token = await client.update("vip", add=["u1"])
    await client.await_applied(token)
    if (gone := await client.delete("vip")) is not None:
        await client.await_applied(gone)
    with pytest.raises(ResponseError, match="does not exist"):
        await client.update("vip", add=["u2"])
    with pytest.raises(AudienceNotFoundError, match="does not exist"):
        await client.await_applied(token)


@pytest.mark.parametrize("label", ["2.x"])
async def test_unknown_project_is_refused_at_once(stage: Stage) -> None:
    """401 or 403 ends the request, and the error names what to check."""
    other = Project(rest_api_key=REST_API_KEY, project_key="wrong-project")
    async with stage.client(target=other) as client:
        with pytest.raises((AuthenticationError, ForbiddenError), match=r"failed: .*(Check|Ask)"):
            await client.view("vip")
    assert stage.sandbox.request_count == 1


@pytest.mark.parametrize("label", ["2.x"])
@pytest.mark.parametrize("id_type", [IdType.EMAILS, IdType.INSTALL_IDS])
async def test_project_holds_other_types_of_ids(
    stage: Stage, client: AudienceClient, id_type: IdType, caplog: pytest.LogCaptureFixture
) -> None:
    """A project sends e-mails and install IDs, with one warning that Batch decides."""
    await create_applied(client, id_type=id_type)
    await applied(client, client.update("vip", add=["a@example.com"], id_type=id_type))
    await applied(client, client.replace("vip", ["b@example.com"], id_type=id_type))
    assert (await client.view("vip")).id_type is id_type
    assert stage.members().keys() == {"b@example.com"}
    warnings = [record.getMessage() for record in caplog.records if "Batch decides" in record.getMessage()]
    assert warnings == [f"undocumented ID type, Batch decides on it: field=id_type details={id_type}"]


@pytest.mark.parametrize("label", ["2.x"])
async def test_type_that_batch_refuses_is_an_error(client: AudienceClient) -> None:
    """A project passes any type on, and Batch's refusal is the error."""
    with pytest.raises(ResponseError, match="type must be"):
        await client.create("vip", id_type=IdType("phone_numbers"))


@pytest.mark.parametrize("label", ["2.x"])
@pytest.mark.parametrize("version", ["2.0", "2.1", "2.13", "2.99"])
async def test_any_version_of_2_x_works(stage: Stage, version: str) -> None:
    """The number is a parameter: client and sandbox accept any 2.x."""
    async with stage.client(target=attrs.evolve(stage.target, version=version)) as client:
        await create_applied(client)
        await applied(client, client.update("vip", add=["u1"]))
        assert (await client.view("vip")).nb_ids == 1
