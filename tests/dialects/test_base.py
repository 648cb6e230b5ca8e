from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from aiobatch.dialects import Dialect, dialect_for
from aiobatch.errors import InvalidInputError
from aiobatch.interfaces import Request
from aiobatch.models import IdType, IndexingToken

from .conftest import TARGETS

BAD_NAMES = ["", "a" * 256, "a/b", "..", "a b", "a%20", "a\n", "é", 7, None]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_invalid_audience_name_builds_no_request(dialect: Dialect, name: Any) -> None:
    """No request is built for a name that Batch would reject."""
    builds: list[Callable[[], Request]] = [
        lambda: dialect.build_create(name),
        lambda: dialect.build_view(name),
        lambda: dialect.build_update(name, ["u1"], []),
        lambda: dialect.build_replace(name, ["u1"]),
        lambda: dialect.build_delete(name),
    ]
    for build in builds:
        with pytest.raises(InvalidInputError, match="audience name"):
            build()


@pytest.mark.parametrize("token", ["", "a b", "a\n", "a\0", "\ud800", 5])
def test_invalid_token_builds_no_request(dialect: Dialect, token: Any) -> None:
    """A token that cannot be part of a URL is rejected. The error does not contain it."""
    with pytest.raises(InvalidInputError, match="ndexing token must be"):
        dialect.build_view("vip", token)


@pytest.mark.parametrize("token", ["t", "a/b?c&d=é%", "x" * 500])
def test_token_of_indexing_token_is_accepted_by_view(dialect: Dialect, token: str) -> None:
    """A view accepts every token that IndexingToken accepts."""
    assert dialect.build_view("vip", IndexingToken("vip", token).value).target


@pytest.mark.parametrize("limit", [0, 101, -1, 1.0, True, "10", None])
def test_limit_is_1_to_100(dialect: Dialect, limit: Any) -> None:
    """A page has 1 to 100 rows."""
    with pytest.raises(InvalidInputError, match="limit must be an integer from 1 to 100"):
        dialect.build_list(limit=limit)


@pytest.mark.parametrize("cursor", ["", "\ud800", 5])
def test_cursor_is_non_empty_text(dialect: Dialect, cursor: Any) -> None:
    """A cursor of the wrong type or without text is rejected."""
    with pytest.raises(InvalidInputError, match="cursor must be"):
        dialect.build_list(cursor)


@pytest.mark.parametrize("cursor", ["-1", "x", "²"])
def test_cursor_of_1_x_is_an_offset(v10: Dialect, cursor: str) -> None:
    """1.x rejects a cursor that is no offset in digits."""
    with pytest.raises(InvalidInputError, match="offset in digits"):
        v10.build_list(cursor)


def test_description_is_valid_text(dialect: Dialect) -> None:
    """A description is text that can be sent."""
    with pytest.raises(InvalidInputError, match="description must be a string, not int"):
        dialect.build_create("vip", description=5)  # type: ignore[arg-type]  # deliberately
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        dialect.build_create("vip", description="\ud800")


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("v10", [IdType.CUSTOM_IDS, IdType.ADVERTISING_IDS]),
        ("v11", [IdType.INSTALL_IDS]),
        ("v2", [IdType.CUSTOM_IDS]),
    ],
)
def test_each_version_accepts_its_id_types(
    request: pytest.FixtureRequest, version: str, accepted: list[IdType]
) -> None:
    """Each version accepts its types as members or by name. The first one is the default."""
    dialect: Dialect = request.getfixturevalue(version)

    assert dialect.id_type(None) is accepted[0]
    assert [dialect.id_type(one) for one in accepted] == accepted
    assert [dialect.id_type(str(one)) for one in accepted] == accepted


@pytest.mark.parametrize("wanted", [*IdType, IdType("phone_numbers"), "words", "EMAIL"])
def test_project_passes_any_type_on_and_reports_an_undocumented_one_once(wanted: IdType | str) -> None:
    """2.x sends any type as it is. The report is that Batch decides on it."""
    reported: list[tuple[str, str, str]] = []
    dialect = dialect_for(TARGETS["2.11"], lambda *report: reported.append(report))
    request = dialect.build_create("vip", id_type=wanted)
    assert orjson.loads(request.body)["type"] == ("emails" if wanted == "EMAIL" else wanted)
    for _ in range(2):
        dialect.build_update("vip", ["u1"], [], id_type=wanted)
        dialect.build_replace("vip", ["u1"], id_type=wanted)
    is_documented = wanted is IdType.CUSTOM_IDS
    assert [report[1] for report in reported] == ([] if is_documented else ["id_type"])
    assert all("Batch decides" in report[0] for report in reported)


@pytest.mark.parametrize(
    ("version", "wanted", "remedy"),
    [
        (
            "v10",
            IdType.INSTALL_IDS,
            r"1\.0 accepts custom_ids and advertising_ids.*App\(version='1\.1'\) or Project",
        ),
        ("v10", IdType.EMAILS, r"1\.0 accepts custom_ids and advertising_ids, not emails.*use Project"),
        ("v11", "phone_numbers", r"1\.1 accepts install_ids, not phone_numbers.*use Project"),
        ("v11", IdType.CUSTOM_IDS, r"1\.1 accepts install_ids.*App\(version='1\.0'\) or Project"),
        ("v11", "advertising_ids", r"1\.1 accepts install_ids.*App\(version='1\.0'\)"),
        ("v2", 5, "must be an IdType or its name, not int"),
        *[
            (version, word, "must be a name such as 'custom_ids'")
            for version in ("v10", "v2")
            for word in ("", "a b", "a\n", "\ud800", "a" * 61)
        ],
    ],
)
def test_unsupported_id_type_names_a_version_that_supports_it(
    request: pytest.FixtureRequest, version: str, wanted: IdType | str, remedy: str
) -> None:
    """The error for a type that a version does not accept names a version that does."""
    dialect: Dialect = request.getfixturevalue(version)

    with pytest.raises(InvalidInputError, match=remedy):
        dialect.id_type(wanted)
    with pytest.raises(InvalidInputError, match=remedy):
        dialect.build_create("vip", id_type=wanted)
    with pytest.raises(InvalidInputError, match=remedy):
        dialect.build_update("vip", ["u1"], [], id_type=wanted)
    with pytest.raises(InvalidInputError, match=remedy):
        dialect.build_replace("vip", ["u1"], id_type=wanted)
