"""Servers that require a certificate of the client, with TLS 1.2 and 1.3."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import TCPConnector

from aiobatch import AudienceClient, IndexingToken, Project
from aiobatch.errors import ConnectError
from aiobatch.transport import Session

from .support import assert_no_key, make_request, open_transport, raw_server

AUTHORITY, OTHER_AUTHORITY = trustme.CA(), trustme.CA()
SERVER = AUTHORITY.issue_cert("localhost")


@asynccontextmanager
async def _server(version: ssl.TLSVersion) -> AsyncIterator[str]:
    """Serve TLS as OpenSSL's own servers do: a refused client gets the alert before the connection closes.

    asyncio's server closes the connection without an alert.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    SERVER.configure_cert(context)
    AUTHORITY.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(received, to_send, server_side=True)
        is_refused = False
        while not is_refused:
            received.write(await reader.read(65_536))
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                is_refused = True
            writer.write(to_send.read())
            await writer.drain()
        writer.write_eof()
        while await reader.read(65_536):  # a close with unread data would reset the connection
            pass

    async with raw_server(handle) as url:
        yield url.replace("http://127.0.0.1", "https://localhost")


def _session(certificate: str) -> Session:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    if certificate == "untrusted":
        OTHER_AUTHORITY.issue_cert("me@example.com").configure_cert(context)
    return Session(connector=TCPConnector(ssl=context))


@pytest.mark.parametrize("size", [0, 300_000])
@pytest.mark.parametrize("certificate", ["none", "untrusted"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
async def test_refused_client_is_a_lasting_connect_error(
    version: ssl.TLSVersion, certificate: str, size: int
) -> None:
    """With TLS 1.3 the alert arrives at the first read, after the handshake. The error is the same."""
    async with (
        _server(version) as url,
        _session(certificate) as session,
        open_transport(url, session=session, seconds=60) as transport,
    ):
        request = make_request(method="POST" if size else "GET", body=b"x" * size)
        with pytest.raises(ConnectError) as caught:
            await transport.send(request)
    error = caught.value
    assert error.lasting
    assert "It may require a client certificate, or refuse the one it got." in str(error)
    assert "ALERT_" in str(error)
    assert_no_key(error)


async def test_refused_client_ends_a_wait() -> None:
    """Waiting does not help, so the wait ends with the first poll."""
    project = Project(rest_api_key="rest", project_key="project")
    async with (
        _server(ssl.TLSVersion.TLSv1_3) as url,
        _session("none") as session,
        AudienceClient(project, base_url=url, session=session) as client,
    ):
        with pytest.raises(ConnectError, match="client certificate"):
            await client.await_applied(IndexingToken("vip", "t"), timeout=None)
        assert client.stats.polls == 1
