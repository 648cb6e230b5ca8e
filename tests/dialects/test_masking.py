from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.dialects import Dialect, dialect_for
from aiobatch.dialects._masking import MASK, clean, mask_members
from aiobatch.errors import InvalidRequestError
from aiobatch.interfaces import Response
from aiobatch.models import Member

from .conftest import TARGETS

CEP = dialect_for(TARGETS["2.11"])
# IDs that no English message contains by chance.
IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=6, max_size=40)


@given(st.lists(IDS, min_size=1, max_size=5, unique=True), st.sampled_from("'\"`([<: "), st.booleans())
def test_no_message_shows_an_id(ids: list[str], mark: str, shouts: bool) -> None:
    """Whatever the IDs are and however they are quoted, the message does not contain them in any case."""
    words = [value.upper() if shouts else value for value in ids]
    message = f"ids[0].id {mark}{f'{mark}, {mark}'.join(words)}{mark} is malformed"
    for request in (CEP.build_update("vip", ids, []), CEP.build_replace("vip", ids)):
        masked = mask_members(message, request)
        rest = masked.casefold().replace("ids[0].id", "").replace("is malformed", "")
        assert not [value for value in ids if value.strip() and value.casefold() in rest]


@pytest.mark.parametrize(
    ("message", "masked"),
    [
        ("ids[0].id is refused", "ids[0].id is refused"),
        ("'ids' must be an array of 1 to 10000 elements", "'ids' must be an array of 1 to 10000 elements"),
        ("unknown parameter 'tags'", "unknown parameter 'tags'"),
        ("audience 'vip' doesn't accept it, it can't", "audience 'vip' doesn't accept it, it can't"),
        ("ids[2].attributes[0] must be a date", "ids[2].attributes[0] must be a date"),
        ("bad id Alice_Smith", "bad id ***"),
        ("bad id ALICE_SMITH!", "bad id ***!"),
        ("bad id 'u7', 7 of 70", "bad id '***', *** of 70"),
        ("id 7 is bad", "id *** is bad"),
        ("Paris, vip-tag", "***, ***"),
        ("Blue or Green", "*** or ***"),
        ("id alice_sm... is bad", "id *** is bad"),
        ("id alice_sm… is bad", "id *** is bad"),
        ("user=x@y.example", "***"),
        ("id 12345678", "id ***"),
        ("id 0123456789abcdef0123456789abcdef", "id ***"),
        ("“anything in quotes”", "“***”"),
    ],
)
def test_values_of_members_are_masked(message: str, masked: str) -> None:
    """IDs, attribute values and tags are masked, and so is what looks like an ID. Other words remain."""
    member = Member("Alice_Smith", attributes={"city": "Paris", "colours": ["Blue", "Green"], "age": 70})
    request = CEP.build_update("vip", [member, "u7"], ["7"])
    if "vip-tag" in message:
        tagged = Member("Alice_Smith", attributes={"city": "Paris", "empty": ""}, tags=["vip-tag"])
        request = dialect_for(TARGETS["1.1"]).build_update("vip", [tagged], [])
    assert mask_members(message, request) == masked


def test_message_about_no_members_is_kept() -> None:
    """Only the requests that have members can have an ID in their message."""
    for request in (CEP.build_view("vip"), CEP.build_create("vip"), CEP.build_delete("vip")):
        assert mask_members("a@b.example 'x'", request) == "a@b.example 'x'"


def test_value_whose_case_changes_its_length_is_masked() -> None:
    """A match that no pattern finds hides the whole message."""
    assert mask_members("bad: STRASSE7", CEP.build_replace("vip", ["straße7"])) == MASK


def test_message_about_a_huge_request_is_left_out() -> None:
    """To search a body of many megabytes would block the event loop."""
    request = CEP.build_replace("vip", [f"{n:01000}" for n in range(2200)])
    assert len(request.body) > 2 * 1024 * 1024
    assert mask_members("a message", request) == MASK


def test_value_that_is_cut_in_half_is_not_shown() -> None:
    """A long message is cut before it is searched, so its last word may be a part of an ID."""
    ids = ["u" * 150, "secret-value-at-the-end-of-it"]
    message = f"{' '.join([ids[0]] * 13)} {'pad ' * 5}{ids[1]}"
    masked = clean(message, (), 200, CEP.build_replace("vip", ids))
    assert "secret" not in masked
    assert masked.endswith("…")


def test_error_has_the_masked_message(dialect: Dialect) -> None:
    """The error of an update has Batch's words without IDs, the one of a view has all of them."""
    body = orjson.dumps({"code": 31, "message": "id 'alice@example.com' is bad"})
    request = dialect.build_update("vip", ["alice@example.com"], [])
    with pytest.raises(InvalidRequestError) as caught:
        dialect.read_token(request, Response(status=400, body=body))
    assert caught.value.message == "id '***' is bad"
