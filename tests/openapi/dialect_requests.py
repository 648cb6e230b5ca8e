"""Strategies for the requests that a dialect can build."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from aiobatch import IdType, Member
from aiobatch.dialects import Dialect
from aiobatch.interfaces import Request

_NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,255}", fullmatch=True)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_IDS = _TEXTS.filter(lambda text: text != "" and "\0" not in text)
_TOKENS = st.from_regex(r"[!-~]{1,40}", fullmatch=True)
_SCALARS = _TEXTS | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-1e300, 1e300)
# The document allows parentheses in an attribute's name only for its type.
_WORDS = st.from_regex(r"[^()\0]{1,10}", fullmatch=True).filter(lambda text: text.strip() != "")
_MOMENTS = st.datetimes(min_value=dt.datetime(1900, 1, 2), timezones=st.just(dt.UTC))  # noqa: DTZ001 - in UTC
_ATTRIBUTES = st.dictionaries(
    _WORDS, _SCALARS | st.lists(_SCALARS, max_size=3), max_size=5
) | st.dictionaries(_WORDS.map("date({})".format), _MOMENTS, max_size=2)


def _members(label: str) -> st.SearchStrategy[Any]:
    """Return IDs, and Members with what the API accepts."""
    if label == "1.0":
        return _IDS | st.builds(Member, _IDS)
    tags = st.lists(_IDS, max_size=3) if label == "1.1" else st.just(())
    return _IDS | st.builds(Member, _IDS, attributes=_ATTRIBUTES, tags=tags)


def any_request(label: str, dialect: Dialect) -> st.SearchStrategy[Request]:
    """Return a strategy for any request that a dialect builds."""
    members = st.lists(_members(label), min_size=1, max_size=4)
    types = st.sampled_from([None, *([IdType.ADVERTISING_IDS] if label == "1.0" else [])])
    cursors = st.integers(0, 10**9).map(str) if label != "2.x" else _IDS
    return st.one_of(
        st.builds(dialect.build_create, _NAMES, id_type=types, description=st.none() | _TEXTS),
        st.builds(dialect.build_view, _NAMES, st.none() | _TOKENS),
        st.builds(dialect.build_list, st.none() | cursors, limit=st.integers(1, 100)),
        st.builds(_update(dialect), _NAMES, members, st.lists(_IDS, max_size=3), types),
        st.builds(dialect.build_replace, _NAMES, members, id_type=types),
        st.builds(dialect.build_delete, _NAMES),
    )


def _update(dialect: Dialect) -> Callable[..., Request]:
    """Return a builder of updates whose IDs to remove are none of those to add."""

    def update(name: str, add: list[str | Member], remove: list[str], id_type: IdType | None) -> Request:
        added = {one if isinstance(one, str) else one.id for one in add}
        return dialect.build_update(name, add, [one for one in remove if one not in added], id_type=id_type)

    return update
