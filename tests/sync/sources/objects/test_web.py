"""A file on a web server is read by one request, and its secrets are masked."""

from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiobatch.errors import InvalidInputError
from aiobatch.sync._errors import SourceError
from aiobatch.sync.sources import has_literal_password, redact
from aiobatch.sync.sources._location import Objects
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources.objects._read import _open_server

from ....helpers.ports import reserved_port
from ...staged import refusal, staged

BODY = b"id\na\nb\n"


@attrs.define
class Answer:
    """An answer of the server.

    Attributes:
        body: Its body.
        headers: More headers.
        status: Its status.
        length: The length that it promises. None for none.
    """

    body: bytes = BODY
    headers: dict[str, str] = attrs.Factory(dict)
    status: int = 200
    length: int | None = -1


class Web(ThreadingHTTPServer):
    """A web server with answers by path. The last answer of a path is repeated."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.seen: list[tuple[str, str | None]] = []

    def url(self, path: str, userinfo: str = "") -> str:
        """Return the address of a path."""
        return f"http://{userinfo}127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        answers = self.server.answers[self.path.partition("?")[0]]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.length is not None:
            self.send_header("Content-Length", str(len(answer.body) if answer.length < 0 else answer.length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - the name of the library
        """Log nothing."""


@pytest.fixture(scope="module")
def _running() -> Iterator[Web]:
    with Web() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def web(_running: Web) -> Web:
    """Return a web server without files."""
    _running.answers, _running.seen = {}, []
    return _running


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"one"'},
        {"ETag": 'W/"weak"'},
        {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"},
        {},
        {"Content-Encoding": "identity"},
    ],
)
def test_files_are_read_with_and_without_a_version(headers: dict[str, str], web: Web, tmp_path: Path) -> None:
    """Servers need to send no ETag and no date."""
    web.answers["/ids.csv"] = [Answer(headers=headers)]
    assert staged(web.url("/ids.csv"), tmp_path).ids == {"a", "b"}


@pytest.mark.parametrize("path", ["/ids.csv", "/ids.csv.gz"])
def test_gzip_is_detected_by_the_content(path: str, web: Web, tmp_path: Path) -> None:
    """A server may compress a file for the transfer, or serve a compressed file."""
    web.answers[path] = [Answer(gzip.compress(BODY), {"Content-Encoding": "gzip"})]
    assert staged(web.url(path), tmp_path).ids == {"a", "b"}


def test_redirects_are_followed_without_the_password(web: Web, tmp_path: Path) -> None:
    """The password goes to the server of the address, in a header."""
    web.answers["/old.csv"] = [Answer(b"", {"Location": web.url("/n%20ew.csv?x=1")}, 302)]
    web.answers["/n%20ew.csv"] = [Answer()]
    assert staged(web.url("/old.csv", "me:p%40ss@"), tmp_path).ids == {"a", "b"}
    token = base64.b64encode(b"me:p@ss").decode()
    assert web.seen[0] == ("/old.csv", f"Basic {token}")
    assert web.seen[1][0] == "/n%20ew.csv?x=1"


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([Answer(status=404)], "it does not exist"),
        ([Answer(status=403)], "denies access"),
        ([Answer(status=401)], "denies access"),
        ([Answer(status=500)], "the store failed"),
        ([Answer(headers={"Content-Encoding": "br"})], "it is compressed with br"),
        ([Answer(length=None)], "sends no length"),
        ([Answer(length=50)], "before all bytes arrived"),
        ([Answer(b"<html><body>Please log in</body></html>")], "it is HTML"),
        ([Answer(headers={"ETag": '"1"'}), Answer(headers={"ETag": '"2"'})], "it changed while being read"),
        ([Answer(), Answer(b"id\na\n")], "it changed while being read"),
    ],
)
def test_bad_answers_are_errors_without_secrets(
    answers: list[Answer], problem: str, web: Web, tmp_path: Path
) -> None:
    """Each problem has its text, which contains no parameter, no password and no body."""
    web.answers["/ids.csv"] = answers
    url = web.url("/ids.csv?X-Amz-Signature=hunter2", "me:hunter3@")
    error = refusal(url, tmp_path, source_timeout=2)
    assert problem in str(error)
    assert "/ids.csv" in str(error)
    assert not any(secret in f"{error!s}{error!r}{error.location}" for secret in ("hunter2", "hunter3"))


def test_servers_that_do_not_answer_are_named(tmp_path: Path) -> None:
    """The wait ends with source_timeout."""
    with reserved_port() as port:
        error = refusal(f"http://127.0.0.1:{port}/a.csv", tmp_path, source_timeout=2)
    assert "does not answer" in str(error)


def test_short_copies_are_noticed(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of bytes must be that of the answer."""
    web.answers["/ids.csv"] = [Answer()]

    async def short(*_: object) -> int:
        return 3

    monkeypatch.setattr("aiobatch.sync.sources.objects._read._copy_stream", short)
    assert "not all of its bytes arrived" in str(refusal(web.url("/ids.csv"), tmp_path))


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("https:///a.csv", "not a URL with a host"),
        ("https://me:a/b@host:x/a.csv", "not a URL with a host"),
        ("https://host/dir/", "Web servers list no files"),
        ("https://host/*.csv?sig=hunter2", "Web servers list no files"),
    ],
)
def test_addresses_of_several_files_are_refused(address: str, problem: str) -> None:
    """A web server has no list of its files."""
    with pytest.raises(InvalidInputError, match=problem) as caught:
        Source.parse(address)
    assert "hunter2" not in str(caught.value)


def test_signed_addresses_are_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parameter may be a signature: it is masked, and no plan contains it, but a variable can."""
    url = "https://me:hunter3@host/a.csv?X-Amz-Date=1&X-Amz-Signature=hunter2#x"
    source = Source.parse(url)
    assert has_literal_password(url)
    assert has_literal_password("https://host/a.csv?hunter2")
    assert not has_literal_password("https://host/a.csv?sig=${SIG}")
    assert redact(url) == source.label == "https://me@host/a.csv"
    assert not any(secret in repr(source) for secret in ("hunter2", "hunter3"))
    with pytest.raises(InvalidInputError, match="A saved plan holds no password"):
        source.rereadable()
    with pytest.raises(InvalidInputError, match="environment variable"):
        Source(path=url)
    monkeypatch.setenv("SIGNED", url)
    kept = Source.parse("${SIGNED}").rereadable()
    assert kept.path == "${SIGNED}"
    assert isinstance(kept.location, Objects)
    assert kept.location.url.reveal() == url


def test_a_format_is_needed_without_a_suffix(web: Web, tmp_path: Path) -> None:
    """The path has the suffix. Parameters have none."""
    web.answers["/export"] = [Answer()]
    with pytest.raises(SourceError, match="no known suffix"):
        staged(web.url("/export?file=ids.csv"), tmp_path)
    assert staged(web.url("/export?file=ids.csv"), tmp_path, format="csv").ids == {"a", "b"}


def test_other_hosts_need_encryption() -> None:
    """Only a server on this machine is read without TLS."""
    assert "allow_http" not in _open_server("https://example.com/a.csv", 1).client_options
    assert "allow_http" in _open_server("http://127.0.0.1/a.csv", 1).client_options
