"""A PostgreSQL server that stops to answer is cut off, so that the run can end."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator

import attrs
import duckdb
import pytest

from aiobatch.sync.sources import _interruptible
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._interruptible import ServerSockets
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage


class _StopError(Exception):
    """The error of a callback that stops the query."""


@attrs.define(eq=False)
class Relay:
    """Passes bytes to a server, until it is frozen. Then it accepts connections and bytes, and is silent.

    Attributes:
        port: Its port.
        answered: Bytes from the server so far.
        most: The bytes after which it freezes.
    """

    target: int
    most: int
    answered: int = 0
    frozen: threading.Event = attrs.field(factory=threading.Event)
    _listener: socket.socket = attrs.field(factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _ended: threading.Event = attrs.field(factory=threading.Event)

    @property
    def port(self) -> int:
        """Its port."""
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Relay until `end`."""
        with selectors.DefaultSelector() as found, self._listener:
            found.register(self._listener, selectors.EVENT_READ)
            while not self._ended.is_set():
                for key, _ in found.select(0.05):
                    self._step(found, key)
            for key in list(found.get_map().values()):
                if key.fileobj is not self._listener:
                    key.fileobj.close()  # type: ignore[union-attr]  # sockets

    def _step(self, found: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        if key.fileobj is self._listener:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            found.register(client, selectors.EVENT_READ, (server, False))
            found.register(server, selectors.EVENT_READ, (client, True))
            return
        other, is_server = key.data
        data = key.fileobj.recv(65536)  # type: ignore[union-attr]  # a socket
        if not data:
            found.unregister(key.fileobj)
        self.answered += len(data) if is_server else 0
        if self.answered > self.most:
            self.frozen.set()
        if not self.frozen.is_set():
            other.sendall(data)

    def end(self) -> None:
        """Close all connections."""
        self._ended.set()


@pytest.fixture
def relay(postgresql: str) -> Iterator[Relay]:
    """Start a relay to the server, which freezes when some thousand rows were sent."""
    relay = Relay(int(postgresql.rpartition(":")[2].partition("/")[0]), most=100_000)
    thread = threading.Thread(target=relay.serve)
    thread.start()
    yield relay
    relay.end()
    thread.join()


@pytest.mark.parametrize(
    ("query", "most"),
    [("SELECT 'u' || i AS id FROM generate_series(1, 3000000) i", 100_000), ("SELECT 'a' AS id", 2_000)],
)
def test_frozen_server_is_cut_off(
    relay: Relay, postgresql: str, query: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a stream that stopped nor a query or a cancel without an answer blocks the end."""
    monkeypatch.setattr(_interruptible, "_PATIENCE", 0.2)
    relay.most = most
    address = postgresql.replace(f":{relay.target}/", f":{relay.port}/")

    def stop_when_frozen(_rows: int) -> None:
        if relay.frozen.is_set():
            raise _StopError

    with duckdb.connect() as connection, pytest.raises(_StopError):
        stage(connection, Source.parse(address, query=query), IdRules(), on_progress=stop_when_frozen)
    assert relay.frozen.is_set()


def test_only_sockets_to_the_server_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket to another port, one from before and one of another kind stay open."""
    monkeypatch.setattr(_interruptible, "_PATIENCE", -1.0)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        address, elsewhere = server.getsockname(), other.getsockname()
        sockets = ServerSockets(f"postgresql://user@127.0.0.1:{address[1]}/db")
        with socket.create_connection(address) as before:
            with sockets.opened_here():
                opened, far = socket.create_connection(address), socket.create_connection(elsewhere)
                idle = socket.socket()
            with opened, far, idle:
                called = threading.Event()
                for _ in range(2):
                    sockets.cancel(called.set)
                assert called.wait(60)
                with pytest.raises(OSError, match=r"Broken pipe|not connected"):
                    opened.sendall(b"x")
                before.sendall(b"x")
                far.sendall(b"x")


@pytest.mark.parametrize(
    ("peer", "is_server"),
    [("/run/.s.PGSQL.5432", True), ("/run/other", False), (("::1", 5432, 0, 0), True), (b"", False)],
)
def test_peers_of_a_driver_are_recognised(peer: object, is_server: bool) -> None:
    """A server has the port of the connection string, the usual one, or a socket with the usual name."""
    assert ServerSockets("postgresql:///db")._is_server(peer) is is_server


def test_server_has_time_to_cancel() -> None:
    """A query that is about to be cancelled is not cut off, and the server is asked once."""
    asked: list[bool] = []
    sockets = ServerSockets("postgresql:///db")
    for _ in range(2):
        sockets.cancel(lambda: asked.append(True))
    assert sockets._cancelling is not None
    sockets._cancelling.join()
    assert asked == [True]
