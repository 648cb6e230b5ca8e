from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from aiobatch import ConnectError, RetryPolicy
from aiobatch.sandbox import Sandbox

from .chaos_env import PROJECT_KEY, REST_KEY, Ground, ids, quick_sandbox
from .servers.nginx import Certificate, needs_nginx, running_nginx

PART = "Names, addresses and file descriptors"
EXACT = "upload, settle and sync end with exactly the source's members"


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")


async def _fill(ground: Ground, sandbox: Sandbox, url: str, **client: Any) -> None:
    """Upload and sync, and compare."""
    members = ids(ground.case.size(2_500, 50_000))
    async with ground.client(url, **client) as opened:
        await ground.upload(opened, members, "uploaded")
        await ground.sync(opened, members, "synced", chunk_size=ground.case.size(500, 10_000))
        ground.case.count(opened)
    for name in ("uploaded", "synced"):
        assert set(sandbox.members(name)) == set(members)
    ground.case.tell(f"0 of {2 * len(members):,} ids lost")


@needs_ipv6
@pytest.mark.fire(part=PART, done="plain http to a base_url of http://[::1]", holds=EXACT)
async def test_ipv6(ground: Ground) -> None:
    """An IPv6 address of this machine is one of its own."""
    async with quick_sandbox(host="::1") as sandbox:
        assert "[::1]" in sandbox.url
        await _fill(ground, sandbox, sandbox.url)


@needs_ipv6
@needs_nginx
@pytest.mark.fire(part=PART, done="TLS to a base_url of https://[::1], by nginx", holds=EXACT, short=False)
async def test_ipv6_with_tls(ground: Ground, nginx_directory: Path, certificate: Certificate) -> None:
    """A certificate may be for an IPv6 address."""
    context = ssl.create_default_context(cafile=certificate.authority)
    async with (
        quick_sandbox() as sandbox,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
    ):
        with running_nginx(nginx_directory, sandbox.port, certificate=certificate, host="::1") as nginx:
            await _fill(ground, sandbox, nginx.url, session=session)


class Resolver(AbstractResolver):
    """A resolver that knows one name, and fails a number of times before it says so.

    Attributes:
        failures: How often it will fail.
        asked: How often it was asked.
    """

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Fail, or answer this machine's address."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise OSError(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        """Do nothing."""


@pytest.mark.fire(
    part=PART,
    done="name resolution fails 5 times, then works; connections are closed after each request",
    holds=f"{EXACT}; while it fails, ConnectError names the host",
)
async def test_names_that_cannot_be_resolved_for_a_while(ground: Ground) -> None:
    """A name that is not known yet may be known soon: nothing was sent, so all is sent again."""
    resolver = Resolver(failures=5)
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
    async with quick_sandbox() as sandbox, aiohttp.ClientSession(connector=connector) as session:
        url = f"http://localhost:{sandbox.port}"
        few = RetryPolicy(attempts=2, initial=0.01)
        async with ground.client(url, session=session, retry=few) as client:
            with ground.expect(ConnectError, "no connection to localhost.*ClientConnectorDNSError"):
                await client.view("vip")
        await _fill(ground, sandbox, url, session=session)
        ground.case.tell(f"resolver asked {resolver.asked:,} times")


HEADERS = {
    "Authorization": f"Bearer {REST_KEY}",
    "X-Batch-Project": PROJECT_KEY,
    "Content-Type": "application/json",
}
_VIEWS = """
import asyncio, os, resource
from aiobatch import AudienceClient, Project

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

async def main():
    async with AudienceClient(Project.from_env()) as client:
        viewing = asyncio.create_task(view(client))
        most = 0
        while not viewing.done():
            await asyncio.sleep(0.01)
            most = max(most, len(os.listdir("/proc/self/fd")))
        print(await viewing, client.stats.retries, most)

async def view(client):
    return len([audience async for audience in client.view_many(f"a{n}" for n in range(1000))])

asyncio.run(main())
"""


@pytest.mark.fire(
    part=PART,
    done="1,000 concurrent views in a process that may open 64 files (RLIMIT_NOFILE)",
    holds="all are had, nothing is tried again, and file descriptors are left to others all the time",
)
async def test_few_file_descriptors(ground: Ground) -> None:
    """A client does not use up what its whole process may open."""
    async with quick_sandbox(indexing_delay=0.0) as sandbox:
        for number in range(1000):
            body = b'{"name": "a%d", "type": "custom_ids"}' % number
            assert sandbox.answer("POST", "/2.11/audiences/create", HEADERS, body)[0] == 202
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _VIEWS,
            env=ground.environment(sandbox.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = (text.decode() for text in await process.communicate())
        ground.keep(process.returncode, out, err)
        assert err == ""
        views, retries, descriptors = map(int, out.split())
        assert (views, retries) == (1000, 0)
        assert descriptors < 64
        ground.case.tell(f"{views:,} audiences, {retries} retries, {descriptors} files open at most")
