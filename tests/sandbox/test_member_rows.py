from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.sandbox import SandboxMember
from aiobatch.sandbox._member_rows import check_refused_ids, read_changes, read_members
from aiobatch.sandbox._request_checks import ApiError

from .conftest import added, removed

ALL = frozenset({"attributes", "tags"})
NONE: frozenset[str] = frozenset()

actions = st.tuples(st.sampled_from(["add", "remove"]), st.text("abc", min_size=1, max_size=2))


def refusal(rows: Any, extras: frozenset[str] = ALL) -> str:
    """Return why an update is refused."""
    with pytest.raises(ApiError) as caught:
        read_changes(rows, extras)
    assert (caught.value.status, caught.value.code) in ((400, 30), (400, 31))
    return caught.value.message


@given(st.lists(actions, min_size=1, max_size=30), st.integers(0, 30))
def test_last_action_on_an_id_counts(rows: list[tuple[str, str]], place: int) -> None:
    """Rows are read alike by column and one by one. Attributes anywhere cause the latter."""
    expected = {member_id: SandboxMember() if action == "add" else None for action, member_id in rows}
    plain: list[dict[str, Any]] = [{"action": action, "id": member_id} for action, member_id in rows]
    assert read_changes(plain, NONE) == expected
    plain.insert(place, {"action": "add", "id": "other", "attributes": {"a": 1}})
    assert read_changes(plain, ALL) == expected | {"other": SandboxMember(attributes={"a": 1})}


@given(st.lists(st.text("abc", min_size=1, max_size=2), min_size=1, max_size=30))
def test_repeated_ids_of_a_replace_count_once(ids: list[str]) -> None:
    """An ID may be repeated. Empty attributes are the same as none."""
    assert read_members([{"id": member_id} for member_id in ids], NONE) == dict.fromkeys(ids, SandboxMember())
    rows = [{"id": member_id, "attributes": {}, "tags": []} for member_id in ids]
    assert read_members(rows, ALL) == dict.fromkeys(ids, SandboxMember())


def test_request_has_at_most_10_000_ids() -> None:
    """10,001 IDs are refused, whatever their actions."""
    rows = added(*map(str, range(6_000))) + removed(*map(str, range(4_000)))
    assert len(read_changes(rows, NONE)) == 6_000
    assert refusal([*rows, *added("one more")]) == "ids must be an array of 1 to 10000 elements"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "ids must be an array of 1 to 10000 elements"),
        ("u1", "ids must be an array of 1 to 10000 elements"),
        ([], "ids must be an array of 1 to 10000 elements"),
        ([*added("u1"), "u2"], "ids[1] must be an object"),
        ([*added("u1"), ["action", "id"]], "ids[1] must be an object"),
        ([{"id": "u1"}], "ids[0].action is missing"),
        ([{"action": "add"}], "ids[0].id is missing"),
        (
            [{"action": "add", "member": "u1"}],
            "ids[0] may have only action, attributes, id, tags here",
        ),
        ([{"action": "add", "id": ""}], "ids[0].id must be a non-empty string"),
        ([{"action": "add", "id": 5}], "ids[0].id must be a non-empty string"),
        ([{"action": "remove", "id": None}], "ids[0].id must be a non-empty string"),
        ([*added("u1"), {"action": "delete", "id": "u2"}], "ids[1].action must be add or remove"),
        ([{"action": ["add"], "id": "u1"}], "ids[0].action must be add or remove"),
        (
            [{"action": "remove", "id": "u1", "attributes": {}}],
            "ids[0] may have only action, id here",
        ),
        (
            [{"action": "add", "id": "u1", "tags": "a"}],
            "ids[0].tags must be an array of non-empty strings",
        ),
        (
            [{"action": "add", "id": "u1", "tags": [""]}],
            "ids[0].tags must be an array of non-empty strings",
        ),
        (
            [{"action": "add", "id": "u1", "tags": [1]}],
            "ids[0].tags must be an array of non-empty strings",
        ),
        (
            [{"action": "add", "id": "u1", "attributes": []}],
            "ids[0].attributes must be an object of at most 15 attributes",
        ),
        (
            [{"action": "add", "id": "u1", "attributes": {str(number): 1 for number in range(16)}}],
            "ids[0].attributes must be an object of at most 15 attributes",
        ),
    ],
)
def test_error_of_a_row_has_its_place(rows: Any, message: str) -> None:
    """The error for a malformed row gives its place and the rule."""
    assert refusal(rows) == message


def test_version_without_attributes_refuses_them() -> None:
    """1.0 refuses attributes."""
    rows = [{"action": "add", "id": "u1", "attributes": {"a": 1}}]
    assert refusal(rows, NONE) == "ids[0] may have only action, id here"


@pytest.mark.parametrize("row", [{"id": "u1", "action": "add"}, {"id": ""}, "u1", {"ids": "u1"}])
def test_malformed_row_of_a_replace_is_refused(row: Any) -> None:
    """A row of a replace has no action."""
    with pytest.raises(ApiError, match=r"ids\[0\]"):
        read_members([row], ALL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("age", 30),
        ("ratio", 0.5),
        ("vip", True),
        ("city", ""),
        ("cities", ["Paris", "Lyon"]),
        ("date(signed_up)", "2023-08-12T22:30:05Z"),
        ("date(signed_up)", "2023-08-12T22:30:05.123+02:00"),
        ("url(avatar)", "https://example.org/a.png"),
    ],
)
def test_valid_attributes_are_accepted(name: str, value: Any) -> None:
    """Strings, numbers, booleans and arrays are accepted. The name declares dates and URLs."""
    row = {"action": "add", "id": "u1", "attributes": {name: value}}
    assert read_changes([row], ALL) == {"u1": SandboxMember(attributes={name: value})}


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("", 1, "be named NAME"),
        ("time(x)", 1, "be named NAME"),
        ("date()", "2023-08-12T22:30:05Z", "be named NAME"),
        ("age", None, "be a string, a number, a boolean or an array"),
        ("age", {"years": 30}, "be a string, a number, a boolean or an array"),
        ("cities", ["Paris", None], "be an array of strings, numbers and booleans only"),
        ("date(x)", 5, "be a date"),
        ("date(x)", "2023-08-12", "be a date"),
        ("date(x)", "2023-02-30T22:30:05Z", "be a date"),
        ("url(x)", 5, "be an http or https URL"),
        ("url(x)", "ftp://example.org", "be an http or https URL"),
        ("url(x)", "https://", "be an http or https URL"),
        ("url(x)", "https://[", "be an http or https URL"),
    ],
)
def test_error_of_an_attribute_has_its_place(name: str, value: Any, wrong: str) -> None:
    """The error for a malformed attribute gives its place and the rule."""
    message = refusal([*added("u1"), {"action": "add", "id": "u2", "attributes": {"a": 1, name: value}}])
    assert message.startswith(f"ids[1].attributes[1] must {wrong}")


def test_refused_ids_are_malformed() -> None:
    """A valid row with a refused ID is malformed. The error gives its place."""
    rows = added("a", "b", "c")
    check_refused_ids(rows, frozenset())
    check_refused_ids(rows, frozenset({"d"}))
    with pytest.raises(ApiError) as caught:
        check_refused_ids(rows, frozenset({"c", "b"}))
    assert (caught.value.status, caught.value.code) == (400, 31)
    assert caught.value.message == "ids[1].id is refused"
