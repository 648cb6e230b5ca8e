from __future__ import annotations

import io
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from aiobatch import AudienceClient, IdType, InvalidInputError, Member, UploadError
from aiobatch.interfaces import Request, Response
from aiobatch.testing import FakeTransport, json_response

from .rejections import PRIVATE, TARGETS, Call, message_of, stream

IDS: Mapping[str, tuple[Any, str]] = {
    "empty": ("", "must not be empty"),
    "number": (5, "must be a string, not int"),
    "none": (None, "must be a string, not None"),
    "bytes": (PRIVATE.encode(), "must be a string, not bytes"),
    "float": (math.nan, "must be a string, not float"),
    "list": ([PRIVATE], "must be a string, not list"),
    "dict": ({"id": PRIVATE}, "must be a string, not dict"),
    "too long": (PRIVATE + "x" * 1010, "at most 1,024 characters, not 1,025"),
    "nul": (PRIVATE + "\0", "must not contain a NUL character"),
    "surrogate": (PRIVATE + "\ud800", "must be valid Unicode"),
}
LOCATIONS: Mapping[str, Callable[[AudienceClient, Any], Awaitable[object]]] = {
    "add[1]": lambda client, value: client.update("vip", add=["u1", value], remove=["u3"]),
    "remove[2]": lambda client, value: client.update("vip", add=["u0"], remove=["u1", "u2", value]),
    "members[1]": lambda client, value: client.replace("vip", ["u1", value]),
    "add[10001]": lambda client, value: client.upload(
        "vip", add=[*map(str, range(10_001)), value], remove=["x"]
    ),
    "remove[10001]": lambda client, value: client.upload(
        "vip", add=["x"], remove=[*map(str, range(10_001)), value]
    ),
}


@pytest.mark.parametrize("location", list(LOCATIONS))
@pytest.mark.parametrize("kind", list(IDS))
async def test_invalid_id_sends_nothing(offline_client: AudienceClient, kind: str, location: str) -> None:
    """The message contains the location of an invalid ID and never its value."""
    value, text = IDS[kind]
    with pytest.raises(InvalidInputError, match=text) as caught:
        await LOCATIONS[location](offline_client, value)
    assert message_of(caught).startswith(f"{location}: an ID ")


@pytest.mark.parametrize("kind", [kind for kind in IDS if kind != "list"])
async def test_member_rejects_an_invalid_id(kind: str) -> None:
    """A Member checks its ID when it is created."""
    value, text = IDS[kind]
    with pytest.raises(InvalidInputError, match=f"Member.id: .*{text}") as caught:
        Member(value)
    message_of(caught)


def _token(request: Request) -> Response:
    return json_response(202, {"indexing_token": f"t{len(request.body)}"})


@pytest.mark.parametrize("style", [iter, stream])
@pytest.mark.parametrize("name", ["add", "remove"])
async def test_invalid_id_far_into_a_stream(style: Callable[[list[Any]], Any], name: str) -> None:
    """The chunks before it are sent and reported, and the location is the position in the stream."""
    ids: list[Any] = [*map(str, range(20_005)), PRIVATE + "\0", "last"]
    transport = FakeTransport(_token)
    async with AudienceClient(TARGETS["2.x"], transport=transport) as client:
        with pytest.raises(UploadError, match="Not accepted") as caught:
            await client.upload("vip", **{name: style(ids)})
    error = caught.value
    assert isinstance(error.__cause__, InvalidInputError)
    assert str(error.__cause__).startswith(f"{name}[20005]: an ID must not contain a NUL")
    assert PRIVATE not in str(error.__cause__) + str(error)
    assert error.not_sent == ((name, range(20_000, 20_007)),)
    assert len(error.tokens) == len(transport.requests) == 2


@pytest.mark.parametrize("style", [iter, stream])
async def test_id_in_both_streams_of_an_upload(style: Callable[[list[Any]], Any]) -> None:
    """If both occurrences are in one chunk, the error contains the position in the stream."""
    add, remove = [f"u{number}" for number in range(10_005)], ["x", "u10003"]
    transport = FakeTransport(_token)
    async with AudienceClient(TARGETS["2.x"], transport=transport) as client:
        with pytest.raises(UploadError) as caught:
            await client.upload("vip", add=style(add), remove=style(remove))
    assert str(caught.value.__cause__).startswith("add[10003] is also in remove")
    assert len(transport.requests) == 1


LISTS: Mapping[str, tuple[Call, str]] = {
    "10,001 ids": (
        lambda c: c.update("vip", add=map(str, range(6000)), remove=map(str, range(6000, 10_001))),
        "10,001 IDs.*(?i:upload)",
    ),
    "10,001 members": (
        lambda c: c.replace("vip", [str(number) for number in range(10_001)]),
        "10,001 IDs.*(?i:upload)",
    ),
    "an id in both lists": (
        lambda c: c.update("vip", add=["u1", PRIVATE], remove=["u3", "u4", PRIVATE]),
        r"add\[1\].*remove\[2\]",
    ),
    "a member in both lists": (
        lambda c: c.update("vip", add=["u1", Member(PRIVATE)], remove=[Member(PRIVATE)]),
        r"add\[1\].*remove\[0\]",
    ),
    "an id in both lists of an upload": (
        lambda c: c.upload("vip", add=["u1", PRIVATE], remove=[PRIVATE]),
        r"add\[1\].*remove",
    ),
    "no ids": (lambda c: c.update("vip"), "(?i)(no ids|at least one id)"),
    "empty lists": (lambda c: c.update("vip", add=[], remove=iter(())), "(?i)(no ids|at least one id)"),
    "no members": (lambda c: c.replace("vip", []), "(?i)(no ids|at least one id)"),
}


@pytest.mark.parametrize("case", list(LISTS))
async def test_invalid_lists_send_nothing(offline_client: AudienceClient, case: str) -> None:
    """Too many IDs, no IDs, and an ID in both lists are rejected."""
    call, text = LISTS[case]
    with pytest.raises(InvalidInputError, match=text) as caught:
        await call(offline_client)
    message_of(caught)


NO_LIST: Mapping[str, Any] = {
    "str": PRIVATE,
    "bytes": PRIVATE.encode(),
    "Member": Member(PRIVATE),
    "int": 5,
    "NoneType": None,
}
FIELDS = [
    ("update", "add"),
    ("update", "remove"),
    ("replace", "members"),
    ("upload", "add"),
    ("upload", "remove"),
]


@pytest.mark.parametrize("kind", list(NO_LIST))
@pytest.mark.parametrize(("method", "field"), FIELDS)
async def test_single_value_is_not_a_list_of_ids(
    offline_client: AudienceClient, method: str, field: str, kind: str
) -> None:
    """The letters of a string are not IDs, and the message shows how to write a single ID."""
    text = rf'{field} must be (a list|an iterable) of IDs, not {kind}.*{field}=\["…"\]'
    with pytest.raises(InvalidInputError, match=text) as caught:
        await getattr(offline_client, method)("vip", **{field: NO_LIST[kind]})
    message_of(caught)


@pytest.mark.parametrize(("method", "field"), FIELDS)
async def test_lines_of_a_file_are_not_ids(offline_client: AudienceClient, method: str, field: str) -> None:
    """A line ends in a newline, which would become a part of the ID."""
    with pytest.raises(InvalidInputError, match=r"not a file.*strip\(\)") as caught:
        await getattr(offline_client, method)("vip", **{field: io.StringIO(f"{PRIVATE}\nu2\n")})
    message_of(caught)


async def test_update_rejects_an_async_iterable(offline_client: AudienceClient) -> None:
    """Only `upload` takes asynchronous iterables."""
    with pytest.raises(InvalidInputError, match="add must be a list of IDs, not async_generator"):
        await offline_client.update("vip", add=stream(["u1"]))  # type: ignore[arg-type]  # the mistake tested


@pytest.mark.parametrize("method", ["update", "replace"])
async def test_endless_iterator_is_read_to_the_limit_only(
    offline_client: AudienceClient, method: str
) -> None:
    """One ID beyond the limit of a request is enough to reject an iterator."""
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for taken in itertools.count(1):
            yield f"u{taken}"

    field = "add" if method == "update" else "members"
    with pytest.raises(InvalidInputError, match=r"more than 10,000 IDs.*upload\(\)"):
        await getattr(offline_client, method)("vip", **{field: endless()})
    assert taken == 10_001


TAGGED, RATED = Member("u2", tags=["gold"]), Member("u2", attributes={"age": 5})


@pytest.mark.parametrize(
    ("version", "member", "text"),
    [
        ("1.0", TAGGED, r"add\[1\].*1\.0.*tags"),
        ("2.x", TAGGED, r"add\[1\].*2\.11.*tags"),
        ("1.0", RATED, r"add\[1\].*1\.0.*attributes"),
    ],
)
async def test_unsupported_attributes_and_tags_send_nothing(
    offline_client: AudienceClient, member: Member, text: str
) -> None:
    """The message contains the location, and the versions that support attributes or tags."""
    with pytest.raises(InvalidInputError, match=text):
        await offline_client.update("vip", add=["u1", member])
    with pytest.raises(InvalidInputError, match=text.replace("add", "members")):
        await offline_client.replace("vip", ["u1", member])


@pytest.mark.parametrize("version", ["1.1"])
@pytest.mark.parametrize("member", [TAGGED, RATED])
async def test_removed_ids_have_no_attributes_or_tags(offline_client: AudienceClient, member: Member) -> None:
    """Attributes and tags are only for IDs to add."""
    with pytest.raises(InvalidInputError, match=r"remove\[0\].*attributes"):
        await offline_client.update("vip", remove=[member])


@pytest.mark.parametrize(
    ("version", "id_type", "text"),
    [
        ("1.0", IdType.INSTALL_IDS, r"1\.0.*custom_ids and advertising_ids, not install_ids.*1\.1"),
        ("1.1", IdType.CUSTOM_IDS, r"1\.1.*install_ids, not custom_ids.*1\.0.*Project"),
        ("1.1", IdType.ADVERTISING_IDS, r"1\.1.*install_ids, not advertising_ids.*1\.0"),
        ("1.0", "emails", r"1\.0.*custom_ids and advertising_ids, not emails.*Project"),
        ("2.x", "", "id_type must be a name such as"),
        ("2.x", 5, "id_type must be an IdType"),
    ],
)
@pytest.mark.parametrize("method", ["create", "update", "replace", "upload"])
async def test_unsupported_id_type_sends_nothing(
    offline_client: AudienceClient, method: str, id_type: Any, text: str
) -> None:
    """The message contains the version that supports the type."""
    calls: Mapping[str, Call] = {
        "create": lambda c: c.create("vip", id_type=id_type),
        "update": lambda c: c.update("vip", add=["u1"], id_type=id_type),
        "replace": lambda c: c.replace("vip", ["u1"], id_type=id_type),
        "upload": lambda c: c.upload("vip", add=["u1"], id_type=id_type),
    }
    with pytest.raises(InvalidInputError, match=text):
        await calls[method](offline_client)


async def _progress(_: int) -> None:
    """Take a number that no one awaits."""


@pytest.mark.parametrize("on_progress", [5, PRIVATE, _progress])
async def test_invalid_progress_hook_sends_nothing(offline_client: AudienceClient, on_progress: Any) -> None:
    """The hook is checked before the first chunk is sent."""
    with pytest.raises(InvalidInputError, match="on_progress must be a ") as caught:
        await offline_client.upload("vip", add=["u1"], on_progress=on_progress)
    message_of(caught)


async def test_one_iterator_for_both_sends_nothing(offline_client: AudienceClient) -> None:
    """The IDs would all be added, and none removed."""
    ids = iter(["u1"])
    with pytest.raises(InvalidInputError, match="are the same iterator"):
        await offline_client.update("vip", add=ids, remove=ids)
    both = stream(["u1"])
    with pytest.raises(InvalidInputError, match="are the same iterator"):
        await offline_client.upload("vip", add=both, remove=both)
