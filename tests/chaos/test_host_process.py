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

from .chaos_env import PROJECT_KEY, REST_KEY, ChaosEnv, ids, quick_sandbox
from .servers.nginx import Certificate, needs_nginx, running_nginx

PART = "Names, addresses and file descriptors"
EXACT = "after upload, settle and sync, the audiences have exactly the source's members"


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")


async def _fill(chaos_env: ChaosEnv, sandbox: Sandbox, url: str, **client: Any) -> None:
    """Upload and sync, and compare the members."""
    members = ids(chaos_env.case.size(2_500, 50_000))
    async with chaos_env.client(url, **client) as opened:
        await chaos_env.upload(opened, members, "uploaded")
        await chaos_env.sync(opened, members, "synced", chunk_size=chaos_env.case.size(500, 10_000))
        chaos_env.case.add_requests(opened)
    for name in ("uploaded", "synced"):
        assert set(sandbox.members(name)) == set(members)
    chaos_env.case.add_fact(f"0 of {2 * len(members):,} IDs lost")


@needs_ipv6
@pytest.mark.chaos(part=PART, done="plain http to a base_url of http://[::1]", holds=EXACT)
async def test_ipv6_loopback(chaos_env: ChaosEnv) -> None:
    """Plain http to an IPv6 loopback address is allowed."""
    async with quick_sandbox(host="::1") as sandbox:
        assert "[::1]" in sandbox.url
        await _fill(chaos_env, sandbox, sandbox.url)


@needs_ipv6
@needs_nginx
@pytest.mark.chaos(
    part=PART, done="TLS to a base_url of https://[::1], served by nginx", holds=EXACT, short=False
)
async def test_ipv6_with_tls(chaos_env: ChaosEnv, nginx_directory: Path, certificate: Certificate) -> None:
    """A certificate can be for an IPv6 address."""
    context = ssl.create_default_context(cafile=certificate.authority)
    async with (
        quick_sandbox() as sandbox,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
    ):
        with running_nginx(nginx_directory, sandbox.port, certificate=certificate, host="::1") as nginx:
            await _fill(chaos_env, sandbox, nginx.url, session=session)


class Resolver(AbstractResolver):
    """A resolver that fails a number of times, then returns the loopback address.

    Attributes:
        failures: The number of failures left.
        calls: The number of calls.
    """

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Fail, or return the loopback address."""
        self.calls += 1
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise OSError(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        """Do nothing."""


@pytest.mark.chaos(
    part=PART,
    done="name resolution fails 5 times, then works. Connections are closed after each request",
    holds=f"{EXACT}. While it fails, ConnectError names the host",
)
async def test_failed_name_resolution_is_retried(chaos_env: ChaosEnv) -> None:
    """Nothing was sent if a name cannot be resolved, so every request is retried."""
    resolver = Resolver(failures=5)
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
    async with quick_sandbox() as sandbox, aiohttp.ClientSession(connector=connector) as session:
        url = f"http://localhost:{sandbox.port}"
        few = RetryPolicy(attempts=2, initial=0.01)
        async with chaos_env.client(url, session=session, retry=few) as client:
            with chaos_env.expect(ConnectError, "no connection to localhost.*ClientConnectorDNSError"):
                await client.view("vip")
        await _fill(chaos_env, sandbox, url, session=session)
        chaos_env.case.add_fact(f"resolver called {resolver.calls:,} times")


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


@pytest.mark.chaos(
    part=PART,
    done="1,000 concurrent views in a process that may open 64 files (RLIMIT_NOFILE)",
    holds="all views succeed without retries, and some file descriptors are always free",
)
async def test_client_leaves_file_descriptors_free(chaos_env: ChaosEnv) -> None:
    """A client does not use up the file descriptors of its process."""
    async with quick_sandbox(indexing_delay=0.0) as sandbox:
        for number in range(1000):
            body = b'{"name": "a%d", "type": "custom_ids"}' % number
            assert sandbox.answer("POST", "/2.11/audiences/create", HEADERS, body)[0] == 202
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _VIEWS,
            env=chaos_env.environment(sandbox.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = (text.decode() for text in await process.communicate())
        chaos_env.keep(process.returncode, out, err)
        assert err == ""
        views, retries, descriptors = map(int, out.split())
        assert (views, retries) == (1000, 0)
        assert descriptors < 64
        chaos_env.case.add_fact(f"{views:,} audiences, {retries} retries, {descriptors} files open at most")
