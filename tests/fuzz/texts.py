"""What a person or a file gives in a word: tokens, flags of the sandbox, addresses of databases."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import orjson

from aiobatch import App, IndexingToken, InvalidInputError, Project
from aiobatch.dialects import dialect_for
from aiobatch.options import check_base_url
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
# A password that could be nobody's user name, host or parameter.
SECRET = "s3kr1t-9Q"
_ENVIRONMENT = {"PW": SECRET, "HOST": "db.example", "DSN": f"postgresql://u:{SECRET}@h/db", "EMPTY": ""}


def _text(data: bytes) -> str:
    """Return bytes as what Python makes of an argument that is no UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def read_token(data: bytes) -> None:
    """Read a text as a token, write it again, and ask for it."""
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
    """Ask a sandbox a few things, over years."""
    ticks = itertools.count(0, 1e8)
    sandbox = Sandbox(options, monotonic=lambda: next(ticks))
    body = orjson.dumps({"name": "vip", "type": "custom_ids"})
    for _ in range(3):
        for method, target in (("POST", "/2.11/audiences/create"), ("GET", "/2.11/audiences/view?name=vip")):
            with contextlib.suppress(ConnectionResetError):
                status, _, _ = sandbox.answer(method, target, _HEADERS, body)
                assert status < 500 or options.faults


def read_base_url(data: bytes) -> None:
    """Read a text as where the API is; what is taken for an origin is one to the standard library as well."""
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
    """Read a text as a source; what it says of itself holds no password."""
    text = _text(data)
    with contextlib.suppress(InvalidInputError):
        text = expand(text, _ENVIRONMENT)
    says = [redact(text), scrub(f"no route to {text}", text)]
    try:
        source = Source.parse(text, query="SELECT 1" if "://" in text else None)
    except InvalidInputError as error:
        says.append(str(error))
    else:
        says += [source.label, repr(source)]
    if _is_password(text):
        assert has_literal_password(text)
        assert not [words for words in says if SECRET in words], "the password is shown"


def _is_password(text: str) -> bool:
    """Tell whether the secret stands where a driver reads a password."""
    if set(text) & set("\r\n\t"):  # urlsplit() takes these away, a driver does not
        return False
    try:
        parts = urlsplit(text)
        userinfo = parts.netloc.rpartition("@")[0]
    except ValueError:
        return False
    in_query = any(SECRET in one for one in parse_qs(parts.query).get("password", []))
    return "://" in text and text.count(SECRET) == 1 and (SECRET in userinfo.partition(":")[2] or in_query)
