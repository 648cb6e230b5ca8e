from __future__ import annotations

import datetime as dt
import enum
import math
from types import MappingProxyType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.errors import InvalidInputError
from aiobatch.models import (
    MAX_ATTRIBUTES,
    MAX_ID_LENGTH,
    Member,
    check_id,
    check_name,
)

_SECRET_ID = "u-4711"


def _member(attributes: object = MappingProxyType({}), tags: object = ()) -> Member:
    """Create a Member from any arguments."""
    return Member("u1", attributes=cast("Any", attributes), tags=cast("Any", tags))


class TestName:
    """Audience names."""

    @pytest.mark.parametrize("name", ["a", "A-b_9", "-", "x" * 255])
    def test_valid(self, name: str) -> None:
        """1 to 255 letters, digits, `_` and `-` are valid."""
        assert check_name(name) == name

    @pytest.mark.parametrize(
        "name", ["", "x" * 256, "a/b", "..", "a b", "a%20b", "a\n", "a\0", "é", "a.b", "\u0661", "\udc80"]
    )
    def test_invalid(self, name: str) -> None:
        """Any other name is rejected with its length and the rule."""
        with pytest.raises(InvalidInputError, match="audience name '") as caught:
            check_name(name)
        assert f"({len(name)} characters)" in str(caught.value)
        assert "Use 1 to 255 letters, digits, '_' or '-'" in str(caught.value)
        assert len(str(caught.value)) < 160

    @pytest.mark.parametrize(
        ("name", "kind"), [(None, "None"), (7, "int"), (b"vip", "bytes"), (["vip"], "list")]
    )
    def test_name_must_be_a_string(self, name: object, kind: str) -> None:
        """A name of another type is rejected by its type."""
        with pytest.raises(InvalidInputError, match=rf"An audience name must be a string, not {kind}\.$"):
            check_name(name)

    @given(st.text())
    def test_any_text(self, name: str) -> None:
        """Any text either is a name or raises InvalidInputError."""
        try:
            assert check_name(name) == name
        except InvalidInputError as error:
            assert "invalid" in str(error)  # noqa: PT017  # both outcomes are fine


class TestId:
    """IDs."""

    @pytest.mark.parametrize("value", ["u", " ", "a b", "ünï", "日本", "a\n", "x" * MAX_ID_LENGTH, "😀"])
    def test_valid(self, value: str) -> None:
        """Any text of 1 to 1,024 characters is valid."""
        assert check_id(value, "add[0]") == value

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ("", "must not be empty"),
            ("x" * (MAX_ID_LENGTH + 1), "at most 1,024 characters, not 1,025"),
            (_SECRET_ID + "\0", "must not contain a NUL character"),
            (_SECRET_ID + "\ud800", "must be valid Unicode"),
            (_SECRET_ID.encode(), "must be a string, not bytes"),
            (None, "must be a string, not None"),
            (4711, "must be a string, not int"),
            ([_SECRET_ID], "must be a string, not list"),
        ],
    )
    def test_invalid(self, value: object, words: str) -> None:
        """Any other value is rejected by its location, and never shown."""
        with pytest.raises(InvalidInputError) as caught:
            check_id(value, "add[3]")
        assert str(caught.value).startswith("add[3]: an ID ")
        assert words in str(caught.value)
        assert "4711" not in str(caught.value)


class TestAttributes:
    """Attributes of an ID."""

    def test_plain_values_are_unchanged(self) -> None:
        """Strings, integers, floats, booleans and lists of these pass unchanged. Lists are frozen."""
        values = {
            "s": "x",
            "i": -(2**63),
            "big": 2**63 - 1,
            "f": 1.5,
            "b": True,
            "l": ["a", 1, False],
            "e": [],
        }
        attributes = _member(values).attributes
        assert attributes == values | {"l": ("a", 1, False), "e": ()}
        assert attributes["b"] is True

    def test_subclass_of_float_becomes_a_float(self) -> None:
        """A subclass such as NumPy's becomes a plain float, because the JSON writer accepts no other."""

        class Float64(float):
            pass

        assert type(_member({"f": Float64(1.5)}).attributes["f"]) is float

    def test_subclass_of_int_is_an_int(self) -> None:
        """An IntEnum is checked at once, without iterating over 64 bits."""

        class Level(enum.IntEnum):
            GOLD = 3

        assert _member({"level": Level.GOLD}).attributes["level"] == 3

    def test_attributes_are_frozen(self) -> None:
        """Neither the member nor the given mapping can change a member's attributes."""
        given_values = {"age": 7}
        member = _member(given_values)
        given_values["age"] = 8
        assert member.attributes["age"] == 7
        with pytest.raises(TypeError):
            member.attributes["age"] = 9  # type: ignore[index]  # that it fails is the rule

    @pytest.mark.parametrize("count", [0, MAX_ATTRIBUTES])
    def test_fifteen_attributes_are_valid(self, count: int) -> None:
        """Fifteen attributes are valid."""
        assert len(_member({f"a{n}": n for n in range(count)}).attributes) == count

    def test_sixteen_attributes_are_rejected(self) -> None:
        """Sixteen attributes are too many."""
        with pytest.raises(InvalidInputError, match="attributes has 16 entries, at most 15"):
            _member({f"a{n}": n for n in range(16)})

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (math.nan, "must be a finite number, not nan"),
            (math.inf, "must be a finite number"),
            (2**63, "must fit into 64 bits"),
            (-(2**63) - 1, "must fit into 64 bits"),
            (None, "must be a string, integer, float, boolean or a list of these, not None"),
            (b"x", "not bytes"),
            ({"a": 1}, "not dict"),
            ({"a"}, "not set"),
            (1j, "not complex"),
            ("\ud800", "must be valid Unicode"),
            (dt.date(2023, 8, 12), r"as in 'date\(signed_up\)'"),
            (dt.datetime(2023, 8, 12, tzinfo=dt.UTC), "recognizes a date by the attribute's name"),
        ],
    )
    def test_invalid_values_have_their_location(self, value: object, words: str) -> None:
        """A value of a wrong type or size is rejected by its location, alone or in a list."""
        with pytest.raises(InvalidInputError, match=rf"^attributes\['age'\].*{words}"):
            _member({"age": value})
        with pytest.raises(InvalidInputError, match=rf"^attributes\['age'\]\[1\].*{words}"):
            _member({"age": ["x", value]})

    def test_nested_lists_are_rejected(self) -> None:
        """Lists contain plain values only."""
        with pytest.raises(InvalidInputError, match=r"^attributes\['age'\]\[0\] .*not list\.$"):
            _member({"age": [[1]]})

    @pytest.mark.parametrize("name", ["", " ", "date()", "url()", "date( )"])
    def test_empty_names_are_rejected(self, name: str) -> None:
        """Neither a name nor the name inside a type is empty."""
        with pytest.raises(InvalidInputError, match="a name must not be empty"):
            _member({name: "x"})

    @pytest.mark.parametrize(
        ("name", "words"),
        [(7, "not int"), (None, "not None"), ("a\0", "without NUL"), ("\ud800", "valid Unicode")],
    )
    def test_names_are_valid_unicode(self, name: object, words: str) -> None:
        """A name is a string of valid Unicode."""
        with pytest.raises(InvalidInputError, match=f"^attributes: a name must be .*{words}"):
            _member({name: "x"})

    @pytest.mark.parametrize("attributes", [None, "a", ["a"], {("a", 1)}, 7])
    def test_attributes_must_be_a_mapping(self, attributes: object) -> None:
        """Attributes are a mapping."""
        with pytest.raises(InvalidInputError, match="attributes must be a mapping of name to value, not "):
            _member(attributes)


class TestTypedAttributes:
    """Dates and URLs, whose type is in the attribute's name."""

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (dt.datetime(2023, 8, 12, 22, 30, 5, tzinfo=dt.UTC), "2023-08-12T22:30:05Z"),
            (dt.datetime(2023, 8, 12, 22, 30, 5, 999999, tzinfo=dt.UTC), "2023-08-12T22:30:05Z"),
            (
                dt.datetime(2023, 8, 13, 0, 30, 5, tzinfo=dt.timezone(dt.timedelta(hours=2))),
                "2023-08-12T22:30:05Z",
            ),
            (dt.datetime(987, 1, 2, tzinfo=dt.UTC), "0987-01-02T00:00:00Z"),
            ("2023-08-12T22:30:05Z", "2023-08-12T22:30:05Z"),
            ("2023-08-12 22:30:05.5-02:00", "2023-08-13T00:30:05Z"),
            (dt.datetime(2023, 8, 12, 22, 30, 5, 9), "2023-08-12T22:30:05Z"),  # noqa: DTZ001  # no zone
            ("2023-08-12T22:30:05", "2023-08-12T22:30:05Z"),
            ("2023-08-12 22:30", "2023-08-12T22:30:00Z"),
            ("2023-08-12", "2023-08-12T00:00:00Z"),
            (dt.date(2023, 8, 12), "2023-08-12T00:00:00Z"),
        ],
    )
    def test_dates_are_utc_seconds(self, value: object, text: str) -> None:
        """A date is written in UTC, in whole seconds, and ends in Z."""
        attributes = _member({"date(signed_up)": value}).attributes
        assert attributes["date(signed_up)"] == text
        assert _member(attributes).attributes == attributes

    @given(st.datetimes(timezones=st.timezones() | st.just(dt.UTC) | st.none()))
    def test_any_date_round_trips(self, moment: dt.datetime) -> None:
        """Any date can be read back without its fraction, in UTC if it has no zone, or is out of range."""
        try:
            text = _member({"date(d)": moment}).attributes["date(d)"]
        except InvalidInputError:
            assert moment.year in {1, 9999}
        else:
            zoned = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            assert isinstance(text, str)
            assert dt.datetime.fromisoformat(text) == zoned.astimezone(dt.UTC).replace(microsecond=0)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ("yesterday", "must be a datetime or an ISO 8601 string such as '2023-08-12T22:30:05Z'"),
            (1691879405, "must be a datetime or an ISO 8601 string"),
            (None, "must be a datetime or an ISO 8601 string"),
            ("0001-01-01T00:00:00+14:00", "outside the years 1 to 9999"),
        ],
    )
    def test_ambiguous_dates_are_rejected(self, value: object, words: str) -> None:
        """A value that is not an unambiguous time is rejected by its location."""
        with pytest.raises(InvalidInputError, match=rf"^attributes\['date\(signed_up\)'\].*{words}"):
            _member({"date(signed_up)": value})

    def test_time_zone_without_offset_is_rejected(self) -> None:
        """A tzinfo without an offset does not mean local time."""

        class Nowhere(dt.tzinfo):
            def utcoffset(self, _moment: dt.datetime | None) -> None:
                return None

            dst = tzname = utcoffset

        with pytest.raises(InvalidInputError, match="a time zone without an offset"):
            _member({"date(d)": dt.datetime(2023, 8, 12, tzinfo=Nowhere())})

    @pytest.mark.parametrize(
        "url", ["https://example.com/a?b=c#d", "http://example.com", "HTTPS://EXAMPLE.COM/é"]
    )
    def test_urls_are_unchanged(self, url: str) -> None:
        """An http(s) URL passes unchanged."""
        assert _member({"url(avatar)": url}).attributes["url(avatar)"] == url

    @pytest.mark.parametrize(
        "url", ["", "example.com", "ftp://x", "https://", "https:///a", "http://a b", 7, None]
    )
    def test_other_urls_are_rejected(self, url: object) -> None:
        """Any other value is rejected."""
        with pytest.raises(
            InvalidInputError, match=r"^attributes\['url\(avatar\)'\] must be a string that starts"
        ):
            _member({"url(avatar)": url})

    @pytest.mark.parametrize("name", ["dates(x)", "date", "date(x", "Date(x)", "xdate(x)"])
    def test_other_names_have_no_type(self, name: str) -> None:
        """Only `date(…)` and `url(…)` give a value a type."""
        assert _member({name: "any"}).attributes == {name: "any"}


class TestTags:
    """A member's tags."""

    @pytest.mark.parametrize("tags", [[], ["a", "b"], ("a",), {"a"}, iter(["a"])])
    def test_tags_may_be_any_iterable(self, tags: object) -> None:
        """Any iterable of strings becomes a tuple."""
        assert set(_member(tags=tags).tags) <= {"a", "b"}

    @pytest.mark.parametrize("tags", ["vip", b"v", None, 7])
    def test_string_is_not_a_list_of_tags(self, tags: object) -> None:
        """A bare string is not a list of tags."""
        with pytest.raises(InvalidInputError, match="tags must be a list of strings, not "):
            _member(tags=tags)

    @pytest.mark.parametrize("tag", ["", None, 7, b"a", "\ud800"])
    def test_invalid_tag_has_its_location(self, tag: object) -> None:
        """An invalid tag is rejected by its location."""
        with pytest.raises(InvalidInputError, match=r"^tags\[1\] must be a non-empty string"):
            _member(tags=["a", tag])
