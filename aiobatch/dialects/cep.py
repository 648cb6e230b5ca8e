"""Audience API 2.x of the Customer Engagement Platform: one project, named by a header.

https://doc.batch.com/developer/api/cep/audiences/create and its neighbours. 2.1 to 2.11 have the same
routes, and so do later versions as far as is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic
from urllib.parse import quote

import attrs
import orjson

from .._secret import Secret
from ..interfaces import Request, Response
from ..models import Audience, IdType, Member, check_name
from ..options import Project
from ._base import (
    MAX_LIMIT,
    ListedState,
    Page,
    Row,
    StatesPage,
    check_cursor,
    check_description,
    check_limit,
    check_token,
    read_id_type,
)
from ._decoding import (
    AudienceShapes,
    FieldReports,
    Report,
    Shape,
    UnreadableFields,
    audience_shapes,
    decode,
    read_boolean,
    read_count,
    read_rows,
    read_string,
    read_token,
    read_view,
)
from ._error_responses import malformed
from ._member_encoding import MemberRules, check_members, encode_replace, encode_update

# https://doc.batch.com/developer/api/cep/audiences/update. Batch's product page names e-mails and install IDs
# too.
_ID_TYPES = (IdType.CUSTOM_IDS,)


@attrs.frozen
class _Listing(Generic[Row]):
    """The response to list."""

    audiences: tuple[Row, ...]
    has_more: bool
    next_from: str | None
    count: int | None


def _listing_shape(row: Shape[Row], unreadable: UnreadableFields) -> Shape[_Listing[Row]]:
    """Return the shape of a list's response, each row of which is read as *row*."""

    def read(answer: dict[str, Any]) -> _Listing[Row]:
        next_from = answer.get("next_from")
        return _Listing(
            audiences=read_rows(answer["audiences"], row),
            has_more=read_boolean(answer["has_more"]),
            next_from=None if next_from is None else read_string(next_from),
            count=unreadable.read(answer, "count", read_count),
        )

    return Shape(read, {"audiences": [], "has_more": False}, ("next_from",), rows={"audiences": row})


_TOKEN = Shape(lambda answer: read_token(answer["indexing_token"]), {"indexing_token": "t"})


@attrs.frozen
class CepDialect:
    """The dialect of one Project.

    Attributes:
        target: The project.
        report: Called once for each field that cannot be read, and for an undocumented type of IDs.
        rules: Whether members can have attributes and tags.
    """

    target: Project
    _report: Report | None = attrs.field(default=None, repr=False, eq=False)
    _prefix: str = attrs.field(init=False, repr=False, eq=False)
    rules: MemberRules = attrs.field(init=False, repr=False, eq=False)
    _headers: Mapping[str, str] = attrs.field(init=False, repr=False, eq=False)
    _secrets: tuple[Secret, ...] = attrs.field(init=False, repr=False, eq=False)
    _reports: FieldReports = attrs.field(init=False, repr=False, eq=False)
    _unreadable: UnreadableFields = attrs.field(init=False, repr=False, eq=False)
    _shapes: AudienceShapes = attrs.field(init=False, repr=False, eq=False)
    _audiences: Shape[_Listing[Audience]] = attrs.field(init=False, repr=False, eq=False)
    _states: Shape[_Listing[ListedState]] = attrs.field(init=False, repr=False, eq=False)

    lists_states: ClassVar[bool] = True

    @_prefix.default
    def _make_prefix(self) -> str:
        return f"/{self.version}/audiences"

    @rules.default
    def _make_rules(self) -> MemberRules:
        return MemberRules(api=f"Audience API {self.version}", attributes=True, tags=False)

    @_headers.default
    def _make_headers(self) -> Mapping[str, str]:
        return {
            "Authorization": f"Bearer {self.target.rest_api_key.reveal()}",
            "X-Batch-Project": self.target.project_key.reveal(),
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Cache-Control": "no-cache",
        }

    @_secrets.default
    def _make_secrets(self) -> tuple[Secret, ...]:
        return self.target.rest_api_key, self.target.project_key

    @_reports.default
    def _make_reports(self) -> FieldReports:
        return FieldReports(self._report)

    @_unreadable.default
    def _make_unreadable(self) -> UnreadableFields:
        return UnreadableFields(self._reports)

    @_shapes.default
    def _make_shapes(self) -> AudienceShapes:
        return audience_shapes("display_name", self._unreadable, self._secrets)

    @_audiences.default
    def _make_audiences(self) -> Shape[_Listing[Audience]]:
        return _listing_shape(self._shapes.row, self._unreadable)

    @_states.default
    def _make_states(self) -> Shape[_Listing[ListedState]]:
        return _listing_shape(self._shapes.state, self._unreadable)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy by way of the project, whose keys cannot be pickled."""
        return type(self), (self.target, self._report)

    @property
    def version(self) -> str:
        """The API's version, such as `"2.11"`."""
        return self.target.version

    def id_type(self, wanted: IdType | str | None) -> IdType:
        """Return *wanted*, or this version's default for None. Batch decides whether it accepts others."""
        chosen = read_id_type(wanted, _ID_TYPES[0])
        if chosen not in _ID_TYPES:
            self._reports.report("undocumented ID type, Batch decides on it", "id_type", chosen.value)
        return chosen

    def check_members(self, values: object, place: str, start: int = 0) -> None:
        """Check members as `build_update` does."""
        check_members(self.rules, values, place, start)

    def build_create(
        self, name: str, *, id_type: IdType | str | None = None, description: str | None = None
    ) -> Request:
        """See https://doc.batch.com/developer/api/cep/audiences/create."""
        fields: dict[str, str | None] = {"name": check_name(name), "type": self.id_type(id_type)}
        if check_description(description) is not None:
            fields["display_name"] = description
        return self._request("create", name, body=orjson.dumps(fields))

    def build_view(self, name: str, token: str | None = None) -> Request:
        """See https://doc.batch.com/developer/api/cep/audiences/view."""
        query = "" if token is None else f"&indexing_token={quote(check_token(token), safe='')}"
        return self._request("view", name, query=f"?name={check_name(name)}{query}")

    def build_list(self, cursor: str | None = None, *, limit: int = MAX_LIMIT) -> Request:
        """See https://doc.batch.com/developer/api/cep/audiences/list. The cursor is opaque."""
        start = "" if cursor is None else f"from={quote(check_cursor(cursor), safe='')}&"
        return Request(
            label="list of audiences",
            operation="list",
            method="GET",
            path=f"{self._prefix}/list",
            target=f"{self._prefix}/list?{start}limit={check_limit(limit)}",
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
        """See https://doc.batch.com/developer/api/cep/audiences/update."""
        self.id_type(id_type)
        return self._request(
            "update", name, body=_body(name, encode_update(add, remove, self.rules, distinct=distinct))
        )

    def build_replace(
        self, name: str, members: Sequence[str | Member], *, id_type: IdType | str | None = None
    ) -> Request:
        """See https://doc.batch.com/developer/api/cep/audiences/replace."""
        self.id_type(id_type)
        return self._request("replace", name, body=_body(name, encode_replace(members, self.rules)))

    def build_delete(self, name: str) -> Request:
        """See https://doc.batch.com/developer/api/cep/audiences/remove. It deletes the whole audience."""
        return self._request("delete", name, body=orjson.dumps({"name": check_name(name)}))

    def read_token(self, request: Request, response: Response) -> str | None:
        """Return the token. Every write has one."""
        return decode(request, response, _TOKEN, self._secrets)

    def read_view(self, request: Request, response: Response) -> Audience:
        """See https://doc.batch.com/developer/api/cep/audiences/view."""
        return read_view(request, response, self._shapes.view, self._secrets)

    def read_list(self, request: Request, response: Response) -> Page[Audience]:
        """See https://doc.batch.com/developer/api/cep/audiences/list."""
        return _to_page(request, response, decode(request, response, self._audiences, self._secrets))

    def read_states(self, request: Request, response: Response) -> StatesPage:
        """Read the same page in a third of the time."""
        return _to_page(request, response, decode(request, response, self._states, self._secrets))

    def _request(self, operation: str, name: str, *, query: str = "", body: bytes = b"") -> Request:
        route = "remove" if operation == "delete" else operation
        return Request(
            label=f"{operation} of audience {name!r}",
            operation=operation,
            audience=name,
            method="POST" if body else "GET",
            path=f"{self._prefix}/{route}",
            target=f"{self._prefix}/{route}{query}",
            headers=self._headers,
            body=body,
            idempotent=operation != "create",
        )


def _to_page(request: Request, response: Response, answer: _Listing[Row]) -> Page[Row]:
    """Return a page. The last page has no cursor, whatever `next_from` holds."""
    if answer.has_more and not answer.next_from:
        raise malformed(request, response, ["has_more is true, but next_from is missing @ $.next_from"])
    cursor = answer.next_from if answer.has_more else None
    return Page(rows=answer.audiences, next_cursor=cursor, count=answer.count)


def _body(name: str, ids: bytes) -> bytes:
    return b"".join((b'{"name":"', check_name(name).encode(), b'","ids":[', ids, b"]}"))
