"""Custom Audience API 1.0 and 1.1 of the Mobile Engagement Platform: one app, its key in the path.

https://doc.batch.com/developer/api/mep/custom-audience/1.0/create and its neighbours, and the same under 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

import attrs
import orjson

from .._secret import Secret
from ..errors import InvalidInputError
from ..interfaces import Request, Response
from ..models import Audience, IdType, Member, check_name
from ..options import App
from ._base import (
    MAX_LIMIT,
    ListedState,
    Page,
    StatesPage,
    check_description,
    check_limit,
    check_token,
    pick_id_type,
)
from ._decoding import (
    AudienceShapes,
    FieldReports,
    Report,
    Shape,
    UnreadableFields,
    audience_shapes,
    decode,
    read_rows,
    read_token,
    read_view,
)
from ._member_encoding import MemberRules, check_members, encode_replace, encode_update


@attrs.frozen(kw_only=True)
class _Version:
    """The differences between the versions."""

    id_types: tuple[IdType, ...]
    rules: MemberRules
    types_members: bool  # whether the body of update and replace has the audience's type


_VERSIONS = {
    # https://doc.batch.com/developer/api/mep/custom-audience/1.0/update
    "1.0": _Version(
        id_types=(IdType.CUSTOM_IDS, IdType.ADVERTISING_IDS),
        rules=MemberRules(api="Custom Audience API 1.0", attributes=False, tags=False),
        types_members=True,
    ),
    # https://doc.batch.com/developer/api/mep/custom-audience/1.1/update
    "1.1": _Version(
        id_types=(IdType.INSTALL_IDS,),
        rules=MemberRules(api="Custom Audience API 1.1", attributes=True, tags=True),
        types_members=False,
    ),
}


def _read_token(answer: dict[str, Any]) -> str:
    """Return the token of an update or replace. The pages name the field for 2.x only."""
    try:
        return read_token(answer["indexing_token"])
    except (KeyError, TypeError):
        if answer.get("token") is None:
            raise
    return read_token(answer["token"])


def _listing_shape(row: Shape[Audience]) -> Shape[tuple[Audience, ...]]:
    return Shape(
        lambda answer: read_rows(answer["custom_audiences"], row),
        {"custom_audiences": []},
        rows={"custom_audiences": row},
    )


_TOKEN: Shape[str | None] = Shape(_read_token, {"indexing_token": "t"}, ("token",))
# Create and delete answer any object, `{}` on the page. The answer to a delete may also be empty.
_DONE: Shape[str | None] = Shape(lambda _: None)


@attrs.frozen
class MepDialect:
    """The dialect of one App.

    Attributes:
        target: The app.
        report: Called once for each field that cannot be read. Default: they are ignored.
    """

    target: App
    _report: Report | None = attrs.field(default=None, repr=False, eq=False)
    _version: _Version = attrs.field(init=False, repr=False, eq=False)
    _prefix: str = attrs.field(init=False, repr=False, eq=False)
    _headers: Mapping[str, str] = attrs.field(init=False, repr=False, eq=False)
    _secrets: tuple[Secret, ...] = attrs.field(init=False, repr=False, eq=False)
    _shapes: AudienceShapes = attrs.field(init=False, repr=False, eq=False)
    _audiences: Shape[tuple[Audience, ...]] = attrs.field(init=False, repr=False, eq=False)

    lists_states: ClassVar[bool] = False

    @_version.default
    def _make_version(self) -> _Version:
        return _VERSIONS[self.target.version]

    @_prefix.default
    def _make_prefix(self) -> str:
        return f"/{self.version}/{quote(self.target.api_key.reveal(), safe='')}/custom-audience"

    @_headers.default
    def _make_headers(self) -> Mapping[str, str]:
        return {
            "X-Authorization": self.target.rest_api_key.reveal(),
            "Content-Type": "application/json",
            "Accept": "application/json",
            # No header of 1.x keeps a shared cache from storing its responses.
            "Cache-Control": "no-cache",
        }

    @_secrets.default
    def _make_secrets(self) -> tuple[Secret, ...]:
        return self.target.rest_api_key, self.target.api_key

    @_shapes.default
    def _make_shapes(self) -> AudienceShapes:
        return audience_shapes("description", UnreadableFields(FieldReports(self._report)), self._secrets)

    @_audiences.default
    def _make_audiences(self) -> Shape[tuple[Audience, ...]]:
        return _listing_shape(self._shapes.row)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy by way of the app, whose keys cannot be pickled."""
        return type(self), (self.target, self._report)

    @property
    def version(self) -> str:
        """The API's version: `"1.0"` or `"1.1"`."""
        return self.target.version

    @property
    def rules(self) -> MemberRules:
        """Whether members can have attributes and tags in this version."""
        return self._version.rules

    def id_type(self, wanted: IdType | str | None) -> IdType:
        """Return *wanted*, or this version's default for None, if this version accepts it."""
        return pick_id_type(wanted, self._version.id_types, self.rules.api)

    def check_members(self, values: object, place: str, start: int = 0) -> None:
        """Check members as `build_update` does."""
        check_members(self.rules, values, place, start)

    def build_create(
        self, name: str, *, id_type: IdType | str | None = None, description: str | None = None
    ) -> Request:
        """See https://doc.batch.com/developer/api/mep/custom-audience/1.0/create."""
        fields: dict[str, str | None] = {"type": self.id_type(id_type)}
        if check_description(description) is not None:
            fields["description"] = description
        return self._request("create", "POST", name, body=orjson.dumps(fields))

    def build_view(self, name: str, token: str | None = None) -> Request:
        """See https://doc.batch.com/developer/api/mep/custom-audience/1.0/view."""
        query = "" if token is None else f"?indexing_token={quote(check_token(token), safe='')}"
        return self._request("view", "GET", name, query=query)

    def build_list(self, cursor: str | None = None, *, limit: int = MAX_LIMIT) -> Request:
        """See https://doc.batch.com/developer/api/mep/custom-audience/1.0/list. The cursor is an offset."""
        return Request(
            label="list of audiences",
            operation="list",
            method="GET",
            path=f"/{self.version}/***/custom-audience",
            target=f"{self._prefix}?from={_check_offset(cursor)}&limit={check_limit(limit)}",
            headers=self._headers,
        )

    def build_update(
        self,
        name: str,
        add: Sequence[str | Member],
        remove: Sequence[str | Member],
        *,
        id_type: IdType | str | None = None,
        distinct: bool = False,
    ) -> Request:
        """See https://doc.batch.com/developer/api/mep/custom-audience/1.0/update."""
        ids = encode_update(add, remove, self._version.rules, distinct=distinct)
        return self._request("update", "PATCH", name, body=self._body(ids, id_type))

    def build_replace(
        self, name: str, members: Sequence[str | Member], *, id_type: IdType | str | None = None
    ) -> Request:
        """See https://doc.batch.com/developer/api/mep/custom-audience/1.1/replace, and 1.0 by analogy."""
        ids = encode_replace(members, self.rules)
        return self._request("replace", "PUT", name, body=self._body(ids, id_type))

    def build_delete(self, name: str) -> Request:
        """See https://doc.batch.com/developer/api/mep/custom-audience/1.0/delete."""
        return self._request("delete", "DELETE", name)

    def read_token(self, request: Request, response: Response) -> str | None:
        """Return the token of an update or replace. Create and delete have none."""
        shape = _DONE if request.operation in {"create", "delete"} else _TOKEN
        return decode(request, response, shape, self._secrets)

    def read_view(self, request: Request, response: Response) -> Audience:
        """See https://doc.batch.com/developer/api/mep/custom-audience/1.0/view."""
        return read_view(request, response, self._shapes.view, self._secrets)

    def read_list(self, request: Request, response: Response) -> Page[Audience]:
        """See https://doc.batch.com/developer/api/mep/custom-audience/1.0/list."""
        audiences = decode(request, response, self._audiences, self._secrets)
        query = parse_qs(urlsplit(request.target).query)
        # The response has no count. So a full page may have another page after it.
        offset, limit = int(query["from"][0]), int(query["limit"][0])
        more = len(audiences) >= limit
        return Page(rows=audiences, next_cursor=str(offset + len(audiences)) if more else None)

    def read_states(self, request: Request, response: Response) -> StatesPage:
        """Read names only, because the rows of 1.x have no state."""
        page = self.read_list(request, response)
        rows = tuple(ListedState(row.name, row.indexing_state) for row in page.rows)
        return Page(rows=rows, next_cursor=page.next_cursor)

    def _body(self, ids: bytes, id_type: IdType | str | None) -> bytes:
        chosen = self.id_type(id_type)
        head = f'{{"type":"{chosen}","ids":[' if self._version.types_members else '{"ids":['
        return b"".join((head.encode(), ids, b"]}"))

    def _request(
        self, operation: str, method: str, name: str, *, query: str = "", body: bytes = b""
    ) -> Request:
        check_name(name)
        return Request(
            label=f"{operation} of audience {name!r}",
            operation=operation,
            audience=name,
            method=method,
            path=f"/{self.version}/***/custom-audience/{name}",
            target=f"{self._prefix}/{name}{query}",
            headers=self._headers,
            body=body,
            idempotent=operation != "create",
            # "HTTP 200 confirmation" on the page, with an empty object on an older one.
            allows_empty=operation == "delete",
        )


def _check_offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not isinstance(cursor, str) or not cursor.isascii() or not cursor.isdigit():
        msg = "cursor must be an offset in digits, or None for the first page."
        raise InvalidInputError(msg)
    return int(cursor)
