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

from .chaos_env import BRISK, Ground, ids, quick_sandbox, served, until
from .servers.nginx import Certificate, Nginx, needs_nginx, running_nginx

PART = "nginx in front"
EXACT = "upload, settle and sync end with exactly the source's members"
pytestmark = needs_nginx


def _fact(nginx: Nginx) -> str:
    statuses = ", ".join(f"{status} ({number:,})" for status, number in sorted(nginx.statuses().items()))
    return f"nginx's answers: {statuses}, on {nginx.connections():,} connections"


async def _fill(ground: Ground, sandbox: Sandbox, nginx: Nginx, **client: Any) -> None:
    """Upload and sync through nginx, and compare."""
    members = ids(ground.case.size(2_500, 100_000))
    async with ground.client(nginx.url, **client) as opened:
        await ground.upload(opened, members, "uploaded")
        report = await ground.sync(opened, members, "synced", chunk_size=ground.case.size(500, 10_000))
        assert report.adds == len(members)
        assert not (await ground.sync(opened, members, "synced")).changes
        ground.case.count(opened)
    for name in ("uploaded", "synced"):
        assert set(sandbox.members(name)) == set(members)
    ground.case.tell(f"{_fact(nginx)}; 0 of {2 * len(members):,} ids lost")


@pytest.mark.fire(part=PART, done="TLS, with an authority that the session's context trusts", holds=EXACT)
async def test_tls(ground: Ground, nginx_directory: Path, certificate: Certificate) -> None:
    """A session with an SSL context of its own speaks TLS to whom that context trusts."""
    context = ssl.create_default_context(cafile=certificate.authority)
    async with (
        quick_sandbox() as sandbox,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
    ):
        with running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx:
            await _fill(ground, sandbox, nginx, session=session)


@pytest.mark.fire(
    part=PART,
    done="TLS, with an authority that SSL_CERT_FILE names, for `aiobatch sync`",
    holds="exit code 0, and exactly the source's members",
    short=False,
)
def test_tls_of_a_process(ground: Ground, nginx_directory: Path, certificate: Certificate) -> None:
    """The command line trusts whom OpenSSL's own variables name."""
    members = ids(ground.case.size(11_000, 100_000))
    source = str(ground.write(members))
    with (
        served(quick_sandbox()) as sandbox,
        running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx,
    ):
        output = ground.run(
            nginx.url, "sync", "vip", source, "--create", SSL_CERT_FILE=str(certificate.authority)
        )
        assert output.code == 0
        assert set(sandbox.members("vip")) == set(members)
        ground.case.tell(f"{_fact(nginx)}; {len(members):,} ids, 0 lost")


@pytest.mark.fire(
    part=PART,
    done="TLS, with a certificate that nobody vouches for",
    holds="ConnectError that names TLS, at once: nothing is sent, and nothing is tried again",
)
async def test_a_certificate_that_nobody_trusts(
    ground: Ground, nginx_directory: Path, certificate: Certificate
) -> None:
    """Waiting mends no certificate: even the patience of a sync ends at once."""
    async with quick_sandbox() as sandbox:
        with running_nginx(nginx_directory, sandbox.port, certificate=certificate) as nginx:
            async with ground.client(nginx.url, retry=BULK_RETRY) as client:
                with ground.expect(ConnectError, "certificate"):
                    await client.view("vip")
                ground.case.count(client)
                assert client.stats.requests == 1
                assert sandbox.request_count == 0


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(
            status,
            marks=pytest.mark.fire(
                part=PART,
                done=f"`limit_req` of 20 requests/s without a burst, answering {status} and a page of HTML",
                holds=EXACT,
            ),
        )
        for status in (429, 503)
    ],
)
async def test_limit_req(status: int, ground: Ground, nginx_directory: Path) -> None:
    """An unknown limit is found out, kept, and costs nothing but time."""
    location = f"limit_req zone=all; limit_req_status {status};"
    async with quick_sandbox() as sandbox:
        with running_nginx(nginx_directory, sandbox.port, location=location) as nginx:
            await _fill(ground, sandbox, nginx)
            await until(lambda: nginx.statuses()[status] > 0)


@pytest.mark.fire(part=PART, done="the upstream goes down (502) in the middle, and comes back", holds=EXACT)
async def test_upstream_down(ground: Ground, nginx_directory: Path, silent_port: int) -> None:
    """Whoever waits, waits until it is back."""
    async with quick_sandbox(port=silent_port) as sandbox:

        async def go_down() -> None:
            await until(lambda: sandbox.operation_counts["update"] >= 3)
            await sandbox.aclose()
            await asyncio.sleep(ground.case.size(1, 20))
            await sandbox.start()

        with running_nginx(nginx_directory, sandbox.port) as nginx:
            async with asyncio.TaskGroup() as group:
                group.create_task(go_down())
                patient = attrs.evolve(BRISK["retry"], attempts=1000, timeout=120)
                await _fill(ground, sandbox, nginx, retry=patient)
            await until(lambda: nginx.statuses()[502] > 0)


@pytest.mark.fire(
    part=PART,
    done="the upstream is slower than `proxy_read_timeout`: some requests are carried out and answered 504",
    holds=EXACT,
)
async def test_slow_upstream(ground: Ground, nginx_directory: Path) -> None:
    """What may have taken effect is sent again."""
    async with quick_sandbox(slow_answer=0.6) as sandbox:
        for operation in ("create", "update", "update", "view"):
            sandbox.fail_next("slow", ground.case.size(1, 5), operation)
        with running_nginx(nginx_directory, sandbox.port, location="proxy_read_timeout 300ms;") as nginx:
            await _fill(ground, sandbox, nginx)
            await until(lambda: nginx.statuses()[504] >= 4)


@pytest.mark.fire(part=PART, done="every connection is closed after 3 requests", holds=f"{EXACT}; no retries")
async def test_connections_are_closed_after_few_requests(ground: Ground, nginx_directory: Path) -> None:
    """A connection that ends in good order costs no request."""
    async with quick_sandbox() as sandbox:
        with running_nginx(nginx_directory, sandbox.port, directives="keepalive_requests 3;") as nginx:
            await _fill(ground, sandbox, nginx)
            assert set(nginx.statuses()) <= {200, 202, 404}


@pytest.mark.fire(
    part=PART,
    done="`client_max_body_size 10k`",
    holds="upload and sync say what is too large and what to set; nothing is tried again or recorded as sent",
)
async def test_bodies_that_are_too_large(ground: Ground, nginx_directory: Path) -> None:
    """A body that does not fit now will not fit later."""
    members = ids(2000)
    async with quick_sandbox() as sandbox:
        with running_nginx(nginx_directory, sandbox.port, location="client_max_body_size 10k;") as nginx:
            async with ground.client(nginx.url) as client:
                await client.await_applied(await client.create("vip") or "")
                with ground.expect(UploadError, "nothing") as caught:
                    await client.upload("vip", add=members)
                with ground.expect(ResponseError, "client_max_body_size"):
                    raise caught.value.__cause__ or caught.value
                with ground.expect(AiobatchError, "client_max_body_size"):
                    await ground.sync(client, members, chunk_size=2000)
                assert client.stats.retries == 0
                await until(lambda: nginx.statuses()[413] == 2)
                report = await ground.sync(client, members, chunk_size=200)
                assert report.adds == len(members)
            ground.case.tell(f"a sync with chunks of 200 ids then went through; {_fact(nginx)}")
        assert set(sandbox.members("vip")) == set(members)
