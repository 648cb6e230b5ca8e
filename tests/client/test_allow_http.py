from __future__ import annotations

import socket
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver

from aiobatch import AudienceClient, InvalidInputError, Project
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY
from aiobatch.testing import running_sandbox

PROJECT = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
WARNING = "keys are sent without encryption"


class Names(AbstractResolver):
    """Resolves every name to this machine, as a network of containers does."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[Any]:
        """Return the loopback address."""
        return [
            {"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}
        ]

    async def close(self) -> None:
        """Do nothing."""


async def test_sandbox_in_another_container_is_reached(caplog: pytest.LogCaptureFixture) -> None:
    """With allow_http, a client sends to a name of another machine, and logs one warning without keys."""
    connector = aiohttp.TCPConnector(resolver=Names())
    async with (
        running_sandbox(host="0.0.0.0", indexing_delay=0) as sandbox,  # noqa: S104 - as in a container
        aiohttp.ClientSession(connector=connector) as session,
        AudienceClient(
            PROJECT, base_url=f"http://sandbox:{sandbox.port}", allow_http=True, session=session
        ) as client,
    ):
        await client.create("vip")
        await client.view("vip")
        assert sandbox.url == f"http://127.0.0.1:{sandbox.port}"
        host = f"sandbox:{sandbox.port}"
    warnings = [record for record in caplog.records if WARNING in record.getMessage()]
    assert [record.getMessage() for record in warnings] == [f"{WARNING}: host={host}"]


def test_plain_http_is_refused_otherwise() -> None:
    """The default is no plain http to another machine, and none to Batch in any case."""
    with pytest.raises(InvalidInputError, match="allow_http=True"):
        AudienceClient(PROJECT, base_url="http://sandbox:8765")
    with pytest.raises(InvalidInputError, match="never allowed"):
        AudienceClient(PROJECT, base_url="http://api.batch.com", allow_http=True)


@pytest.mark.parametrize("url", ["https://sandbox", "http://127.0.0.1:1", "http://localhost:1"])
def test_safe_origin_logs_no_warning(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """What needs no permission is not warned about, even if it is given."""
    AudienceClient(PROJECT, base_url=url, allow_http=True)
    assert WARNING not in caplog.text
