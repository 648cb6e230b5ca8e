from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from aiobatch import AiobatchError, ConnectError, ResponseError, UploadError
from aiobatch.sandbox import Sandbox
from aiobatch.sync import BULK_RETRY

from .chaos_env import FAST_POLICIES, ChaosEnv, ids, quick_sandbox, served, wait_until
from .servers.nginx import Certificate, Nginx, needs_nginx, running_nginx

PART = "Behind nginx"
EXACT = "after upload, settle and sync, the audiences have exactly the source's members"
pytestmark = needs_nginx


def _fact(nginx: Nginx) -> str:
    statuses = ", ".join(f"{status} ({number:,})" for status, number in sorted(nginx.statuses().items()))
    return f"nginx's responses: {statuses} on {nginx.connections():,} connections"


async def _fill(chaos_env: ChaosEnv, sandbox: Sandbox, nginx: Nginx, **client: Any) -> None:
    """Upload and sync through nginx, and compare the members."""
    members = ids(chaos_env.case.size(2_500, 100_000))
    async with chaos_env.client(nginx.url, **client) as opened:
        await chaos_env.upload(opened, members, "uploaded")
        report = await chaos_env.sync(opened, members, "synced", chunk_size=chaos_env.case.size(500, 10_000))
        assert report.adds == len(members)
        assert not (await chaos_env.sync(opened, members, "synced")).changes
        chaos_env.case.add_requests(opened)
    for name in ("uploaded", "synced"):
        assert set(sandbox.members(name)) == set(members)
    chaos_env.case.add_fact(f"{_fact(nginx)}, 0 of {2 * len(members):,} IDs lost")


@pytest.mark.chaos(part=PART, done="TLS with an authority that the session's context trusts", holds=EXACT)
async def test_tls_with_the_sessions_context(
    chaos_env: ChaosEnv, nginx_directory: Path, certificate: Certificate
) -> None:
    """A session with its own SSL context uses it."""
    context = ssl.create_default_context(cafile=certificate.authority)
    async with (
        quick_sandbox() as sandbox,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
    ):
        with running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx:
            await _fill(chaos_env, sandbox, nginx, session=session)


@pytest.mark.chaos(
    part=PART,
    done="TLS with the authority in SSL_CERT_FILE, for `aiobatch sync`",
    holds="exit code 0 and exactly the source's members",
    short=False,
)
def test_tls_with_ssl_cert_file(chaos_env: ChaosEnv, nginx_directory: Path, certificate: Certificate) -> None:
    """The command line trusts the authorities in OpenSSL's own variables."""
    members = ids(chaos_env.case.size(11_000, 100_000))
    source = str(chaos_env.write(members))
    with (
        served(quick_sandbox()) as sandbox,
        running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx,
    ):
        output = chaos_env.run(
            nginx.url, "sync", "vip", source, "--create", SSL_CERT_FILE=str(certificate.authority)
        )
        assert output.code == 0
        assert set(sandbox.members("vip")) == set(members)
        chaos_env.case.add_fact(f"{_fact(nginx)}, {len(members):,} IDs, 0 lost")


@pytest.mark.chaos(
    part=PART,
    done="TLS with an untrusted certificate",
    holds="ConnectError names TLS at once. Nothing is sent or retried",
)
async def test_untrusted_certificate_fails_at_once(
    chaos_env: ChaosEnv, nginx_directory: Path, certificate: Certificate
) -> None:
    """Retrying cannot fix a certificate, so even a sync fails at once."""
    async with quick_sandbox() as sandbox:
        with running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx:
            async with chaos_env.client(nginx.url, retry=BULK_RETRY) as client:
                with chaos_env.expect(ConnectError, "certificate"):
                    await client.view("vip")
                chaos_env.case.add_requests(client)
                assert client.stats.requests == 1
                assert sandbox.request_count == 0


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(
            status,
            marks=pytest.mark.chaos(
                part=PART,
                done=f"`limit_req` of 20 requests/s without a burst, with status {status} and HTML",
                holds=EXACT,
            ),
        )
        for status in (429, 503)
    ],
)
async def test_unknown_rate_limit_is_found(status: int, chaos_env: ChaosEnv, nginx_directory: Path) -> None:
    """The client finds an unknown rate limit and keeps to it."""
    location = f"limit_req zone=all; limit_req_status {status};"
    async with quick_sandbox() as sandbox:
        with running_nginx(nginx_directory, sandbox.port, location=location) as nginx:
            await _fill(chaos_env, sandbox, nginx)
            await wait_until(lambda: nginx.statuses()[status] > 0)


@pytest.mark.chaos(part=PART, done="the upstream is down (502) for a while", holds=EXACT)
async def test_upstream_down_is_waited_out(
    chaos_env: ChaosEnv, nginx_directory: Path, silent_port: int
) -> None:
    """Calls wait until the upstream is back."""
    async with quick_sandbox(port=silent_port) as sandbox:

        async def go_down() -> None:
            await wait_until(lambda: sandbox.operation_counts["update"] >= 3)
            await sandbox.aclose()
            await asyncio.sleep(chaos_env.case.size(1, 20))
            await sandbox.start()

        with running_nginx(nginx_directory, sandbox.port) as nginx:
            async with asyncio.TaskGroup() as group:
                group.create_task(go_down())
                patient = attrs.evolve(FAST_POLICIES["retry"], attempts=1000, timeout=120)
                await _fill(chaos_env, sandbox, nginx, retry=patient)
            await wait_until(lambda: nginx.statuses()[502] > 0)


@pytest.mark.chaos(
    part=PART,
    done="the upstream is slower than `proxy_read_timeout`, so some requests are processed but get a 504",
    holds=EXACT,
)
async def test_requests_with_unknown_outcome_are_sent_again(
    chaos_env: ChaosEnv, nginx_directory: Path
) -> None:
    """A request that may have taken effect is sent again."""
    async with quick_sandbox(slow_answer=0.6) as sandbox:
        for operation in ("create", "update", "update", "view"):
            sandbox.fail_next("slow", chaos_env.case.size(1, 5), operation)
        with running_nginx(nginx_directory, sandbox.port, location="proxy_read_timeout 300ms;") as nginx:
            await _fill(chaos_env, sandbox, nginx)
            await wait_until(lambda: nginx.statuses()[504] >= 4)


@pytest.mark.chaos(
    part=PART, done="every connection is closed after 3 requests", holds=f"{EXACT}, without retries"
)
async def test_closed_connections_cost_no_request(chaos_env: ChaosEnv, nginx_directory: Path) -> None:
    """An orderly closed connection loses no request."""
    async with quick_sandbox() as sandbox:
        with running_nginx(nginx_directory, sandbox.port, directives="keepalive_requests 3;") as nginx:
            await _fill(chaos_env, sandbox, nginx)
            assert set(nginx.statuses()) <= {200, 202, 404}


@pytest.mark.chaos(
    part=PART,
    done="`client_max_body_size 10k`",
    holds="upload and sync name the cause and the setting. Nothing is retried or recorded as sent",
)
async def test_too_large_body_is_not_retried(chaos_env: ChaosEnv, nginx_directory: Path) -> None:
    """A body that is too large is not retried."""
    members = ids(2000)
    async with quick_sandbox() as sandbox:
        with running_nginx(nginx_directory, sandbox.port, location="client_max_body_size 10k;") as nginx:
            async with chaos_env.client(nginx.url) as client:
                await client.await_applied(await client.create("vip") or "")
                with chaos_env.expect(UploadError, "nothing") as caught:
                    await client.upload("vip", add=members)
                with chaos_env.expect(ResponseError, "client_max_body_size"):
                    raise caught.value.__cause__ or caught.value
                with chaos_env.expect(AiobatchError, "client_max_body_size"):
                    await chaos_env.sync(client, members, chunk_size=2000)
                assert client.stats.retries == 0
                await wait_until(lambda: nginx.statuses()[413] == 2)
                report = await chaos_env.sync(client, members, chunk_size=200)
                assert report.adds == len(members)
            chaos_env.case.add_fact(f"a sync with chunks of 200 IDs then succeeded, {_fact(nginx)}")
        assert set(sandbox.members("vip")) == set(members)
