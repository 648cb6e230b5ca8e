"""Targets for responses of Batch and of proxies: results, errors and headers."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable, Iterator

import attrs

from aiobatch import App, Audience, IndexingToken, Project
from aiobatch._backoff import parse_http_date, parse_retry_after
from aiobatch.dialects import Dialect, Page, dialect_for
from aiobatch.errors import MalformedResponseError, RateLimitedError, ResponseError
from aiobatch.interfaces import Request, Response

REST_KEY = "rest-7d1f0c"
APP_KEY = "app-5e2b9a"
PROJECT_KEY = "project-3c8e44"

_DIALECTS: tuple[Dialect, ...] = (
    dialect_for(App(rest_api_key=REST_KEY, api_key=APP_KEY)),
    dialect_for(App(rest_api_key=REST_KEY, api_key=APP_KEY, version="1.1")),
    dialect_for(Project(rest_api_key=REST_KEY, project_key=PROJECT_KEY)),
)
_STATUSES = (199, 300, 301, 304, 400, 401, 403, 404, 408, 409, 413, 429, 500, 502, 503, 504, 599, 600, 999)
_LONGEST_MESSAGE = 201
# Runs long enough to be an ID, and words of the error messages that look like them.
_RUN = re.compile(r"[\w@.+-]{6,}")
_MESSAGE_WORDS = re.compile(
    r"2018-06-29T13:12:09|indexing_token|indexing_state|custom_audiences|audiences|display_name|description|"
    r"nb_ids|has_more|next_from|created|updated|unexpected|character|characters|surrogate|control|string|"
    r"object|number|boolean|escape|invalid|expected|column|integer|between|document|content|trailing|"
    r"required|missing|printable|without|spaces"
)


@attrs.frozen
class _Reading:
    """A request with the reader of its response."""

    dialect: Dialect
    request: Request
    read: Callable[[Request, Response], object]


def _readings() -> Iterator[_Reading]:
    """Yield every reader of every dialect."""
    for dialect in _DIALECTS:
        yield _Reading(dialect, dialect.build_view("vip"), dialect.read_view)
        yield _Reading(dialect, dialect.build_list(), dialect.read_list)
        for write in (
            dialect.build_create("vip"),
            dialect.build_update("vip", ["a"], []),
            dialect.build_replace("vip", ["a"]),
            dialect.build_delete("vip"),
        ):
            yield _Reading(dialect, write, dialect.read_token)


_READINGS = tuple(_readings())


def read_answers(body: bytes) -> None:
    """Read a body as every 2xx response in every dialect."""
    for reading in _READINGS:
        try:
            read = reading.read(reading.request, Response(status=200, body=body))
        except MalformedResponseError as error:
            _check_kept(error, reading.dialect)
            _check_silent(" ".join(error.problems), body)
        else:
            _check_read(reading.dialect, read)


def _check_read(dialect: Dialect, read: object) -> None:
    """Check the result of a reader, and that it can be used."""
    if isinstance(read, Audience):
        _check_audience(read)
    elif isinstance(read, Page):
        for audience in read.rows:
            _check_audience(audience)
        assert read.count is None or read.count >= 0
        assert dialect.build_list(read.next_cursor).target.isascii()
    elif read is not None:
        token = IndexingToken("vip", str(read))
        assert IndexingToken.parse(str(token)) == token
        assert dialect.build_view("vip", token.value).target.isascii()


def _check_audience(audience: Audience) -> None:
    """Check the types of an audience's fields."""
    assert type(audience.name) is str
    assert audience.id_type is None or isinstance(audience.id_type, str)
    assert audience.nb_ids is None or (type(audience.nb_ids) is int and audience.nb_ids >= 0)
    for moment in (audience.created, audience.updated):
        assert moment is None or moment.utcoffset() is not None
        assert moment is None or moment.isoformat()
    assert pickle.loads(pickle.dumps(audience)) == audience  # noqa: S301 - pickled here


def read_errors(data: bytes) -> None:
    """Read an error. *data* has bytes for status and operation, a line for Retry-After, and a body."""
    if len(data) < 2:
        return
    reading = _READINGS[data[1] % len(_READINGS)]
    head, _, body = data[2:].partition(b"\n")
    headers = {"retry-after": head.decode("utf-8", "surrogateescape"), "date": head.decode("latin-1")}
    response = Response(status=_STATUSES[data[0] % len(_STATUSES)], headers=headers, body=body)
    try:
        reading.read(reading.request, response)
    except ResponseError as error:
        _check_kept(error, reading.dialect)
        _check_error(error, response)
    else:
        msg = f"a {response.status} raised no error"
        raise AssertionError(msg)


def _check_error(error: ResponseError, response: Response) -> None:
    """Check the attributes of an error."""
    assert error.status == response.status
    assert error.code is None or type(error.code) is int
    assert error.name is None or re.fullmatch(r"[A-Z*][A-Z0-9_*]*", error.name)
    assert error.message is None or (len(error.message) <= _LONGEST_MESSAGE and error.message.isprintable())
    assert str(error).isprintable()
    if isinstance(error, RateLimitedError) and error.retry_after is not None:
        assert 0 <= error.retry_after < math.inf


def _check_kept(error: Exception, dialect: Dialect) -> None:
    """Check that an error has no key of its dialect and can be pickled."""
    shown = f"{error} {error!r} {vars(error)}"
    assert REST_KEY not in shown
    assert (PROJECT_KEY if dialect.lists_states else APP_KEY) not in shown
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled here
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    assert error.__cause__ is None
    assert error.__context__ is None


def _check_silent(text: str, body: bytes) -> None:
    """Check that an error repeats no value of a body, which may be a user's ID."""
    words = set(_RUN.findall(_MESSAGE_WORDS.sub(" ", text)))
    repeated = words.intersection(_RUN.findall(body.decode("utf-8", "replace")))
    assert not repeated, f"the error repeats {repeated}"


def read_retry_after(data: bytes) -> None:
    """Read a line as Retry-After and as a date. A second line is the date of the response."""
    value, _, other = data.decode("utf-8", "surrogateescape").partition("\n")
    now = parse_http_date(other)
    assert now is None or math.isfinite(now)
    for moment in (None, 0.0, 1.7e9, now):
        seconds = parse_retry_after(value, moment)
        assert seconds is None or 0 <= seconds < math.inf
