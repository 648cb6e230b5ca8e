from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp
import pytest
import trustme

from aiobatch import ConnectError
from aiobatch.sandbox import Sandbox
from aiobatch.sync import BULK_RETRY

from .ground import Ground, ids, quick_sandbox, served
from .nginx import Certificate, Nginx, needs_nginx, running_nginx

PART = "nginx in front"
EXACT = "upload, settle and sync end with exactly the source's members"
pytestmark = needs_nginx


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate of an authority that only this test knows."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    chain, vouching = directory / "chain.pem", directory / "authority.pem"
    authority.issue_cert("127.0.0.1", "::1", "localhost").private_key_and_cert_chain_pem.write_to_path(chain)
    authority.cert_pem.write_to_path(vouching)
    return Certificate(chain=chain, authority=vouching)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where nginx has its files; they are not ours, and are not searched."""
    path = tmp_path / "nginx"
    path.mkdir()
    return path


def _fact(nginx: Nginx) -> str:
    statuses = ", ".join(f"{status} {number:,} times" for status, number in sorted(nginx.statuses().items()))
    return f"nginx answered {statuses}, on {nginx.connections():,} connections"


async def _fill(ground: Ground, sandbox: Sandbox, nginx: Nginx, **client: object) -> None:
    """Upload and sync through nginx, and compare."""
    members = ids(ground.case.size(5_000, 200_000))
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
async def test_tls(ground: Ground, directory: Path, certificate: Certificate) -> None:
    """A session with an SSL context of its own speaks TLS to whom that context trusts."""
    context = ssl.create_default_context(cafile=certificate.authority)
    async with (
        quick_sandbox() as sandbox,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
    ):
        with running_nginx(directory, sandbox.port, certificate=certificate) as nginx:
            await _fill(ground, sandbox, nginx, session=session)


@pytest.mark.fire(
    part=PART,
    done="TLS, with an authority that SSL_CERT_FILE names, for `aiobatch sync`",
    holds="exit code 0, and exactly the source's members",
)
def test_tls_of_a_process(ground: Ground, directory: Path, certificate: Certificate) -> None:
    """The command line trusts whom OpenSSL's own variables name."""
    members = ids(ground.case.size(11_000, 200_000))
    source = str(ground.write(members))
    with (
        served(quick_sandbox()) as sandbox,
        running_nginx(directory, sandbox.port, certificate=certificate) as nginx,
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
    ground: Ground, directory: Path, certificate: Certificate
) -> None:
    """Waiting mends no certificate: even the patience of a sync ends at once."""
    async with quick_sandbox() as sandbox:
        with running_nginx(directory, sandbox.port, certificate=certificate) as nginx:
            async with ground.client(nginx.url, retry=BULK_RETRY) as client:
                with ground.expect(ConnectError, "certificate"):
                    await client.view("vip")
                ground.case.count(client)
                assert client.stats.requests == 1
                assert sandbox.request_count == 0
