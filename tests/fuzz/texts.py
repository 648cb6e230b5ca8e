"""Targets for short texts: tokens, flags of the sandbox, URLs, database addresses."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import orjson

from aiobatch import App, IndexingToken, InvalidInputError, Project
from aiobatch.dialects import dialect_for
from aiobatch.sandbox import (
    API_KEY,
    PROJECT_KEY,
    REST_API_KEY,
    Sandbox,
    SandboxOptions,
    parse_fault,
    parse_indexing_delay,
    parse_rate,
)
from aiobatch.sync.sources._dsn import expand, has_literal_password, redact, scrub
from aiobatch.sync.sources._source import Source
from aiobatch.transport import check_base_url

_DIALECTS = (
    dialect_for(App(rest_api_key=REST_API_KEY, api_key=API_KEY)),
    dialect_for(Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)),
)
_HEADERS = {
    "X-Authorization": REST_API_KEY,
    "Authorization": f"Bearer {REST_API_KEY}",
    "X-Batch-Project": PROJECT_KEY,
    "Content-Type": "application/json",
}
# A password that cannot be confused with a user name, host or parameter.
SECRET = "s3kr1t-9Q"
_ENVIRONMENT = {"PW": SECRET, "HOST": "db.example", "DSN": f"postgresql://u:{SECRET}@h/db", "EMPTY": ""}


def _text(data: bytes) -> str:
    """Decode bytes as Python decodes a command-line argument."""
    return data.decode("utf-8", "surrogateescape")


def read_token(data: bytes) -> None:
    """Parse a token, format it again, and build a view with it."""
    try:
        token = IndexingToken.parse(_text(data))
    except InvalidInputError as error:
        length = len(str(error))
        assert length < 300, "the error repeats the text"
        return
    assert str(token) == _text(data)
    assert IndexingToken.parse(str(token)) == token
    assert "\n" not in str(token)
    for dialect in _DIALECTS:
        target = dialect.build_view(token.audience, token.value).target
        assert target.isascii()
        assert parse_qs(urlsplit(target).query)["indexing_token"] == [token.value]


def read_flags(data: bytes) -> None:
    """Read a text as each flag of the sandbox, and let a sandbox live with what it means."""
    text = _text(data)
    readers: tuple[Callable[[], SandboxOptions], ...] = (
        lambda: SandboxOptions(faults=dict([parse_fault(text)])),
        lambda: SandboxOptions(rate=parse_rate(text)),
        lambda: SandboxOptions(indexing_delay=parse_indexing_delay(text)),
    )
    for reader in readers:
        with contextlib.suppress(InvalidInputError):
            _live(reader())


def _live(options: SandboxOptions) -> None:
    """Send a sandbox a few requests, with years between them."""
    ticks = itertools.count(0, 1e8)
    sandbox = Sandbox(options, monotonic=lambda: next(ticks))
    body = orjson.dumps({"name": "vip", "type": "custom_ids"})
    for _ in range(3):
        for method, target in (("POST", "/2.11/audiences/create"), ("GET", "/2.11/audiences/view?name=vip")):
            with contextlib.suppress(ConnectionResetError):
                status, _, _ = sandbox.answer(method, target, _HEADERS, body)
                assert status < 500 or options.faults


def read_base_url(data: bytes) -> None:
    """Check a base URL. The standard library must accept what is accepted."""
    with contextlib.suppress(InvalidInputError):
        parts = urlsplit(check_base_url(_text(data)))
        assert parts.scheme in {"http", "https"}
        assert parts.hostname
        assert parts.port is None or parts.port < 65_536
        assert not any((parts.username, parts.password, parts.query, parts.fragment))
        is_local = parts.hostname == "localhost" or (
            parts.scheme == "http" and ipaddress.ip_address(parts.hostname).is_loopback
        )
        assert parts.scheme == "https" or is_local


def read_dsn(data: bytes) -> None:
    """Parse a source. Its label, repr and errors must contain no password."""
    text = _text(data)
    with contextlib.suppress(InvalidInputError):
        text = expand(text, _ENVIRONMENT)
    shown = [redact(text), scrub(f"no route to {text}", text)]
    try:
        source = Source.parse(text, query="SELECT 1" if "://" in text else None)
    except InvalidInputError as error:
        shown.append(str(error))
    else:
        shown += [source.label, repr(source)]
    if _is_password(text):
        assert has_literal_password(text)
        assert not [text_shown for text_shown in shown if SECRET in text_shown], "the password is shown"


def _is_password(text: str) -> bool:
    """Return whether the secret is where a driver reads a password."""
    if set(text) & set("\r\n\t"):  # urlsplit() removes these, a driver does not
        return False
    try:
        parts = urlsplit(text)
        userinfo = parts.netloc.rpartition("@")[0]
    except ValueError:
        return False
    in_query = any(SECRET in one for one in parse_qs(parts.query).get("password", []))
    return "://" in text and text.count(SECRET) == 1 and (SECRET in userinfo.partition(":")[2] or in_query)
