from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aiobatch._http import Request
from aiobatch.dialects import Dialect
from aiobatch.errors import InvalidInputError
from aiobatch.models import IdType, IndexingToken

BAD_NAMES = ["", "a" * 256, "a/b", "..", "a b", "a%20", "a\n", "é", 7, None]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_name(dialect: Dialect, name: Any) -> None:
    """No request is built for a name that Batch would refuse."""
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
def test_bad_token(dialect: Dialect, token: Any) -> None:
    """A token that cannot stand in a URL is refused, and not shown."""
    with pytest.raises(InvalidInputError, match="indexing token must be"):
        dialect.build_view("vip", token)


@pytest.mark.parametrize("token", ["t", "a/b?c&d=é%", "x" * 500])
def test_tokens_agree(dialect: Dialect, token: str) -> None:
    """What IndexingToken takes, a view takes."""
    assert dialect.build_view("vip", IndexingToken("vip", token).value).target


@pytest.mark.parametrize("limit", [0, 101, -1, 1.0, True, "10", None])
def test_bad_limit(dialect: Dialect, limit: Any) -> None:
    """A page has 1 to 100 rows."""
    with pytest.raises(InvalidInputError, match="limit must be a whole number from 1 to 100"):
        dialect.build_list(limit=limit)


@pytest.mark.parametrize("cursor", ["", "\ud800", 5])
def test_bad_cursor(dialect: Dialect, cursor: Any) -> None:
    """A cursor is what a page gave."""
    with pytest.raises(InvalidInputError, match="cursor must be"):
        dialect.build_list(cursor)


@pytest.mark.parametrize("cursor", ["-1", "x", "²"])
def test_bad_offset(v10: Dialect, cursor: str) -> None:
    """The cursor of 1.x is an offset."""
    with pytest.raises(InvalidInputError, match="offset in digits"):
        v10.build_list(cursor)


def test_bad_description(dialect: Dialect) -> None:
    """A description is text that can be sent."""
    with pytest.raises(InvalidInputError, match="description must be a string, not int"):
        dialect.build_create("vip", description=5)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        dialect.build_create("vip", description="\ud800")


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("v10", [IdType.CUSTOM_IDS, IdType.ADVERTISING_IDS]),
        ("v11", [IdType.INSTALL_IDS]),
        ("v2", [IdType.CUSTOM_IDS]),
    ],
)
def test_id_types(request: pytest.FixtureRequest, version: str, taken: list[IdType]) -> None:
    """Each version takes its types, as members or by name, and the first for none."""
    dialect: Dialect = request.getfixturevalue(version)

    assert dialect.id_type(None) is taken[0]
    assert [dialect.id_type(one) for one in taken] == taken
    assert [dialect.id_type(str(one)) for one in taken] == taken


@pytest.mark.parametrize(
    ("version", "wanted", "remedy"),
    [
        ("v10", IdType.INSTALL_IDS, r"1\.0 takes custom_ids and advertising_ids.*App\(version='1\.1'\)"),
        ("v11", IdType.CUSTOM_IDS, r"1\.1 takes install_ids.*App\(version='1\.0'\) or Project"),
        ("v11", "advertising_ids", r"1\.1 takes install_ids.*App\(version='1\.0'\)"),
        ("v2", IdType.INSTALL_IDS, r"2\.11 takes custom_ids.*App\(version='1\.1'\)"),
        ("v2", IdType.ADVERTISING_IDS, r"2\.11 takes custom_ids.*App\(version='1\.0'\)"),
        ("v2", "emails", "'emails' is unknown"),
        ("v2", 5, "must be an IdType or its name, not int"),
    ],
)
def test_refused_id_type(
    request: pytest.FixtureRequest, version: str, wanted: IdType | str, remedy: str
) -> None:
    """A type that a version does not take is refused with the version that does."""
    dialect: Dialect = request.getfixturevalue(version)

    with pytest.raises(InvalidInputError, match=remedy):
        dialect.id_type(wanted)
    with pytest.raises(InvalidInputError, match=remedy):
        dialect.build_create("vip", id_type=wanted)
    with pytest.raises(InvalidInputError, match=remedy):
        dialect.build_update("vip", ["u1"], [], id_type=wanted)
    with pytest.raises(InvalidInputError, match=remedy):
        dialect.build_replace("vip", ["u1"], id_type=wanted)
