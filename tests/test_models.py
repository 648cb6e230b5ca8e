from __future__ import annotations

import copy
import pickle
from typing import cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.errors import AiobatchError, InvalidInputError
from aiobatch.models import (
    Audience,
    IdType,
    IndexingState,
    IndexingToken,
    Member,
    Operation,
    Outcome,
    Settled,
)


class TestOpenEnums:
    """Enums that keep unknown words."""

    @pytest.mark.parametrize(
        ("given_word", "member"),
        [
            ("IN_PROGRESS", IndexingState.IN_PROGRESS),
            ("IN_PROCESS", IndexingState.IN_PROGRESS),
            ("APPLIED", IndexingState.APPLIED),
            ("REPLACED", IndexingState.REPLACED),
        ],
    )
    def test_known_states(self, given_word: str, member: IndexingState) -> None:
        """Batch's states, and the other spelling of one, are members."""
        assert IndexingState(given_word) is member
        assert member.is_known

    @pytest.mark.parametrize("word", ["custom_ids", "CUSTOM_ID"])
    def test_both_spellings_of_custom_ids(self, word: str) -> None:
        """2.x's CUSTOM_ID is 1.x's custom_ids."""
        assert IdType(word) is IdType.CUSTOM_IDS

    @pytest.mark.parametrize("cls", [IndexingState, IdType])
    @pytest.mark.parametrize("word", ["PAUSED", "", "in_progress", "CUSTOM_IDS", "is_known", "é"])
    def test_unknown_words_are_kept(self, cls: type[IndexingState | IdType], word: str) -> None:
        """An undocumented word is a member equal to its text."""
        member = cls(word)
        assert (member, str(member), member.value, member.name) == (word,) * 4
        assert hash(member) == hash(word)
        assert member == cls(word)
        assert not member.is_known
        assert word in repr(member)
        assert cls.__members__.keys().isdisjoint({"PAUSED", ""})

    @pytest.mark.parametrize("member", [IndexingState.APPLIED, IndexingState("PAUSED"), IdType("OTHER")])
    def test_members_can_be_copied(self, member: IndexingState | IdType) -> None:
        """Known and unknown members can be pickled and copied."""
        twins = [pickle.loads(pickle.dumps(member)), copy.copy(member), copy.deepcopy(member)]  # noqa: S301  # made here
        assert [(type(twin), twin, twin.is_known) for twin in twins] == [
            (type(member), member, member.is_known)
        ] * 3

    @pytest.mark.parametrize("value", [None, 3, b"APPLIED", ["APPLIED"]])
    def test_state_must_be_text(self, value: object) -> None:
        """A state is a string."""
        with pytest.raises(ValueError, match="not a valid IndexingState"):
            IndexingState(cast("str", value))

    def test_outcome_values_are_their_names(self) -> None:
        """An outcome's value is its name, and operations are a closed set."""
        assert [outcome.value for outcome in Outcome] == [outcome.name for outcome in Outcome]
        with pytest.raises(ValueError, match="merge"):
            Operation("merge")


class TestMember:
    """An ID with attributes and tags."""

    def test_members_compare_by_value(self) -> None:
        """Members with equal fields are equal and have one hash."""
        listed = Member("u1", attributes={"a": [1]}, tags=["t"])
        assert listed == Member("u1", attributes={"a": (1,)}, tags=("t",))
        assert len({Member("u1", attributes={"a": number}) for number in (1, 1, 2)}) == 2

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_member_can_be_pickled(self, protocol: int) -> None:
        """A member can be pickled and copied."""
        member = Member("u1", attributes={"date(d)": "2023-08-12T22:30:05Z", "l": [1]}, tags=["t"])
        assert pickle.loads(pickle.dumps(member, protocol)) == member  # noqa: S301  # our own pickle
        assert copy.deepcopy(member) == copy.copy(member) == member

    def test_repr_shows_no_personal_data(self) -> None:
        """The repr contains sizes, not values."""
        member = Member("u-4711", attributes={"email": "a@b.c"}, tags=["rich"])
        assert repr(member) == "Member(id=<6>, attributes=<1>, tags=<1>)"

    @pytest.mark.parametrize("value", ["", None, 7, "\0"])
    def test_member_checks_its_id(self, value: object) -> None:
        """A member's ID is checked like any other."""
        with pytest.raises(InvalidInputError, match=r"^Member\.id: an ID must"):
            Member(cast("str", value))

    def test_member_is_frozen(self) -> None:
        """A member cannot be changed."""
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            Member("u1").id = "u2"  # type: ignore[misc]  # that it fails is the rule


_NAMES = st.text(st.sampled_from("abcXYZ019_-"), min_size=1, max_size=255)
_VALUES = st.text(min_size=1).filter(lambda text: text.isprintable() and " " not in text)


class TestToken:
    """The receipt of an update."""

    @given(_NAMES, _VALUES, st.sampled_from(Operation))
    def test_token_round_trip(self, audience: str, value: str, operation: Operation) -> None:
        """Any token can be parsed from its text, which has one line."""
        token = IndexingToken(audience, value, operation)
        assert IndexingToken.parse(str(token)) == token
        assert len(str(token).splitlines()) == 1

    @given(st.text())
    def test_any_text_is_a_token_or_rejected(self, text: str) -> None:
        """Any text either is a token with that text or raises InvalidInputError."""
        try:
            assert str(IndexingToken.parse(text)) == text
        except InvalidInputError as error:
            assert str(error)  # noqa: PT017  # both outcomes are fine

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "Not the text"),
            ("abc", "bare token pass audience="),
            ("vip:update", "Not the text"),
            ("vip:update:", "must be printable, without spaces or newlines"),
            ("vip:update:t\n", r"strip\(\) it"),
            ("vip:update:a b", "without spaces"),
            ("vip:merge:t", "must be one of create, update, replace, delete"),
            ("vip::t", "must be one of create"),
            (":update:t", "audience name ''"),
            ("a/b:update:t", "audience name 'a/b'"),
            (" vip:update:t", "audience name ' vip'"),
            (None, "Not the text"),
            (b"vip:update:t", "Not the text"),
        ],
    )
    def test_malformed_text_is_rejected(self, text: object, words: str) -> None:
        """The message explains a malformed text."""
        with pytest.raises(InvalidInputError, match=words):
            IndexingToken.parse(cast("str", text))

    @pytest.mark.parametrize("operation", [None, 7, [], "UPDATE"])
    def test_unknown_operation_is_rejected(self, operation: object) -> None:
        """An operation is one of four words."""
        with pytest.raises(InvalidInputError, match="operation must be one of"):
            IndexingToken("vip", "t", cast("str", operation))

    @pytest.mark.parametrize("value", [None, 7, b"t", "", "\ud800"])
    def test_invalid_value_is_rejected(self, value: object) -> None:
        """A value is printable text."""
        with pytest.raises(InvalidInputError, match="An indexing token's value must be"):
            IndexingToken("vip", cast("str", value))

    def test_default_operation_is_update(self) -> None:
        """A token is for an update by default, is hashable and can be pickled."""
        token = IndexingToken("vip", "t")
        assert token.operation is Operation.UPDATE
        assert {token: 1}[pickle.loads(pickle.dumps(token))] == 1  # noqa: S301  # our own pickle


def test_settled_has_the_error_of_the_wait() -> None:
    """A settled token has its outcome and the error, if any."""
    token, error = IndexingToken("vip", "t"), AiobatchError("x")
    settled = Settled(token=token, outcome=Outcome.FAILED, error=error)
    assert (settled.audience, settled.error) == (None, error)


def test_audience_needs_only_name_and_type() -> None:
    """All other fields of a response may be missing."""
    audience = Audience(name="vip", id_type=IdType.CUSTOM_IDS)
    assert attrs.astuple(audience)[2:] == (None,) * 5
    assert pickle.loads(pickle.dumps(audience)) == audience  # noqa: S301  # our own pickle
