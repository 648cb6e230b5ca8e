"""An S3 server on this machine, and a proxy before it that loses requests and answers."""

from __future__ import annotations

import contextlib
import http.client
import logging
import random
import socket
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Final

import attrs

from .threaded_server import running_server

_HOP_BY_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "date", "server"})
KEY_ID: Final = "AKIDEXAMPLEOFTHETESTS"
SECRET: Final = "secret-of-the-store-of-the-tests"


@attrs.define(eq=False)
class S3Server:
    """A running server.

    Attributes:
        port: Its port on 127.0.0.1.
        faults: The proxy before it. None if clients talk to the server itself.
    """

    port: int
    faults: Faults | None = None

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of a client."""
        port = self.port if self.faults is None else self.faults.port
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def create_bucket(self, name: str) -> None:
        """Create a bucket."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        credential = f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request"
        connection.request("PUT", f"/{name}", headers={"Authorization": credential})
        assert connection.getresponse().status == 200
        connection.close()


@attrs.define(eq=False)
class Faults:
    """A proxy that loses a share of the requests and answers.

    Attributes:
        port: Its port.
        share: The share of requests with a fault, from 0 to 1.
        rng: Draws the faults.
        count: Number of faults.
    """

    port: int
    share: float
    rng: random.Random
    count: int = 0

    def draw(self) -> str | None:
        """Return a fault of one request: `refuse`, `cut`, `lose` (after the server did it) or None."""
        if self.rng.random() >= self.share:
            return None
        self.count += 1
        return self.rng.choice(["refuse", "cut", "lose", "refuse after"])


@contextlib.contextmanager
def running_s3() -> Iterator[S3Server]:
    """Run a server in a thread."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield S3Server(server.get_host_and_port()[1])
    finally:
        server.stop()


@contextlib.contextmanager
def faulty(server: S3Server, share: float, *, seed: int = 0) -> Iterator[S3Server]:
    """Run a proxy before a server.

    Args:
        server: The server.
        share: The share of requests with a fault.
        seed: The seed of the faults.
    """
    faults = Faults(0, share, random.Random(seed))

    class Handler(_Proxy):
        pass

    Handler.upstream, Handler.faults = server.port, faults
    with running_server(Handler) as faults.port:
        yield S3Server(server.port, faults)


class _Proxy(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    upstream: int
    faults: Faults

    def handle_one_request(self) -> None:
        """Handle one request. A client that was killed ends its connection."""
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()
            return
        self.close_connection = True

    def forward(self) -> None:
        """Forward a request, or lose it or its answer."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fault = self.faults.draw()
        if fault == "cut":
            self._cut()
            return
        if fault == "refuse":
            self._answer(503, {}, b"")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream)
        try:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if fault == "lose":
            self._cut()
        elif fault == "refuse after":
            self._answer(503, {}, b"")
        else:
            self._answer(answer.status, dict(answer.getheaders()), content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815 - the names of http.server

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        size = headers.get("content-length", headers.get("Content-Length", "0"))
        self.send_header("content-length", size if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of http.server
        """Log nothing."""
