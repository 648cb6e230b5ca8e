from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.dialects import Dialect
from aiobatch.dialects._member_encoding import MemberRules, check_members, encode_replace, encode_update
from aiobatch.errors import InvalidInputError
from aiobatch.models import Member

RULES = MemberRules(api="API 9", attributes=True, tags=True)
BARE = MemberRules(api="API 9", attributes=False, tags=False)

ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
spiky_ids = st.text('",\\{}:[]\n\x1f\u2028é😀a', min_size=1, max_size=8)
attributes = st.dictionaries(
    ids.map("a{}".format),
    st.one_of(
        ids, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
    ),
    max_size=3,
)
members = st.builds(Member, ids, attributes=attributes, tags=st.lists(ids, max_size=3))
values = st.lists(st.one_of(ids, spiky_ids, members), min_size=1, max_size=30)


def reference(items: list[str | Member], action: str | None) -> list[dict[str, Any]]:
    """Return what a straightforward program sends. Of several values with one ID it keeps the last."""
    rows = {}
    for item in items:
        row: dict[str, Any] = {} if action is None else {"action": action}
        row["id"] = item.id if isinstance(item, Member) else item
        if isinstance(item, Member) and item.attributes:
            row["attributes"] = dict(item.attributes)
        if isinstance(item, Member) and item.tags:
            row["tags"] = list(item.tags)
        rows[row["id"]] = row
    return list(rows.values())


@given(st.one_of(st.lists(ids, min_size=1), st.lists(spiky_ids, min_size=1), values))
def test_replace_is_encoded_like_the_reference(items: list[str | Member]) -> None:
    """Any list of IDs and Members is encoded byte for byte as the reference encodes it."""
    assert b"[" + encode_replace(items, RULES) + b"]" == orjson.dumps(reference(items, None))


@given(st.one_of(st.lists(spiky_ids), values), st.lists(st.one_of(ids, spiky_ids)))
def test_update_is_encoded_like_the_reference(add: list[str | Member], remove: list[str]) -> None:
    """Any disjoint lists are encoded as the adds followed by the removes."""
    added = {item.id if isinstance(item, Member) else item for item in add}
    gone: list[str | Member] = [item for item in remove if item not in added]
    if add or gone:
        expected = orjson.dumps(reference(add, "add") + reference(gone, "remove"))
        assert b"[" + encode_update(add, gone, RULES) + b"]" == expected


@given(
    st.lists(
        ids | spiky_ids | members, min_size=2, max_size=30, unique_by=lambda item: getattr(item, "id", item)
    )
)
def test_distinct_changes_nothing_for_distinct_ids(items: list[str | Member]) -> None:
    """If no two values have the same ID, `distinct` does not change the result."""
    half = len(items) // 2
    add, remove = items[half:], [item if isinstance(item, str) else item.id for item in items[:half]]

    assert encode_update(add, remove, RULES, distinct=True) == encode_update(add, remove, RULES)


def test_last_value_of_an_id_is_sent() -> None:
    """Of several values with one ID, the last is sent."""
    items: list[str | Member] = [Member("u1", tags=["old"]), "u2", Member("u1", tags=["new"]), "u2"]

    assert orjson.loads(b"[" + encode_replace(items, RULES) + b"]") == [
        {"id": "u1", "tags": ["new"]},
        {"id": "u2"},
    ]
    assert encode_replace(["u1", "u2", "u1"], RULES) == b'{"id":"u1"},{"id":"u2"}'


def test_attributes_and_tags_have_batchs_form() -> None:
    """Attributes and tags are encoded in Batch's form."""
    member = Member(
        "u1",
        attributes={
            "date(signed_up)": dt.datetime(2023, 8, 12, 22, 30, 5, tzinfo=dt.UTC),
            "url(avatar)": "https://example.com/a.png",
            "ages": [1, 2],
        },
        tags=["vip"],
    )

    assert orjson.loads(encode_update([member], [], RULES)) == {
        "action": "add",
        "id": "u1",
        "attributes": {
            "date(signed_up)": "2023-08-12T22:30:05Z",
            "url(avatar)": "https://example.com/a.png",
            "ages": [1, 2],
        },
        "tags": ["vip"],
    }


def test_subclasses_of_str_and_float_are_encoded() -> None:
    """Subclasses of str and float, such as NumPy's, are encoded as strings and numbers."""

    class Real(float):
        pass

    class Name(enum.StrEnum):
        AGE = "age"

    member = Member(Name.AGE, attributes={Name.AGE: Real(1.5), "list": [Real(2.5)]})

    assert encode_replace([member], RULES) == b'{"id":"age","attributes":{"age":1.5,"list":[2.5]}}'
    assert encode_replace([Name.AGE], RULES) == b'{"id":"age"}'


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, dict.fromkeys(["u1"]).keys])
def test_any_collection_is_accepted(kind: Callable[..., Any]) -> None:
    """Lists, tuples, sets and views are accepted."""
    given_ids = kind(["u1"]) if isinstance(kind, type) else kind()

    assert encode_update(given_ids, [], RULES) == b'{"action":"add","id":"u1"}'


@pytest.mark.parametrize("bad", ["u1", b"u1", bytearray(b"u1"), Member("u1")], ids=type)
def test_one_id_is_no_list(bad: Any) -> None:
    """A bare ID instead of a list is rejected, not split into characters."""
    with pytest.raises(
        InvalidInputError, match=r"add must be a list of IDs, not one .*\. Pass add=\[id\]"
    ) as caught:
        encode_update(bad, [], RULES)
    assert "u1" not in str(caught.value)


@pytest.mark.parametrize("bad", [None, 5, iter(["u1"]), (name for name in ["u1"]), {"u1": 1}])
def test_stream_mapping_and_number_are_no_list(bad: Any) -> None:
    """A stream, a mapping or a number is rejected."""
    with pytest.raises(InvalidInputError, match=r"remove must be a list of IDs, not \w+\. Pass remove=list"):
        encode_update([], bad, RULES)


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ("", "must not be empty"),
        (7, "must be a string, not int"),
        (None, "must be a string, not None"),
        (b"u1", "must be a string, not bytes"),
        (["u1"], "must be a string, not list"),
        ("x" * 1025, "at most 1,024 characters, not 1,025"),
        ("a\0b", "NUL"),
        ("a\ud800", "lone surrogate"),
    ],
)
@pytest.mark.parametrize("others", [["u1", "u2"], ["u1", Member("u2")]])
def test_invalid_id_is_named_by_its_place(bad: Any, what: str, others: list[Any]) -> None:
    """The error for an invalid ID gives its place in the caller's argument, not its value."""
    with pytest.raises(InvalidInputError, match=rf"^add\[2\]: .*{what}"):
        encode_update([*others, bad], [], RULES)
    with pytest.raises(InvalidInputError, match=rf"^remove\[2\]: .*{what}"):
        encode_update([], [*others, bad, "u4"], RULES)
    with pytest.raises(InvalidInputError, match=rf"^members\[2\]: .*{what}"):
        encode_replace([*others, bad], RULES)
    with pytest.raises(InvalidInputError, match=rf"^add\[10002\]: .*{what}"):
        check_members(RULES, [*others, bad], "add", 10_000)


@given(values, st.integers(0, 10**9))
def test_valid_ids_are_accepted(items: list[str | Member], start: int) -> None:
    """Any list of valid IDs is accepted, also the longest ID."""
    check_members(RULES, [*items, "x" * 1024], "add", start)


def test_check_accepts_an_empty_list() -> None:
    """Checking a list does not check whether a request would be empty."""
    check_members(RULES, [], "add")


def test_request_needs_an_id() -> None:
    """A request without IDs is rejected."""
    with pytest.raises(InvalidInputError, match="Pass at least one ID in add or remove"):
        encode_update([], [], RULES)
    with pytest.raises(InvalidInputError, match="Pass at least one ID, or delete the audience"):
        encode_replace([], RULES)


def test_request_has_at_most_10_000_ids() -> None:
    """A request accepts 10,000 actions, adds and removes together, and rejects 10,001."""
    many = [f"u{number}" for number in range(10_000)]

    assert encode_update(many[1:], many[:1], RULES).count(b'"id"') == 10_000
    with pytest.raises(InvalidInputError, match=r"10,001 IDs .* accepts 10,000.*upload\(\)"):
        encode_update(many, ["u"], RULES)
    with pytest.raises(InvalidInputError, match="10,001 IDs"):
        encode_replace([*many, "u"], RULES)


@pytest.mark.parametrize(
    ("add", "remove"),
    [
        (["u0", "u1"], ["u7", "u8", "u1"]),
        ([Member("u0"), Member("u1")], ["u7", "u8", "u1"]),
        (["u0", "u1"], ["u7", Member("u8"), Member("u1")]),
    ],
)
def test_id_in_add_and_remove_is_rejected(add: list[str | Member], remove: list[str | Member]) -> None:
    """The error for an ID in both lists gives its places, not the ID."""
    with pytest.raises(InvalidInputError, match=r"^add\[1\] and remove\[2\] are the same ID") as caught:
        encode_update(add, remove, RULES)
    assert "u1" not in str(caught.value)


def test_unsupported_attributes_and_tags_are_rejected() -> None:
    """A version without attributes or tags rejects them and names the member's place."""
    with pytest.raises(InvalidInputError, match=r"^add\[1\]: API 9 accepts no attributes"):
        encode_update(["u0", Member("u1", attributes={"age": 1})], [], BARE)
    with pytest.raises(InvalidInputError, match=r"^members\[0\]: API 9 accepts no tags"):
        encode_replace([Member("u1", tags=["vip"])], BARE)


@pytest.mark.parametrize("member", [Member("u1", attributes={"age": 1}), Member("u1", tags=["vip"])])
def test_removes_have_no_attributes_or_tags(member: Member) -> None:
    """No version accepts attributes or tags with an ID to remove."""
    with pytest.raises(InvalidInputError, match=r"^remove\[1\]: .*Pass the ID alone"):
        encode_update([], ["u0", member], RULES)


def test_member_without_attributes_is_an_id() -> None:
    """A Member without attributes and tags is the same as its ID, in add and in remove."""
    assert encode_update([Member("u1")], [Member("u2")], BARE) == (
        b'{"action":"add","id":"u1"},{"action":"remove","id":"u2"}'
    )


def test_dialect_checks_members_by_its_rules(v10: Dialect, v2: Dialect) -> None:
    """A dialect checks part of a long list by its version's rules, with places in the whole list."""
    rich = ["u0", Member("u1", attributes={"age": 1})]

    v2.check_members(rich, "add", 10_000)
    with pytest.raises(
        InvalidInputError, match=r"^add\[10001\]: Custom Audience API 1.0 accepts no attributes"
    ):
        v10.check_members(rich, "add", 10_000)
    with pytest.raises(InvalidInputError, match=r"^remove\[10001\]: .*Pass the ID alone"):
        v2.check_members(rich, "remove", 10_000)
    with pytest.raises(InvalidInputError, match=r"^add\[7\]: .*must not be empty"):
        v2.check_members([""], "add", 7)
